"""What a socket tells of the process or the host at its other end."""

import grp
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtbackupd.server.identity import (
    Identity,
    Transport,
    forget_names,
    group_name,
    of_network,
    of_unix,
)


@pytest.fixture
def ours() -> Iterator[socket.socket]:
    """One end of a pair whose other end is held by this process too."""
    one, other = socket.socketpair()
    with one, other:
        yield one


def test_process_and_user_are_known(ours: socket.socket) -> None:
    found = of_unix(ours)
    assert (found.pid, found.uid, found.gid) == (os.getpid(), os.getuid(), os.getgid())


def test_all_groups_are_known(ours: socket.socket) -> None:
    assert of_unix(ours).gids == {os.getgid(), *os.getgroups()}


def test_start_of_the_process_is_known(ours: socket.socket) -> None:
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    assert of_unix(ours).start_time == int(fields[19])


def test_names_are_looked_up() -> None:
    assert Identity(uid=0, gids=frozenset([0])).user == "root"
    assert Identity(gids=frozenset([0])).groups == ("root",)


def test_who_has_no_name_has_none() -> None:
    assert Identity(uid=4_000_000_000).user is None
    assert group_name(4_000_000_000) is None


async def test_names_are_asked_again_after_a_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    assert group_name(4_000_000_001) is None
    monkeypatch.setattr(grp, "getgrgid", lambda _gid: ("backup",))
    assert group_name(4_000_000_001) is None
    await forget_names(None)
    assert group_name(4_000_000_001) == "backup"
    monkeypatch.undo()
    await forget_names(None)


def test_network_client_has_an_address() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as peer,
        listening.accept()[0] as accepted,
    ):
        found = of_network(accepted)
        assert found.address == f"127.0.0.1:{peer.getsockname()[1]}"
    assert (found.transport, found.uid) == (Transport.TCP, None)
