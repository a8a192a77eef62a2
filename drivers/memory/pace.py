"""How far one disk of a push may have come by now: what its bandwidth allows, or what a test says.

Counts whole clusters. Knows neither the file that is written nor the job of which this is a part.
"""

from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from virtbackupd.drivers.memory.clusters import CLUSTER
from virtbackupd.drivers.memory.copy import BATCH, CopyPlan

if TYPE_CHECKING:
    from virtbackupd.drivers.clock import Clock
    from virtbackupd.drivers.jobs import DiskJob

_QUANTUM: Final = 0.1
"""Seconds of copying done at once, if that is at least a cluster and at most a batch."""
_ROUNDING: Final = 16.0
"""Bytes by which the product of a time and a rate may be too small."""


class Stop(NamedTuple):
    """Where a copy is to stop and wait, in bytes or in per cent of all."""

    processed: int | None = None
    percent: float | None = None

    def of(self, total: int) -> int:
        if self.percent is not None:
            return int(total * self.percent / 100)
        return min(self.processed or 0, total)


class Pace:
    """The pace of one disk's copy."""

    def __init__(self, clock: "Clock", plan: CopyPlan, job: "DiskJob") -> None:
        self._clock = clock
        self._plan = plan
        self._job = job
        self._stop: int | None = None
        self._scripted = False
        self._changed = trio.Event()
        self._rate = job.bandwidth
        self._since = clock.monotonic()
        self._credit = 0.0
        """Bytes that time has allowed and nobody has copied yet."""

    def speed_changed(self) -> None:
        """Whoever waits for the old limit wakes."""
        self._changed.set()
        self._changed = trio.Event()

    def stop_at(self, position: int) -> None:
        """Copy up to there, however slow the bandwidth is, then wait for another word."""
        self._stop, self._scripted = position, True
        self.speed_changed()

    def complete(self) -> None:
        """Copy all that is left at once."""
        self._stop, self._scripted = None, True
        self.speed_changed()

    def moved(self) -> None:
        """Something was copied: show it."""
        done = self._plan.done
        self._job.current = done if self._stop is None else min(done, self._stop)

    async def turn(self) -> int:
        """Wait until something may be copied, and say how many clusters."""
        while True:
            if self._scripted:
                allowed = BATCH if self._stop is None else self._plan.left_before(self._stop)
            else:
                allowed = await self._allowed()
            if allowed:
                return min(allowed, BATCH)
            if self._stop is not None:
                self._job.current = self._stop
                await self._changed.wait()

    async def _allowed(self) -> int:
        left = self._plan.left
        if not (left and self._job.bandwidth):
            self._accrue()
            return BATCH
        wanted = min(left, BATCH, max(1, int(self._job.bandwidth * _QUANTUM) // CLUSTER))
        if self._accrue() < wanted:
            changed = self._changed
            seconds = (wanted * CLUSTER - self._credit) / self._job.bandwidth
            what = f"copy of disk {self._job.target}"
            with self._clock.deadline(seconds, what, eager=True):
                await changed.wait()
        allowed = min(self._accrue(), BATCH)
        self._credit -= allowed * CLUSTER
        return allowed

    def _accrue(self) -> int:
        """The clusters allowed by now; a copy that was slower than its limit catches up little."""
        now = self._clock.monotonic()
        most = max(self._rate, CLUSTER) + CLUSTER
        self._credit = min(self._credit + (now - self._since) * self._rate, most)
        self._since, self._rate = now, self._job.bandwidth
        return int((self._credit + _ROUNDING) // CLUSTER)
