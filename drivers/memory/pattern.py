"""Contents for disks nobody wrote to: deterministic, without repeats, and almost free.

Every cluster of a pattern is a window into one shared buffer of noise, at a place that depends on
the seed and the cluster's number. A disk filled this way takes the size of the windows, not of the
data, and any two of its clusters differ. Disks share the windows that they have in common.
"""

import random
from functools import cache
from typing import Final

from virtbackupd.drivers.memory.clusters import CLUSTER

NOISE_SIZE: Final = 1 << 20
"""How many windows there can be, one for each place to start."""
_STRIDE = 524_287
"""Odd, so that the windows of 2^20 clusters in a row start at different places."""
_windows: dict[int, memoryview] = {}


@cache
def _noise() -> memoryview:
    return memoryview(random.Random(0).randbytes(NOISE_SIZE + CLUSTER))  # noqa: S311 - not a secret


def pattern_cluster(seed: int, index: int, size: int = CLUSTER) -> bytes | memoryview:
    """The content of cluster `index` of the pattern that `seed` names, zero beyond `size` bytes."""
    found = window((seed * 40_503 + index * _STRIDE) % NOISE_SIZE)
    return found if size == CLUSTER else bytes(found[:size]).ljust(CLUSTER, b"\0")


def window(start: int) -> memoryview:
    """The window at a place below `NOISE_SIZE`; the same object each time."""
    found = _windows.get(start)
    if found is None:
        found = _windows[start] = _noise()[start : start + CLUSTER]
    return found


def starts_by_identity() -> dict[int, int]:
    """Where each window starts that is in use, by the `id` of the object."""
    return {id(view): start for start, view in _windows.copy().items()}
