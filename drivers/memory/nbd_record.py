"""Which parts of a disk NBD clients have read, merged as they come.

Noting a request is a few additions, since every read of every backup is noted. Knows no socket.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from virtbackupd.drivers.memory.bitmap import DirtyMap
from virtbackupd.drivers.memory.clusters import spans

PENDING: Final = 8192
"""Runs of requests that are at least kept as they came before they are merged."""
MAX_RANGES: Final = 65_536
"""Separate ranges that are kept; reads beyond are only counted."""


class DiskReads:
    """The reads of one disk since the record was last cleared."""

    __slots__ = (
        "_bound", "_end", "_merged", "_pending", "_start",
        "bytes", "changed", "complete", "count", "since",
    )  # fmt: skip

    def __init__(self) -> None:
        self.since: str | None = None
        """The checkpoint that the last backup started from; None for a full one."""
        self.changed: DirtyMap | None = None
        """What had changed since then when the last backup began."""
        self.clear()

    def clear(self) -> None:
        """Begin anew; of which backup it is stays known."""
        self.count = 0
        self.bytes = 0
        self.complete = True
        """Whether every read is in the ranges."""
        self._start = self._end = 0
        self._pending: list[tuple[int, int]] = []
        self._merged: list[tuple[int, int]] = []
        self._bound = PENDING

    def begin(self, since: str | None, changed: DirtyMap | None) -> None:
        """Another backup begins, whose reads come on top."""
        self.since, self.changed = since, changed

    def note(self, offset: int, length: int) -> None:
        """A client has read a range."""
        self.count += 1
        self.bytes += length
        if offset != self._end:
            self._pending.append((self._start, self._end))
            self._start = offset
            if len(self._pending) >= self._bound:
                self._merge()
        self._end = offset + length

    def ranges(self) -> list[tuple[int, int]]:
        """(offset, length) of all that was read, in order; what touches is one."""
        self._pending.append((self._start, self._end))
        self._start = self._end
        self._merge()
        return [(start, end - start) for start, end in self._merged]

    def outside(self, changed: DirtyMap) -> Iterator[tuple[int, int]]:
        """(offset, length) of what was read although it had not changed."""
        for offset, length in self.ranges():
            for start, size, dirty in spans(changed.clusters, offset, length):
                if not dirty:
                    yield start, size

    def _merge(self) -> None:
        merged = list(joined(sorted(chain(self._merged, self._pending))))
        self._pending.clear()
        self.complete = self.complete and len(merged) <= MAX_RANGES
        self._merged = merged[:MAX_RANGES]
        # Merging passes over all that was merged before, so it waits until there is as much again.
        self._bound = max(PENDING, len(merged))


def joined(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Sorted (start, end) with those that touch made one, and empty ones left out."""
    first = last = -1
    for start, end in ranges:
        if start >= end:
            continue
        if start <= last:
            last = max(last, end)
            continue
        if last >= 0:
            yield first, last
        first, last = start, end
    if last >= 0:
        yield first, last
