"""What every view of a disk shares: 64 KiB clusters, reading them without a copy, and extents.

A view answers for one cluster at a time and lists those that hold data; reading and mapping follow
from these two. It knows nothing of writing, of bitmaps or of who reads.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from virtbackupd.drivers.qcow2 import CLUSTER_SIZE

CLUSTER = CLUSTER_SIZE
"""Bytes of a cluster, the unit of allocation, of copying and of every bitmap."""

Cluster: TypeAlias = bytes | memoryview
"""The content of one cluster, 64 KiB long and never changed after it was stored."""

ZERO_CLUSTER = bytes(CLUSTER)
"""A cluster known to read as zeroes; recognised by identity, it takes no space."""


class OutOfRange(ValueError):
    """A request beyond the end of a disk."""

    def __init__(self, offset: int, length: int, capacity: int) -> None:
        super().__init__(
            f"{length} bytes at offset {offset} exceed the disk's capacity of {capacity} bytes"
        )


class Extent(NamedTuple):
    """A stretch of a disk with one allocation status."""

    offset: int
    length: int
    allocated: bool
    zero: bool


def cluster_count(capacity: int) -> int:
    """How many clusters hold `capacity` bytes."""
    return -(-capacity // CLUSTER)


def touched(offset: int, length: int) -> range:
    """The clusters that the bytes of a request lie in."""
    return range(offset // CLUSTER, cluster_count(offset + length)) if length else range(0)


def run_end(keys: list[int], start: int) -> int:
    """The index behind the unbroken run of numbers that begins at `keys[start]`.

    In a strictly rising list `keys[i] - i` never falls, so the end is found by bisection.
    """
    low, high, level = start + 1, len(keys), keys[start] - start
    if keys[high - 1] - (high - 1) == level:
        return high
    while low < high:
        middle = (low + high) // 2
        if keys[middle] - middle == level:
            low = middle + 1
        else:
            high = middle
    return low


def spans(keys: list[int], offset: int, length: int) -> Iterator[tuple[int, int, bool]]:
    """Cut a byte range into (offset, length, whether its clusters are among the sorted `keys`)."""
    position, end = offset, offset + length
    index = bisect_left(keys, offset // CLUSTER)
    while position < end:
        start = min(keys[index] * CLUSTER, end) if index < len(keys) else end
        if start > position:
            yield position, start - position, False
            position = start
        if position < end:
            after = run_end(keys, index)
            stop = min((keys[after - 1] + 1) * CLUSTER, end)
            yield position, stop - position, True
            position, index = stop, after


class View(ABC):
    """A readable disk: an image as it is now, or as it was at some instant."""

    capacity: int

    @abstractmethod
    def cluster(self, index: int) -> Cluster | None:
        """The content of a cluster; None where nothing in the chain holds any."""

    @abstractmethod
    def data_clusters(self) -> list[int]:
        """The sorted numbers of the clusters that hold data; not to be changed by the caller."""

    def check_range(self, offset: int, length: int) -> None:
        """Raise OutOfRange unless the request lies within the disk."""
        if offset < 0 or length < 0 or offset + length > self.capacity:
            raise OutOfRange(offset, length, self.capacity)

    def read_slices(self, offset: int, length: int) -> list[bytes | memoryview]:
        """The bytes of a range as pieces of the stored clusters, none of them copied."""
        self.check_range(offset, length)
        cluster = self.cluster
        slices = [cluster(index) or ZERO_CLUSTER for index in touched(offset, length)]
        if (offset | length) % CLUSTER:
            _trim(slices, offset % CLUSTER, length)
        return slices

    def read(self, offset: int, length: int) -> bytes:
        """The bytes of a range."""
        return b"".join(self.read_slices(offset, length))

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """The range cut into stretches of data and of zeroes."""
        self.check_range(offset, length)
        for start, size, data in spans(self.data_clusters(), offset, length):
            yield Extent(start, size, allocated=data, zero=not data)


def _trim(slices: list[bytes | memoryview], skip: int, length: int) -> None:
    if not slices:
        return
    surplus = len(slices) * CLUSTER - skip - length
    if surplus:
        slices[-1] = memoryview(slices[-1])[: CLUSTER - surplus]
    if skip:
        slices[0] = memoryview(slices[0])[skip:]
