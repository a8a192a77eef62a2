"""Order, wholeness and bounds of what leaves over a real socket pair."""

import socket
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from virtbackupd.server import outbox
from virtbackupd.server.limits import Limits
from virtbackupd.server.outbox import Outbox, OutboxFullError

BIG = bytes(range(256)) * 8192


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture
def pair(limits: Limits) -> Iterator[tuple[Outbox, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(0)
    with theirs, Outbox(ours).closing():
        yield Outbox(ours, limits=limits), theirs


async def read(sock: socket.socket, size: int) -> bytes:
    def receive() -> bytes:
        return sock.recv(size, socket.MSG_WAITALL)

    return await trio.to_thread.run_sync(receive)


def test_what_the_kernel_takes_needs_no_writer(pair: tuple[Outbox, socket.socket]) -> None:
    box, peer = pair
    assert not box.put(b"frame")
    assert (peer.recv(9), box.empty) == (b"frame", True)


def test_rest_needs_a_writer_once(pair: tuple[Outbox, socket.socket]) -> None:
    box, _ = pair
    assert box.put(BIG)
    assert not box.put(b"more")
    assert not box.empty


async def test_writer_sends_the_rest_in_order(pair: tuple[Outbox, socket.socket]) -> None:
    box, peer = pair
    box.put(BIG)
    box.put(b"end")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.flush)
        assert await read(peer, len(BIG) + 3) == BIG + b"end"


async def test_drained_waits_for_the_writer(pair: tuple[Outbox, socket.socket]) -> None:
    box, peer = pair
    box.put(BIG)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.drained)
        nursery.start_soon(box.flush)
        await read(peer, len(BIG))
    assert box.empty


async def test_drained_does_not_wait_for_nothing(pair: tuple[Outbox, socket.socket]) -> None:
    await pair[0].drained()


async def test_peer_that_does_not_read_is_too_slow(
    pair: tuple[Outbox, socket.socket], limits: Limits
) -> None:
    limits.client_stall_timeout = 0.01
    pair[0].put(BIG)
    with pytest.raises(trio.TooSlowError):
        await pair[0].flush()


def test_size_is_bounded(pair: tuple[Outbox, socket.socket], limits: Limits) -> None:
    limits.max_client_unread = len(BIG)
    pair[0].put(BIG)
    with pytest.raises(OutboxFullError, match="does not read"):
        pair[0].put(BIG)


def test_number_of_frames_is_bounded(
    pair: tuple[Outbox, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "FRAME_LIMIT", 2)
    pair[0].put(BIG)
    pair[0].put(b"x")
    with pytest.raises(OutboxFullError):
        pair[0].put(b"x")


def test_peer_that_has_gone_is_an_os_error(pair: tuple[Outbox, socket.socket]) -> None:
    box, peer = pair
    peer.close()
    with pytest.raises(OSError, match="Broken pipe"):
        box.put(b"frame")


async def test_several_may_wait_until_all_has_left(pair: tuple[Outbox, socket.socket]) -> None:
    box, peer = pair
    box.put(BIG)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(box.drained)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(box.flush)
        assert await read(peer, len(BIG)) == BIG
    assert box.empty
