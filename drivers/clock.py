"""Time as the whole daemon sees it: the real one, or one that stands until somebody moves it.

Whoever waits does so in a `Deadline`, which is a cancel scope that the clock knows. A real clock
leaves it to Trio; one that stands ends it when a step comes past it. What must end however the
clock stands, such as the stop of the daemon, does not ask this module.
"""

import math
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import NamedTuple, Self

import trio

from virtbackupd.drivers.errors import InvalidArgument, OperationInvalid

SETTLE_LIMIT = 5.0
"""Real seconds that what was woken may take before the clock moves on without it."""
WAKES_PER_STEP = 100_000
"""Bounds a step over years while something wakes every few seconds."""
LONGEST_STEP = 10 * 366 * 86_400.0
LAST_TIME = 253_402_300_799.0
"""The last second of the year 9999, the last that ISO 8601 can write with four digits."""


class ClockState(NamedTuple):
    """How a clock goes, for another one to go on like it."""

    stopped: bool
    time: float | None
    """Seconds since 1970 UTC; None for the host's own time."""


class Deadline:
    """Ends its block when the clock comes to `due`; `expired` says whether it did."""

    __slots__ = ("_clock", "due", "eager", "scope", "what")

    def __init__(self, clock: "Clock", due: float, what: str, *, eager: bool = False) -> None:
        self._clock = clock
        self.due = due
        """On the clock's monotonic scale."""
        self.what = what
        self.eager = eager
        """Ended also, before it is due, at the end of each step."""
        self.scope = trio.CancelScope()

    @property
    def expired(self) -> bool:
        return self.scope.cancelled_caught

    def __enter__(self) -> Self:
        self._clock.join(self)
        self.scope.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._clock.leave(self)
        return self.scope.__exit__(kind, error, traceback)


class FailingDeadline(Deadline):
    """Raises TooSlowError when it has ended its block."""

    __slots__ = ()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        caught = super().__exit__(kind, error, traceback)
        if self.expired:
            raise trio.TooSlowError
        return caught


class _Work:
    """Counts what goes on where the scheduler cannot see it, in threads above all."""

    __slots__ = ("_clock",)

    def __init__(self, clock: "Clock") -> None:
        self._clock = clock

    def __enter__(self) -> None:
        self._clock.work_begins()

    def __exit__(self, *_: object) -> None:
        self._clock.work_ends()


class Clock:
    """One for each daemon. Seconds everywhere; `monotonic` never goes back, `time` may."""

    __slots__ = ("_at_rest", "_moving", "_shift", "_stopped", "_waiters", "_wall", "_working")

    def __init__(self, stopped_at: float | None = None) -> None:
        """A real clock, or one that stands at a time, in seconds since 1970 UTC."""
        self._stopped = None if stopped_at is None else 0.0
        """Where the monotonic scale stands; None while it runs with Trio's, `_shift` ahead."""
        self._shift = 0.0
        self._wall = stopped_at
        """What `time` is ahead of `monotonic`; None for the host's own time."""
        self._waiters: dict[Deadline, None] = {}
        self._moving = trio.Lock()
        self._working = 0
        self._at_rest: trio.Event | None = None

    # Reading
    def time(self) -> float:
        """Seconds since 1970 UTC."""
        return time.time() if self._wall is None else self._wall + self.monotonic()

    def monotonic(self) -> float:
        """Seconds since some moment; only within a Trio run."""
        if self._stopped is None:
            return trio.current_time() + self._shift
        return self._stopped

    @property
    def stopped(self) -> bool:
        return self._stopped is not None

    @property
    def moving(self) -> bool:
        """Whether a step is under way."""
        return self._moving.locked()

    def state(self) -> ClockState:
        """As of now; who waits is not part of it."""
        return ClockState(self.stopped, None if self._wall is None else self.time())

    def waiting(self) -> list[Deadline]:
        """Who waits, the next to wake first."""
        return sorted(self._waiters, key=lambda waiter: waiter.due)

    # Waiting
    async def sleep(self, seconds: float, what: str = "sleep") -> None:
        await self.sleep_until(self.monotonic() + seconds, what)

    async def sleep_until(self, monotonic: float, what: str = "sleep") -> None:
        with Deadline(self, monotonic, what):
            await trio.sleep_forever()

    def deadline(self, seconds: float, what: str = "time-out", *, eager: bool = False) -> Deadline:
        """A block that may last that long; `what` is shown to who asks what is waited for."""
        return Deadline(self, self.monotonic() + seconds, what, eager=eager)

    def fail_after(self, seconds: float, what: str = "time-out") -> FailingDeadline:
        """The same, with TooSlowError when it took longer."""
        return FailingDeadline(self, self.monotonic() + seconds, what)

    def working(self) -> _Work:
        """A block during which a step waits: work in a thread, which looks like mere waiting."""
        return _Work(self)

    # Setting
    def stop(self) -> None:
        """Stand still. Nothing happens when it stands already."""
        if self._stopped is not None:
            return
        now, wall = self.monotonic(), self.time()
        self._stopped, self._wall = now, wall - now
        self._place_all()

    def start(self) -> None:
        """Run on from where it stands. Refused while a step is under way."""
        if self._stopped is None:
            return
        if self._moving.locked():
            raise OperationInvalid("the clock is being moved by another call, wait for its end")
        self._shift = self._stopped - trio.current_time()
        self._stopped = None
        self._place_all()

    def set_time(self, seconds: float | None) -> None:
        """Change what `time` tells; nobody wakes of that. None is the host's own time.

        A clock that stands keeps standing, at the host's time of this moment.
        """
        if seconds is None and self._stopped is None:
            self._wall = None
        else:
            self._wall = (time.time() if seconds is None else seconds) - self.monotonic()

    def restore(self, state: ClockState) -> None:
        """Go on like another clock. Refused as `start` is; nobody wakes of it."""
        if state.stopped:
            self.stop()
        else:
            self.start()
        self.set_time(state.time)

    async def step(self, seconds: float) -> int:
        """Move on by so much and return how many were woken, each at its own due time.

        Returns when all that was woken waits again.
        """
        if not 0 <= seconds <= LONGEST_STEP:
            raise InvalidArgument(f"a step is 0 to {LONGEST_STEP:.0f} seconds long, not {seconds}")
        async with self._moving:
            target = self._require_stopped() + seconds
            if self.time() + seconds > LAST_TIME:
                raise InvalidArgument(f"a step of {seconds} seconds leads beyond the year 9999")
            return await self._move_to(target)

    async def jump(self) -> float:
        """Move on to the next that is due and return by how much; 0 when nobody waits."""
        async with self._moving:
            begun = self._require_stopped()
            await settled(self)
            due = [waiter.due for waiter in self._waiters]
            if due:
                await self._move_to(min(due))
            return self.monotonic() - begun

    async def _move_to(self, target: float) -> int:
        await settled(self)
        woken = 0
        while (waiter := self._first_due(target)) is not None:
            if woken == WAKES_PER_STEP:
                raise OperationInvalid(
                    f"the clock stopped after {woken} wakes at {self.time()}: take shorter steps"
                )
            self._stopped = max(self._require_stopped(), waiter.due)
            woken += 1
            await self._wake(waiter)
        self._stopped = target
        for waiter in [waiter for waiter in self._waiters if waiter.eager]:
            await self._wake(waiter)
        return woken

    def _first_due(self, target: float) -> Deadline | None:
        """Of those due at the same time the one who came first."""
        first = min(self._waiters, key=lambda waiter: waiter.due, default=None)
        return None if first is None or first.due > target else first

    async def _wake(self, waiter: Deadline) -> None:
        """One by one, because Trio runs what is ready together in no certain order."""
        self.leave(waiter)
        waiter.scope.cancel()
        await settled(self)

    def _require_stopped(self) -> float:
        if self._stopped is None:
            raise OperationInvalid("the clock runs, stop it before you move it")
        return self._stopped

    # What deadlines and work tell
    def join(self, waiter: Deadline) -> None:
        self._waiters[waiter] = None
        self._place(waiter)

    def leave(self, waiter: Deadline) -> None:
        """Safe to repeat."""
        self._waiters.pop(waiter, None)

    def work_begins(self) -> None:
        self._working += 1

    def work_ends(self) -> None:
        self._working -= 1
        if not self._working and self._at_rest is not None:
            self._at_rest.set()
            self._at_rest = None

    async def rest(self) -> bool:
        """Wait for the end of what works now; whether anything did."""
        if not self._working:
            return False
        if self._at_rest is None:
            self._at_rest = trio.Event()
        await self._at_rest.wait()
        return True

    def _place_all(self) -> None:
        for waiter in self._waiters:
            self._place(waiter)

    def _place(self, waiter: Deadline) -> None:
        if self._stopped is None:
            waiter.scope.deadline = waiter.due - self._shift
        else:
            waiter.scope.deadline = math.inf if waiter.due > self._stopped else -math.inf


async def settled(clock: Clock) -> None:
    """Wait until every other task waits for something outside, and no thread works for one."""
    # Trio offers this among its helpers for tests, which no other daemon needs to load.
    from trio.testing import wait_all_tasks_blocked  # noqa: PLC0415

    with trio.move_on_after(SETTLE_LIMIT):
        await wait_all_tasks_blocked()
        while await clock.rest():
            await wait_all_tasks_blocked()


def read_time(text: str) -> float:
    """Seconds since 1970 UTC, from such a number or a time of ISO 8601, in UTC unless it says."""
    try:
        found = _read_number(text)
    except ValueError:
        raise InvalidArgument(
            f"{text!r} is no time: give seconds since 1970, or one like 2026-01-31T12:00:00Z"
        ) from None
    if not 0 <= found <= LAST_TIME:
        raise InvalidArgument(f"{text!r} is not a time from 1970 to 9999")
    return found


def _read_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def clock_from(setting: str) -> Clock:
    """The clock that a setting asks for: `real`, `stopped`, or the time at which it stands."""
    if setting == "real":
        return Clock()
    return Clock(time.time() if setting == "stopped" else read_time(setting))
