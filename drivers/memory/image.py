"""One disk image in memory: sparse, over an optional backing image, with bitmaps and frozen views.

Stored clusters are immutable, so a reader may hold slices of them while the guest writes on. Every
change goes through one place, which stamps it for the bitmaps and lets each frozen view keep what
was there before. Nothing here waits, and nothing knows of domains, jobs or files.
"""

from collections.abc import Iterable
from typing import NamedTuple

from virtbackupd.drivers.memory.bitmap import BitmapSet, BitmapsState, ChangeLog
from virtbackupd.drivers.memory.clusters import (
    CLUSTER,
    ZERO_CLUSTER,
    Cluster,
    View,
    cluster_count,
    touched,
)
from virtbackupd.drivers.memory.frozen import Frozen
from virtbackupd.drivers.memory.pattern import pattern_cluster


class ImageState(NamedTuple):
    """What an image held at an instant; taking it costs the same at any size."""

    capacity: int
    clusters: dict[int, Cluster]
    """Not to be changed."""
    data_count: int
    """How many of the clusters hold data."""
    sorted: list[int] | None
    """What `data_clusters` found, if it was asked."""
    bitmaps: BitmapsState


class Image(View):
    """The contents of one image file or block device, as a guest sees them."""

    def __init__(
        self,
        capacity: int,
        *,
        path: str,
        format: str = "qcow2",  # noqa: A002 - libvirt's own word
        backing: "Image | None" = None,
        data_store: str | None = None,
    ) -> None:
        self.capacity = capacity
        self.path = path
        self.format = format
        self.backing = backing
        self.data_store = data_store
        """Where the raw file with the guest's data seems to lie, if that is not `path`."""
        self._log = ChangeLog()
        self.bitmaps = BitmapSet(path, self._log)
        self._clusters: dict[int, Cluster] = {}
        self._shared = False
        """Whether a state holds the clusters too, so that a copy must be changed in their place."""
        self._data_count = 0
        self._sorted: list[int] | None = None
        self._frozen: tuple[Frozen, ...] = ()

    @property
    def allocation(self) -> int:
        """Bytes of data stored in this image itself."""
        return self._data_count * CLUSTER

    @property
    def physical(self) -> int:
        """Bytes to the end of the file, which is sparse when it is raw."""
        return self.capacity if self.format == "raw" else self.allocation

    def cluster(self, index: int) -> Cluster | None:
        """The content of a cluster, from the backing chain where this image has none."""
        stored = self._clusters.get(index)
        if stored is None and self.backing is not None and index * CLUSTER < self.backing.capacity:
            return self.backing.cluster(index)
        return stored

    def data_clusters(self) -> list[int]:
        """The sorted numbers of the clusters that hold data, in this image or below."""
        if self._sorted is None:
            own = [index for index, data in self._clusters.items() if data is not ZERO_CLUSTER]
            self._sorted = sorted(own + self._backing_data())
        return self._sorted

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Store bytes, as a guest does."""
        self.check_range(offset, len(data))
        source = memoryview(data)
        for index in touched(offset, len(data)):
            start = max(index * CLUSTER, offset)
            stop = min((index + 1) * CLUSTER, offset + len(data))
            piece = source[start - offset : stop - offset]
            self._put(index, self._patched(index, start - index * CLUSTER, piece))
        self._log.stamp(offset, len(data))

    def fill(self, offset: int, length: int, value: int) -> None:
        """Write one byte value over a range; whole clusters share their storage."""
        self.check_range(offset, length)
        shared = bytes([value]) * CLUSTER
        self._cover(offset, length, shared, shared)

    def write_zeroes(self, offset: int, length: int) -> None:
        """Make a range read as zeroes; its whole clusters take no space any more."""
        self.check_range(offset, length)
        end = self._rounded_end(offset + length) if length else offset
        self._cover(offset, end - offset, self._nothing, ZERO_CLUSTER)

    def discard(self, offset: int, length: int) -> None:
        """Free the whole clusters of a range, which read as zeroes from then on.

        Clusters touched in part keep their content, yet the whole range counts as changed.
        """
        self.check_range(offset, length)
        for index in range(cluster_count(offset), self._rounded_end(offset + length) // CLUSTER):
            self._put(index, self._nothing)
        self._log.stamp(offset, length)

    def fill_pattern(self, seed: int, offset: int, length: int) -> None:
        """Give a range of whole clusters deterministic contents, unnoticed by any bitmap."""
        self.check_range(offset, length)
        for index in touched(offset, length):
            room = self.capacity - index * CLUSTER
            self._put(index, pattern_cluster(seed, index, min(room, CLUSTER)))

    def write_pattern(self, seed: int, offset: int, length: int) -> None:
        """The same as a guest does it: what is changed is recorded."""
        self.fill_pattern(seed, offset, length)
        self._log.stamp(offset, length)

    def resize(self, capacity: int) -> None:
        """Change the size; new space reads as zeroes and is not dirty, the rest is lost."""
        for frozen in self._frozen:
            frozen.data_clusters()
        self._clear_tail(min(capacity, self.capacity))
        if capacity < self.capacity:
            self._cut(cluster_count(capacity))
        else:
            self._hide_backing(cluster_count(self.capacity), cluster_count(capacity))
        self.capacity = capacity
        self._sorted = None

    def freeze(self) -> Frozen:
        """A view that keeps the contents of this instant while the image changes."""
        frozen = Frozen(self)
        self._frozen = (*self._frozen, frozen)
        return frozen

    def thaw(self, frozen: Frozen) -> None:
        """Stop preserving contents for a view; called by the view itself."""
        self._frozen = tuple(view for view in self._frozen if view is not frozen)

    def state(self) -> ImageState:
        """Contents and bitmaps as of now; frozen views are not part of it."""
        self._shared = True
        return ImageState(
            self.capacity, self._clusters, self._data_count, self._sorted, self.bitmaps.state()
        )

    def contents(self) -> dict[int, Cluster]:
        """What this image itself stores as of now, never to be changed; costs the same always."""
        self._shared = True
        return self._clusters

    def restore(self, state: ImageState) -> None:
        """Go back to an earlier instant, or to that of another image; frozen views end."""
        self._frozen = ()
        self.capacity = state.capacity
        self._clusters, self._shared = state.clusters, True
        self._data_count = state.data_count
        self._sorted = state.sorted
        self.bitmaps.restore(state.bitmaps)

    def own_clusters(self) -> Iterable[tuple[int, Cluster]]:
        """What this image itself stores, by cluster number; zero clusters included."""
        return self._clusters.items()

    @property
    def _nothing(self) -> Cluster | None:
        """What to store for a cluster of zeroes: only a backing image needs hiding."""
        return None if self.backing is None else ZERO_CLUSTER

    def _backing_data(self) -> list[int]:
        if self.backing is None:
            return []
        limit, own = cluster_count(self.capacity), self._clusters
        return [i for i in self.backing.data_clusters() if i < limit and i not in own]

    def _put(self, index: int, content: Cluster | None) -> None:
        """Replace a cluster; the one place where contents change."""
        old = self._clusters.get(index)
        if old is None and content is None:
            return
        self._preserve(index)
        if self._shared:
            self._clusters, self._shared = dict(self._clusters), False
        if content is None:
            del self._clusters[index]
        else:
            self._clusters[index] = content
        change = _holds_data(content) - _holds_data(old)
        self._data_count += change
        if change or (old is None and self.backing is not None):
            self._sorted = None

    def _preserve(self, index: int) -> None:
        """Copy before write; zeroes over a hole change nothing, yet QEMU counts the copy."""
        for frozen in self._frozen:
            frozen.preserve(index, self.cluster(index))

    def _patched(self, index: int, start: int, piece: bytes | memoryview) -> Cluster:
        if len(piece) == CLUSTER:
            return bytes(piece)
        old = memoryview(self.cluster(index) or ZERO_CLUSTER)
        return b"".join((old[:start], piece, old[start + len(piece) :]))

    def _cover(self, offset: int, length: int, whole: Cluster | None, pattern: bytes) -> None:
        for index in touched(offset, length):
            start = max(offset - index * CLUSTER, 0)
            stop = min(offset + length - index * CLUSTER, CLUSTER)
            self._preserve(index)
            if stop - start == CLUSTER or self._stays_zero(index, pattern):
                self._put(index, whole)
            else:
                self._put(index, self._patched(index, start, pattern[start:stop]))
        self._log.stamp(offset, length)

    def _stays_zero(self, index: int, pattern: bytes) -> bool:
        """Zeroes into a cluster of zeroes leave it one without data, as in QEMU."""
        return pattern is ZERO_CLUSTER and not _holds_data(self.cluster(index))

    def _rounded_end(self, end: int) -> int:
        """The end of a request that clears: at the end of the disk the last cluster goes whole."""
        return cluster_count(end) * CLUSTER if end == self.capacity else end

    def _clear_tail(self, capacity: int) -> None:
        """Zero the last cluster behind `capacity`, where no guest could have written."""
        index, tail = divmod(capacity, CLUSTER)
        content = self.cluster(index)
        if tail and content is not None and content is not ZERO_CLUSTER:
            self._put(index, bytes(content[:tail]).ljust(CLUSTER, b"\0"))

    def _cut(self, limit: int) -> None:
        for index in [index for index in self._clusters if index >= limit]:
            self._put(index, None)
        self.bitmaps.truncate(limit)
        self._log.truncate(limit)

    def _hide_backing(self, old: int, new: int) -> None:
        if self.backing is not None:
            for index in self.backing.data_clusters():
                if old <= index < new and index not in self._clusters:
                    self._put(index, ZERO_CLUSTER)


def _holds_data(content: Cluster | None) -> bool:
    return content is not None and content is not ZERO_CLUSTER
