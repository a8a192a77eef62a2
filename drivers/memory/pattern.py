"""Contents for disks nobody wrote to: deterministic, without repeats, and almost free.

Every cluster of a pattern is a window into one shared buffer of noise, at a place that depends on
the seed and the cluster's number. A disk filled this way takes the size of the windows, not of the
data, and any two of its clusters differ.
"""

import random
from functools import cache

from virtbackupd.drivers.memory.clusters import CLUSTER

_NOISE_SIZE = 1 << 20
_STRIDE = 524_287
"""Odd, so that the windows of 2^20 clusters in a row start at different places."""


@cache
def _noise() -> memoryview:
    return memoryview(random.Random(0).randbytes(_NOISE_SIZE + CLUSTER))  # noqa: S311 - not a secret


def pattern_cluster(seed: int, index: int, size: int = CLUSTER) -> bytes | memoryview:
    """The content of cluster `index` of the pattern that `seed` names, zero beyond `size` bytes."""
    start = (seed * 40_503 + index * _STRIDE) % _NOISE_SIZE
    window = _noise()[start : start + size]
    return window if size == CLUSTER else bytes(window).ljust(CLUSTER, b"\0")
