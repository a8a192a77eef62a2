"""`virtbackupd tree` against a server: what it prints, as JSON too, and what it refuses."""

import json
import os

import libvirt
import pytest
from binding import guest
from daemon_process import Daemon
from watching import refused_tool, tool

CHECKPOINT = "<domaincheckpoint><name>{}</name></domaincheckpoint>"


@pytest.fixture
def chain(domain: libvirt.virDomain) -> libvirt.virDomain:
    """Three checkpoints with a megabyte written after each, on different places."""
    for number, name in enumerate(("c1", "c2", "c3")):
        domain.checkpointCreateXML(CHECKPOINT.format(name))
        guest(domain, "vda", f"write {number}M 1M")
    return domain


def test_lines_tell_sizes_states_and_the_current_one(
    daemon: Daemon, chain: libvirt.virDomain
) -> None:
    title, *lines = tool("tree", "test", "-c", daemon.uri).splitlines()
    assert title == "test (running)"
    assert [line.split()[0] for line in lines] == ["c1", "c2", "c3"]
    for line, size in zip(lines, (3, 2, 1), strict=True):
        assert f"vda {size}.0 MiB valid" in line
    assert [line.endswith("  current") for line in lines] == [False, False, True]


def test_json_tells_the_same(daemon: Daemon, chain: libvirt.virDomain) -> None:
    (told,) = json.loads(tool("tree", "--json", "-c", daemon.uri))
    assert (told["domain"], told["state"]) == ("test", "running")
    points = told["checkpoints"]
    assert [point["parent"] for point in points] == [None, "c1", "c2"]
    assert [point["current"] for point in points] == [False, False, True]
    assert points[0]["disks"][0] == {
        "target": "vda", "bitmap": "c1", "size": 3 << 20, "state": "valid"
    }  # fmt: skip
    assert points[0]["age"] >= 0


def test_a_domain_that_does_not_run_tells_no_states(
    daemon: Daemon, chain: libvirt.virDomain
) -> None:
    chain.destroy()
    assert "vda unknown" in tool("tree", "test", "-c", daemon.uri)


def test_domains_without_checkpoints_are_left_out(daemon: Daemon) -> None:
    assert tool("tree", "-c", daemon.uri) == "no domain has checkpoints\n"
    assert "no checkpoints" in tool("tree", "test", "-c", daemon.uri)


def test_a_read_only_client_sees_the_tree(daemon: Daemon, chain: libvirt.virDomain) -> None:
    assert "c3" in tool("tree", "-r", "test", "-c", daemon.test_uri + "-ro")
    assert "c3" in tool("tree", "-r", "test", "--monitor", "-c", daemon.test_uri + "-ro")


def test_the_uri_of_stock_clients_is_the_default(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", daemon.uri)
    assert tool("tree", "test").startswith("test (running)")


def test_a_domain_that_is_not_there_is_named(daemon: Daemon) -> None:
    assert "'nobody'" in refused_tool("tree", "nobody", "-c", daemon.uri)


@pytest.mark.parametrize("command", ["tree", "top"])
def test_a_server_that_is_not_there_is_named(daemon: Daemon, command: str) -> None:
    told = refused_tool(command, "-c", f"test+unix:///default?socket={daemon.root}/none")
    assert told.startswith(f"virtbackupd: no socket at {daemon.root}/none: ")


def test_a_server_that_hangs_up_is_told(daemon: Daemon) -> None:
    os.kill(daemon.process.pid, 9)
    daemon.process.wait()
    assert "cannot connect to" in refused_tool("tree", "-c", daemon.uri)
