"""Copying a frozen disk into a file: what to copy, and the steps in between.

Clusters are gathered in the event loop, where the disk may be read, and written in a worker thread.
Between two batches the copy can be watched, slowed down and cancelled. Knows nothing of jobs.
"""

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import trio

from virtbackupd.drivers.memory.bitmap import DirtyMap
from virtbackupd.drivers.memory.clusters import CLUSTER, ZERO_CLUSTER, Cluster, View, cluster_count
from virtbackupd.drivers.memory.writers import Writer

BATCH = 64
"""Clusters written at once: 4 MiB."""


class CopyPlan:
    """The clusters of one disk still to be copied, and how far the copy has come."""

    def __init__(self, view: View, clusters: Sequence[int], total: int, *, full: bool) -> None:
        self.total = total
        self.done = 0
        """Bytes dealt with, of `total`; a full copy counts the holes it passes."""
        self._view = view
        self._clusters = clusters
        self._next = 0
        self._full = full

    @classmethod
    def full(cls, view: View, *, needs_zeroes: bool) -> "CopyPlan":
        """Copy all data; zeroes too if the target would show something else in their place."""
        clusters = range(cluster_count(view.capacity)) if needs_zeroes else view.data_clusters()
        return cls(view, clusters, view.capacity, full=True)

    @classmethod
    def incremental(cls, view: View, dirty: DirtyMap) -> "CopyPlan":
        """Copy exactly the dirty clusters."""
        end = bisect_left(dirty.clusters, cluster_count(view.capacity))
        return cls(view, dirty.clusters[:end], end * CLUSTER, full=False)

    def take(self, limit: int = BATCH) -> list[tuple[int, Cluster | None]]:
        """The next clusters, at most `limit`; empty when there are none left."""
        batch = [(index, self._content(index)) for index in self._upcoming(limit)]
        self._next += len(batch)
        self.done = self._progress()
        return batch

    @property
    def left(self) -> int:
        """Clusters that are still to be copied."""
        return len(self._clusters) - self._next

    def left_before(self, position: int) -> int:
        """Those of them that have to be copied until `done` is `position`."""
        end = position // CLUSTER
        if self._full:
            end = bisect_left(self._clusters, end)
        return max(0, min(end, len(self._clusters)) - self._next)

    def _upcoming(self, limit: int) -> Sequence[int]:
        return self._clusters[self._next : self._next + limit]

    def _content(self, index: int) -> Cluster | None:
        content = self._view.cluster(index)
        return None if content is ZERO_CLUSTER else content

    def _progress(self) -> int:
        if self._next >= len(self._clusters):
            return self.total
        return (self._clusters[self._next] if self._full else self._next) * CLUSTER


async def run_copy(
    plan: CopyPlan,
    writer: Writer,
    *,
    turn: Callable[[], Awaitable[int]] | None = None,
    between: Callable[[int], Awaitable[None]] | None = None,
    batch_size: int = BATCH,
    working: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Copy all and complete the file.

    `turn` is awaited for the size of each batch, `between` after each one with its size in bytes;
    `working` is around what is done in threads. The writer is closed in any case; after an
    exception or a cancellation its file is incomplete.
    """
    try:
        while batch := plan.take(batch_size if turn is None else await turn()):
            with working():
                await trio.to_thread.run_sync(writer.write_batch, batch)
            if between is not None:
                await between(len(batch) * CLUSTER)
        with working():
            await trio.to_thread.run_sync(writer.finish)
    finally:
        writer.close()
