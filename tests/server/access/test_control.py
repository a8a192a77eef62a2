"""Asking access drivers that answer at once, later, or not alike; and letting events through."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import trio
import trio.lowlevel

from virtbackupd.drivers.events import DomainRef
from virtbackupd.server.access.control import (
    CONNECTION,
    AccessControl,
    Steps,
    Subject,
    Verdict,
    run,
)
from virtbackupd.server.access.gate import WAITING_LIMIT, EventGate
from virtbackupd.server.access.permissions import Permission, permission
from virtbackupd.server.identity import Identity

READ = permission("domain:read")


@dataclass
class Fixed:
    """Always of the same opinion, and counts how often it is asked."""

    verdict: bool
    later: bool = False
    asked: int = 0

    def allows(self, identity: Identity, permission: Permission, subject: Subject) -> Verdict:
        del identity, permission, subject
        self.asked += 1
        return self._wait() if self.later else self.verdict

    def close(self) -> None:
        """Nothing is held."""

    async def _wait(self) -> bool:
        await trio.lowlevel.checkpoint()
        return self.verdict


async def verdict(*drivers: Fixed) -> bool:
    found = AccessControl(drivers).allows(Identity(), READ, CONNECTION)
    return await found if isinstance(found, Awaitable) else found


@pytest.mark.parametrize("later", [(False, False), (True, True), (False, True), (True, False)])
@pytest.mark.parametrize("said", [(True, True), (True, False), (False, True), (False, False)])
async def test_all_have_to_agree(said: tuple[bool, bool], later: tuple[bool, bool]) -> None:
    drivers = [Fixed(*both) for both in zip(said, later, strict=True)]
    assert await verdict(*drivers) is all(said)


async def test_nobody_is_asked_after_a_refusal() -> None:
    first, second = Fixed(verdict=False), Fixed(verdict=True)
    await verdict(first, second)
    assert (first.asked, second.asked) == (1, 0)


def test_answers_at_once_need_no_waiting() -> None:
    assert AccessControl([Fixed(verdict=True)]).allows(Identity(), READ, CONNECTION) is True


def failing(*, later: bool) -> Callable[[], object]:
    async def wait() -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError

    def now() -> None:
        raise ValueError

    return wait if later else now


@pytest.mark.parametrize("later", [True, False])
async def test_a_failure_comes_out_where_it_happened(*, later: bool) -> None:
    def steps() -> Steps[str]:
        yield trio.lowlevel.checkpoint()  # noqa: ASYNC105 - `run` waits for it
        try:
            yield failing(later=later)()
        except ValueError:
            return "caught"
        return "nothing"

    assert await run(steps()) == "caught"


@dataclass
class Peer:
    """A link that keeps what it is given and runs what it is asked to."""

    nursery: trio.Nursery
    got: list[bytes] = field(default_factory=list)
    number = 1

    def deliver(self, frame: bytes) -> None:
        self.got.append(frame)

    def start(self, task: Callable[[], Awaitable[None]]) -> None:
        self.nursery.start_soon(task)


ONE, TWO = DomainRef("one", b"1" * 16, 1), DomainRef("two", b"2" * 16, 2)


async def test_events_keep_their_order_while_one_waits() -> None:
    release = trio.Event()

    async def later() -> bool:
        await release.wait()
        return True

    async with trio.open_nursery() as nursery:
        peer = Peer(nursery)
        gate = EventGate(peer, lambda ref: later() if ref == ONE else True)  # type: ignore[arg-type]
        gate.deliver(b"first", ONE)
        gate.deliver(b"second", TWO)
        assert peer.got == []
        release.set()
    assert peer.got == [b"first", b"second"]


async def test_what_may_not_be_seen_is_dropped_also_later() -> None:
    async def no() -> bool:
        await trio.lowlevel.checkpoint()
        return False

    async with trio.open_nursery() as nursery:
        peer = Peer(nursery)
        gate = EventGate(peer, lambda ref: no() if ref == ONE else False)  # type: ignore[arg-type]
        gate.deliver(b"first", ONE)
        gate.deliver(b"second", TWO)
    assert peer.got == []


async def test_events_that_wait_are_bounded() -> None:
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery)
        release = trio.Event()

        async def later() -> bool:
            await release.wait()
            return True

        gate = EventGate(peer, lambda _ref: later())  # type: ignore[arg-type]
        for _ in range(WAITING_LIMIT + 1):
            gate.deliver(b"x", ONE)
        release.set()
    assert len(peer.got) == WAITING_LIMIT
