"""Byte ranges as they come, merged now and then, within a bound.

Noting one is a few additions: every write of a guest and every read of a backup is noted. What the
ranges are of is not known here.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TypeAlias

Range: TypeAlias = tuple[int, int]
"""Start and end."""


class RangeList:
    """Ranges that were noted; of too many only the first are kept."""

    __slots__ = (
        "_bound",
        "_end",
        "_limit",
        "_merged",
        "_patience",
        "_pending",
        "_start",
        "complete",
    )

    def __init__(self, limit: int, patience: int, merged: Iterable[Range] = ()) -> None:
        """At most `limit` separate ones; `patience` is how many at least wait to be merged."""
        self._limit = limit
        self._patience = patience
        self.complete = True
        """Whether all that was noted is in the list."""
        self._start = self._end = 0
        self._pending: list[Range] = []
        self._merged: list[Range] = list(merged)
        self._bound = max(patience, len(self._merged))

    def note(self, offset: int, length: int) -> None:
        """Another range, often one that goes on where the last one ended."""
        if offset != self._end:
            self._pending.append((self._start, self._end))
            self._start = offset
            if len(self._pending) >= self._bound:
                self._merge()
        self._end = offset + length

    def merged(self) -> list[Range]:
        """All of them in order, what touches made one; not to be changed."""
        self._pending.append((self._start, self._end))
        self._start = self._end
        self._merge()
        return self._merged

    def _merge(self) -> None:
        merged = list(joined(sorted(chain(self._merged, self._pending))))
        self._pending.clear()
        self.complete = self.complete and len(merged) <= self._limit
        self._merged = merged[: self._limit]
        # Merging passes over all that was merged before, so it waits until there is as much again.
        self._bound = max(self._patience, len(merged))


def joined(ranges: Iterable[Range]) -> Iterator[Range]:
    """Sorted ranges with those that touch made one, and empty ones left out."""
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
