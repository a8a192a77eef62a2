"""Sockets of a process are shut down by the address they have; here the process is our own."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from virtbackupd.drivers.definitions.backup import BackupServer
from virtbackupd.drivers.qemu.strays import _shut_down


@pytest.fixture
def address(state_dir: Path) -> str:
    return str(state_dir / "nbd")


@pytest.fixture
def listener(address: str) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_UNIX)) as found:
        found.bind(address)
        found.listen()
        yield found


def shut_down(address: str, listening: set[int] | None = None) -> bool:
    server = BackupServer(transport="unix", socket=address)
    return _shut_down(os.getpid(), server, set() if listening is None else listening)


def connected(address: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(address)
    return client


def test_accepted_connection_ends(listener: socket.socket, address: str) -> None:
    with closing(connected(address)) as client, closing(listener.accept()[0]):
        assert shut_down(address)
        assert client.recv(1) == b""


def test_nobody_connects_any_more(listener: socket.socket, address: str) -> None:
    assert not shut_down(address)
    with closing(socket.socket(socket.AF_UNIX)) as client, pytest.raises(ConnectionRefusedError):
        client.connect(address)


def test_listener_is_no_connection_afterwards(listener: socket.socket, address: str) -> None:
    listening: set[int] = set()
    shut_down(address, listening)
    assert not shut_down(address, listening)


def test_others_are_left_alone(listener: socket.socket, address: str) -> None:
    with closing(connected(address)) as client, closing(listener.accept()[0]) as server:
        assert not shut_down(f"{address}-other")
        server.sendall(b"x")
        assert client.recv(1) == b"x"


def test_tcp_connection_ends() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port), 60)
        with closing(client), closing(listener.accept()[0]):
            assert _shut_down(os.getpid(), BackupServer(port=port), set())
            assert client.recv(1) == b""


def test_process_that_is_gone() -> None:
    assert not _shut_down(2**22, BackupServer(port=1), set())
