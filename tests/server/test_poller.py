"""Who is told that there is something to read, and until when."""

import socket
from collections.abc import AsyncIterator, Iterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from virtbackupd.server.poller import Poller


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0)
        yield ours, theirs


@pytest.fixture
async def poller() -> AsyncIterator[Poller]:
    running = Poller()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(running.run)
        yield running
        nursery.cancel_scope.cancel()


async def test_reader_is_told(poller: Poller, pair: tuple[socket.socket, socket.socket]) -> None:
    told: list[bytes] = []
    poller.add(pair[0].fileno(), lambda: told.append(pair[0].recv(9)))
    pair[1].send(b"hello")
    await wait_all_tasks_blocked()
    assert told == [b"hello"]


async def test_reader_is_told_until_it_has_read(
    poller: Poller, pair: tuple[socket.socket, socket.socket]
) -> None:
    told: list[bytes] = []
    poller.add(pair[0].fileno(), lambda: told.append(pair[0].recv(1)))
    pair[1].send(b"hello world")
    await wait_all_tasks_blocked()
    assert b"".join(told) == b"hello world"


async def test_removed_reader_is_not_told(
    poller: Poller, pair: tuple[socket.socket, socket.socket]
) -> None:
    told: list[bytes] = []
    poller.add(pair[0].fileno(), lambda: told.append(b""))
    poller.remove(pair[0].fileno())
    pair[1].send(b"hello")
    await wait_all_tasks_blocked()
    assert told == []


async def test_removing_is_safe_to_repeat(
    poller: Poller, pair: tuple[socket.socket, socket.socket]
) -> None:
    poller.add(pair[0].fileno(), lambda: None)
    poller.remove(pair[0].fileno())
    poller.remove(pair[0].fileno())


async def test_others_run_while_one_floods(
    poller: Poller, pair: tuple[socket.socket, socket.socket]
) -> None:
    poller.add(pair[0].fileno(), lambda: None)
    pair[1].send(b"never read")
    for _ in range(20):
        await trio.lowlevel.checkpoint()
    poller.remove(pair[0].fileno())
