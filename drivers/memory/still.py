"""A disk as it was at an instant, for readers that may take long and live in another thread.

It holds the stored clusters of every image of a chain as they were, which the images then replace
rather than change. Taking it costs the same at any size. Knows no domain.
"""

from typing import Final

from virtbackupd.drivers.memory.clusters import CLUSTER, ZERO_CLUSTER, Cluster, View
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.media import chain

SECTOR: Final = 512
"""Bytes; differences are told in whole ones."""


class Still(View):
    """The contents of a chain of images, never to change."""

    def __init__(self, image: Image) -> None:
        self.capacity = image.capacity
        self._layers = [(layer.contents(), layer.capacity) for layer in chain(image)]

    def cluster(self, index: int) -> Cluster | None:
        """The content of a cluster, from the first image that has any."""
        for contents, capacity in self._layers:
            if index * CLUSTER >= capacity:
                return None
            stored = contents.get(index)
            if stored is not None:
                return stored
        return None

    def data_clusters(self) -> list[int]:
        """The sorted numbers of the clusters that hold data; counted anew each time."""
        known = {index for contents, _ in self._layers for index in contents}
        return sorted(index for index in known if self._has_data(index))

    def _has_data(self, index: int) -> bool:
        content = self.cluster(index)
        return content is not None and content is not ZERO_CLUSTER


def differences(one: View, other: View) -> list[tuple[int, int]]:
    """(start, end) in which two disks differ, in whole sectors; one disk may be longer."""
    common = min(one.capacity, other.capacity)
    candidates = sorted({*one.data_clusters(), *other.data_clusters()})
    found: list[tuple[int, int]] = []
    for index in candidates:
        if index * CLUSTER < common:
            _compare(one.cluster(index), other.cluster(index), index * CLUSTER, common, found)
    if one.capacity != other.capacity:
        _append(found, common, max(one.capacity, other.capacity))
    return found


def _compare(
    one: Cluster | None, other: Cluster | None, at: int, end: int, found: list[tuple[int, int]]
) -> None:
    if one is other:
        return
    # Comparing views goes byte by byte in Python's own loop; comparing bytes does not.
    left, right = bytes(one or ZERO_CLUSTER), bytes(other or ZERO_CLUSTER)
    if left == right:
        return
    for start in range(0, min(CLUSTER, end - at), SECTOR):
        if left[start : start + SECTOR] != right[start : start + SECTOR]:
            _append(found, at + start, min(at + start + SECTOR, end))


def _append(found: list[tuple[int, int]], start: int, end: int) -> None:
    if found and found[-1][1] == start:
        found[-1] = (found[-1][0], end)
    else:
        found.append((start, end))
