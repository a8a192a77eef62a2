"""When a silent client is asked whether it lives, and when it is given up.

A timer is arithmetic over the times it is told; one ticker serves all clients, so an idle
client costs no task. This module knows no socket: a client is whatever answers `KeepaliveTarget`.
"""

from typing import Protocol

import msgspec
import trio

from virtbackupd.drivers.clock import Clock

TICKS_PER_INTERVAL = 20
"""Bounds how often the ticker looks at all clients when their deadlines are spread."""
ANSWER_GRACE = 0.25
"""Real seconds to answer a ping while the clock stands: a step over hours leaves no others."""


class KeepalivePolicy(msgspec.Struct, frozen=True):
    """`keepalive_interval` in seconds (0 or less: never ask) and `keepalive_count`."""

    interval: float = 5
    count: int = 5


class KeepaliveTimer:
    """Counts the silent intervals of one client; whatever it sends starts the count again."""

    __slots__ = ("_asked", "_since", "_word")

    def __init__(self, now: float) -> None:
        self._asked = 0
        self._since = now
        self._word: trio.Event | None = None

    def heard(self, now: float) -> None:
        self._since = now
        if self._asked:
            self._asked = 0
            if self._word is not None:
                self._word.set()
                self._word = None

    def due(self, policy: KeepalivePolicy) -> float:
        """When the next silent interval is over."""
        return self._since + policy.interval * (self._asked + 1)

    def dead(self, policy: KeepalivePolicy) -> bool:
        """Whether the interval now over was one too many."""
        return self._asked >= policy.count

    def asked(self) -> None:
        self._asked += 1

    async def answered(self) -> None:
        """Wait for a word from the client, if it was asked for one."""
        while self._asked:
            if self._word is None:
                self._word = trio.Event()
            await self._word.wait()


class KeepaliveTarget(Protocol):
    """The part of a client that the ticker sees; `keepalive` is None when it must not be asked."""

    keepalive: KeepaliveTimer | None

    def ask_alive(self) -> None:
        """Send a ping."""

    def give_up(self, reason: str) -> None:
        """Close, because the peer is gone."""


class KeepaliveTicker:
    """Walks all clients that speak keepalive, as seldom as their deadlines allow."""

    def __init__(self, policy: KeepalivePolicy, clock: Clock | None = None) -> None:
        self._policy = policy
        self._clock = clock or Clock()
        self._targets: dict[KeepaliveTarget, None] = {}
        self._changed = trio.Event()

    def add(self, target: KeepaliveTarget) -> None:
        self._targets[target] = None

    def discard(self, target: KeepaliveTarget) -> None:
        self._targets.pop(target, None)

    def take(self, policy: KeepalivePolicy) -> None:
        """Let this hold from now on, and the silence of every client begin now."""
        if policy == self._policy:
            return
        self._policy = policy
        now = self._clock.monotonic()
        for target in self._targets:
            if target.keepalive is not None:
                target.keepalive.heard(now)
        self._changed.set()
        self._changed = trio.Event()

    async def run(self) -> None:
        """Never returns."""
        while True:
            changed = self._changed
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._walk)
                await changed.wait()
                nursery.cancel_scope.cancel()

    async def _walk(self) -> None:
        """A client added later is due no earlier than this sleep ends."""
        if self._policy.interval <= 0:
            return
        clock = self._clock
        due = clock.monotonic()
        while True:
            await clock.sleep_until(due, "keepalive")
            due = self._tick(clock.monotonic())
            if clock.stopped:
                with clock.working():
                    await self._answers()

    async def _answers(self) -> None:
        """A step goes on at once, so let those who live say so before their time is over."""
        with trio.move_on_after(ANSWER_GRACE):
            for target in tuple(self._targets):
                if target.keepalive is not None:
                    await target.keepalive.answered()

    def _tick(self, now: float) -> float:
        earliest = now + self._policy.interval
        for target in tuple(self._targets):
            if target.keepalive is not None:
                earliest = min(earliest, self._visit(target, target.keepalive, now))
        return max(earliest, now + self._policy.interval / TICKS_PER_INTERVAL)

    def _visit(self, target: KeepaliveTarget, timer: KeepaliveTimer, now: float) -> float:
        if timer.due(self._policy) <= now:
            if timer.dead(self._policy):
                target.give_up("it did not answer keepalive")
            else:
                timer.asked()
                target.ask_alive()
        return timer.due(self._policy)
