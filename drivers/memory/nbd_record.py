"""Which parts of a disk NBD clients have read, merged as they come. Knows no socket."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from virtbackupd.drivers.memory.bitmap import DirtyMap
from virtbackupd.drivers.memory.clusters import spans
from virtbackupd.drivers.memory.ranges import Range, RangeList

PENDING: Final = 8192
"""Runs of requests that are at least kept as they came before they are merged."""
MAX_RANGES: Final = 65_536
"""Separate ranges that are kept; reads beyond are only counted."""


@dataclass(frozen=True, slots=True)
class ReadsState:
    """The record of one disk as it was at an instant."""

    count: int
    size: int
    """Of all reads, in bytes."""
    complete: bool
    merged: tuple[Range, ...]
    """In order and apart from each other."""
    since: str | None
    changed: DirtyMap | None


class DiskReads:
    """The reads of one disk since the record was last cleared."""

    __slots__ = ("_list", "bytes", "changed", "count", "since")

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
        self._list = RangeList(MAX_RANGES, PENDING)

    @property
    def complete(self) -> bool:
        """Whether every read is in the ranges."""
        return self._list.complete

    def begin(self, since: str | None, changed: DirtyMap | None) -> None:
        """Another backup begins, whose reads come on top."""
        self.since, self.changed = since, changed

    def note(self, offset: int, length: int) -> None:
        """A client has read a range."""
        self.count += 1
        self.bytes += length
        self._list.note(offset, length)

    def ranges(self) -> list[tuple[int, int]]:
        """(offset, length) of all that was read, in order; what touches is one."""
        return [(start, end - start) for start, end in self._list.merged()]

    def state(self) -> ReadsState:
        """The record as of now."""
        merged = tuple(self._list.merged())
        return ReadsState(self.count, self.bytes, self.complete, merged, self.since, self.changed)

    @classmethod
    def restored(cls, state: ReadsState) -> "DiskReads":
        """A record that goes on from there."""
        reads = cls()
        reads.count, reads.bytes = state.count, state.size
        reads._list = RangeList(MAX_RANGES, PENDING, state.merged)
        reads._list.complete = state.complete
        reads.begin(state.since, state.changed)
        return reads

    def outside(self, changed: DirtyMap) -> Iterator[tuple[int, int]]:
        """(offset, length) of what was read although it had not changed."""
        for offset, length in self.ranges():
            for start, size, dirty in spans(changed.clusters, offset, length):
                if not dirty:
                    yield start, size
