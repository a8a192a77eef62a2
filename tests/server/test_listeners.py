"""Sockets: their files, their rights, leftovers, addresses, and accepting within the limit."""

import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from waiting import until

from virtbackupd.server.listeners import (
    Listener,
    ListenError,
    accept_forever,
    close_all,
    listen_tcp,
    listen_unix,
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for a socket's path."""
    with tempfile.TemporaryDirectory(prefix="vb-") as name:
        yield Path(name) / "sockets"


@pytest.fixture
def unix(folder: Path) -> Iterator[list[Listener]]:
    listeners = listen_unix(folder)
    yield listeners
    close_all(listeners)


def test_two_sockets_of_which_one_is_read_only(folder: Path, unix: list[Listener]) -> None:
    assert [listener.read_only for listener in unix] == [False, True]
    assert {path.name for path in folder.iterdir()} == {"libvirt-sock", "libvirt-sock-ro"}


def test_sockets_are_private(folder: Path, unix: list[Listener]) -> None:
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())]
    assert modes == [0o700, 0o600, 0o600]


def test_closing_removes_the_files(folder: Path) -> None:
    close_all(listen_unix(folder))
    assert list(folder.iterdir()) == []


def test_leftovers_are_replaced(folder: Path) -> None:
    for listener in listen_unix(folder):
        listener.socket.close()
    close_all(listen_unix(folder))


def test_socket_in_use_is_refused_and_kept(folder: Path, unix: list[Listener]) -> None:
    with pytest.raises(ListenError, match="another daemon answers"):
        listen_unix(folder)
    assert len(list(folder.iterdir())) == 2


def test_file_in_the_way_is_kept(folder: Path) -> None:
    folder.mkdir()
    (folder / "libvirt-sock").write_text("precious")
    with pytest.raises(ListenError, match="remove it"):
        listen_unix(folder)
    assert (folder / "libvirt-sock").read_text() == "precious"


def test_second_socket_failing_takes_the_first_along(folder: Path) -> None:
    folder.mkdir()
    (folder / "libvirt-sock-ro").write_text("precious")
    with pytest.raises(ListenError):
        listen_unix(folder)
    assert not (folder / "libvirt-sock").exists()


def test_path_too_long_for_a_socket(folder: Path) -> None:
    with pytest.raises(ListenError, match="too long"):
        listen_unix(folder / ("x" * 120))


def test_folder_that_cannot_be_made(folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(ListenError, match="cannot make"):
        listen_unix(folder / "below")


def test_port_zero_picks_one() -> None:
    (listener,) = listen_tcp("127.0.0.1", 0)
    assert listener.port > 0
    listener.close()


def test_ipv6_stands_in_brackets() -> None:
    (listener,) = listen_tcp("::1", 0)
    assert listener.host == "[::1]"
    listener.close()


def test_port_in_use_is_refused() -> None:
    (listener,) = listen_tcp("127.0.0.1", 0)
    with pytest.raises(ListenError, match="in use"):
        listen_tcp("127.0.0.1", listener.port)
    listener.close()


def test_addresses_that_the_machine_does_not_have_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    addresses = [(socket.AF_INET, 0, 0, "", (host, 0)) for host in ("192.0.2.1", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
    (listener,) = listen_tcp("both", 0)
    assert listener.host == "127.0.0.1"
    listener.close()


@pytest.mark.parametrize("host", ["192.0.2.1", "a..b", "x" * 64])
def test_what_is_no_address_of_this_machine_is_refused(host: str) -> None:
    with pytest.raises(ListenError, match="cannot listen on"):
        listen_tcp(host, 0)


async def test_tcp_clients_are_not_delayed() -> None:
    (listener,) = listen_tcp("127.0.0.1", 0)
    accepted: list[socket.socket] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            accept_forever, listener, trio.Semaphore(9), lambda s, _: accepted.append(s)
        )
        with socket.create_connection(("127.0.0.1", listener.port)):
            await until(lambda: accepted)
        nursery.cancel_scope.cancel()
    with accepted[0] as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    listener.close()


async def test_at_the_limit_nobody_is_accepted_and_nobody_refused(
    folder: Path, unix: list[Listener]
) -> None:
    accepted: list[socket.socket] = []
    limit = trio.Semaphore(1)
    peers = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_forever, unix[0], limit, lambda s, _: accepted.append(s))
        for peer in peers:
            peer.connect(str(folder / "libvirt-sock"))
        await wait_all_tasks_blocked()
        assert len(accepted) == 1
        limit.release()
        await wait_all_tasks_blocked()
        assert len(accepted) == 2
        nursery.cancel_scope.cancel()
    for sock in (*peers, *accepted):
        sock.close()
