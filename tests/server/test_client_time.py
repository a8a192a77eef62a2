"""Clients on a clock that stands: what is over is over, and who lives is let live."""

import socket
from collections.abc import Iterator

import pytest
import trio

from virtbackupd.drivers.clock import Clock, settled
from virtbackupd.server import keepalive
from virtbackupd.server.keepalive import KeepalivePolicy, KeepaliveTicker, KeepaliveTimer
from virtbackupd.server.limits import Limits
from virtbackupd.server.outbox import Outbox


class Peer:
    """A target that answers each ping a little later, as one behind a socket does, or never."""

    def __init__(self, clock: Clock, nursery: trio.Nursery, *, answers: bool) -> None:
        self.keepalive: KeepaliveTimer | None = KeepaliveTimer(clock.monotonic())
        self.asked: list[float] = []
        self.given_up: list[float] = []
        self._clock = clock
        self._nursery = nursery
        self._answers = answers

    def ask_alive(self) -> None:
        self.asked.append(self._clock.time())
        if self._answers:
            self._nursery.start_soon(self._answer)

    async def _answer(self) -> None:
        await trio.sleep(0.002)
        if self.keepalive is not None:
            self.keepalive.heard(self._clock.monotonic())

    def give_up(self, reason: str) -> None:  # noqa: ARG002 - as the ticker calls it
        self.given_up.append(self._clock.time())
        self.keepalive = None


@pytest.fixture
def clock() -> Clock:
    return Clock(0)


async def start(nursery: trio.Nursery, clock: Clock, peer: Peer) -> None:
    ticker = KeepaliveTicker(KeepalivePolicy(10, 2), clock)
    ticker.add(peer)
    nursery.start_soon(ticker.run)
    await settled(clock)


async def test_a_client_that_is_silent_is_given_up(
    clock: Clock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keepalive, "ANSWER_GRACE", 0.01)
    peer = Peer(clock, nursery, answers=False)
    await start(nursery, clock, peer)
    await clock.step(29.5)
    assert (peer.asked, peer.given_up) == ([10, 20], [])
    await clock.step(0.5)
    assert peer.given_up == [30]


async def test_a_client_that_answers_outlives_a_long_step(
    clock: Clock, nursery: trio.Nursery
) -> None:
    peer = Peer(clock, nursery, answers=True)
    await start(nursery, clock, peer)
    await clock.step(600)
    assert (len(peer.asked), peer.given_up) == (60, [])


async def test_nobody_is_asked_while_the_clock_stands(clock: Clock, nursery: trio.Nursery) -> None:
    peer = Peer(clock, nursery, answers=False)
    await start(nursery, clock, peer)
    await trio.sleep(0.02)
    assert peer.asked == []


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(0)
    with ours, theirs:
        yield ours, theirs


async def test_a_client_that_does_not_read_is_too_slow_by_that_clock(
    clock: Clock, nursery: trio.Nursery, sockets: tuple[socket.socket, socket.socket]
) -> None:
    outbox, ended = Outbox(sockets[0], clock), trio.Event()
    outbox.put(bytes(8 << 20))

    async def flush() -> None:
        with pytest.raises(trio.TooSlowError):
            await outbox.flush()
        ended.set()

    nursery.start_soon(flush)
    await clock.step(Limits().client_stall_timeout - 1)
    assert not ended.is_set()
    await clock.step(1)
    assert ended.is_set()
