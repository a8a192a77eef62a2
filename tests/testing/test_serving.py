"""Servers for tests: they start, are reached, and leave nothing behind."""

import gc
import json
import socket
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import libvirt
import pytest
import trio
from binding import connected

from virtbackupd.server.events import EventRouter
from virtbackupd.testing import Server, ServerGone, StartError, open_server, serve

WORLD = """\
[[domains]]
name = "web"
[[domains.disks]]
target = "vda"
size = "1 MiB"
"""


def names(uri: str) -> list[str]:
    with connected(uri) as connection:
        return [domain.name() for domain in connection.listAllDomains()]


def address_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return str(parts.hostname), int(parts.port or 0)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def fail_within_a_server(reason: type[BaseException]) -> None:
    with serve():
        assert "virtbackupd" in threads()
        raise reason


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(tcp=True) as found:
        yield found


@pytest.mark.parametrize("name", ["uri", "qemu_uri", "read_only_uri", "tcp_uri"])
def test_every_uri_reaches_the_server(server: Server, name: str) -> None:
    assert names(getattr(server, name)) == ["test"]


def test_the_control_endpoint_answers_where_asked_for() -> None:
    with serve(control=True) as server:
        with urllib.request.urlopen(f"{server.control_url}/domains", timeout=60) as answer:
            found = json.load(answer)
        assert [domain["name"] for domain in found["domains"]] == ["test"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address_of(server.control_url))


def test_a_server_has_no_control_endpoint_unless_asked_for(server: Server) -> None:
    with pytest.raises(LookupError, match="control=True"):
        _ = server.control_url


def test_qemu_uri_is_the_system_hypervisor(server: Server) -> None:
    assert server.qemu_uri.startswith("qemu+unix:///system?")


def test_read_only_uri_gives_no_rights(server: Server) -> None:
    with connected(server.read_only_uri) as connection:
        domain = connection.lookupByName("test")
        with pytest.raises(libvirt.libvirtError, match="read only access"):
            domain.suspend()


def test_tcp_has_to_be_asked_for() -> None:
    with serve() as server, pytest.raises(LookupError, match="start it with tcp=True"):
        assert server.tcp_uri


def test_scheme_that_is_not_served_has_no_uri() -> None:
    with serve(drivers={"test": "memory"}) as server, pytest.raises(LookupError, match="no qemu:"):
        assert server.qemu_uri


@pytest.mark.parametrize(
    "world", [WORLD, {"domains": [{"name": "web", "disks": [{"target": "vda", "size": "1M"}]}]}]
)
def test_world_may_be_text_or_a_dictionary(world: str | dict[str, object]) -> None:
    with serve(world=world) as server:
        assert names(server.uri) == ["web"]


@pytest.mark.parametrize("form", [str, Path])
def test_world_may_be_a_file(tmp_path: Path, form: type[str | Path]) -> None:
    (tmp_path / "w.toml").write_text(WORLD)
    with serve(world=form(tmp_path / "w.toml")) as server:
        assert names(server.uri) == ["web"]


def test_wrong_world_says_where() -> None:
    with (
        pytest.raises(StartError, match=r"world\.toml:1: .*colour"),
        serve(world={"domains": [{"name": "web", "colour": "red"}]}),
    ):
        pytest.fail("it started")


async def test_wrong_world_says_where_in_a_loop() -> None:
    with pytest.raises(StartError, match=r"world\.toml:2: .*colour") as caught:
        async with open_server(world='[[domains]]\ncolour = "red"\n'):
            pytest.fail("it started")
    assert caught.value.__suppress_context__, "the way through the daemon hides the reason"


def test_profile_is_pretended() -> None:
    with serve(profile="9.0") as server, connected(server.uri) as connection:
        assert connection.getLibVersion() == 9_000_000


def test_unknown_profile_is_refused() -> None:
    with pytest.raises(StartError, match=r"no profile '1\.0'"), serve(profile="1.0"):
        pytest.fail("it started")


def test_two_servers_do_not_share_anything() -> None:
    with serve() as first, serve() as second:
        with connected(first.uri) as connection:
            connection.lookupByName("test").destroy()
        with connected(second.uri) as connection:
            assert connection.lookupByName("test").isActive()


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with serve() as server:
        assert server.socket_dir.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("reason", [KeyError, KeyboardInterrupt])
def test_nothing_is_left_behind_by_a_block_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: type[BaseException]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(reason):
        fail_within_a_server(reason)
    assert list(tmp_path.iterdir()) == []
    assert "virtbackupd" not in threads()


def test_long_temporary_folder_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with serve() as server:
        assert names(server.uri) == ["test"]


def test_collector_of_the_process_is_left_alone() -> None:
    thresholds, frozen = gc.get_threshold(), gc.get_freeze_count()
    with serve():
        assert (gc.get_threshold(), gc.get_freeze_count()) == (thresholds, frozen)


async def test_server_lives_in_the_loop_of_a_test() -> None:
    async with open_server() as server:
        assert "virtbackupd" not in threads()
        assert await trio.to_thread.run_sync(names, server.uri) == ["test"]


async def test_failure_within_a_loop_is_not_wrapped() -> None:
    with pytest.raises(KeyError):
        async with open_server():
            raise KeyError


async def test_server_of_a_thread_serves_a_trio_test() -> None:
    with serve() as server:
        assert await trio.to_thread.run_sync(names, server.uri) == ["test"]


def test_client_that_stays_does_not_keep_the_server() -> None:
    with serve() as server:
        left = libvirt.open(server.uri)
    with pytest.raises(libvirt.libvirtError):
        left.listAllDomains()
    left.close()


def test_bug_that_ends_the_server_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    async def break_soon(_router: EventRouter) -> None:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    monkeypatch.setattr(EventRouter, "run", break_soon)
    with pytest.raises(ZeroDivisionError), serve():
        pass


def test_server_that_has_ended_says_so() -> None:
    with serve() as server:
        pass
    with pytest.raises(ServerGone, match="ask within its block"):
        server.control("clock")


def test_transcript_outlives_the_server() -> None:
    with serve() as server:
        names(server.uri)
    assert "virConnectListAllDomains" in server.transcript.text()
