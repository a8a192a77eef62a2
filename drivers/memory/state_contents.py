"""The contents of clusters as numbers, for a file: what follows from a rule is not stored.

A number has its kind in the two highest of 64 bits: a cluster of zeroes, a window of the pattern, a
repeated byte, or a stored cluster. Knows no image and no file.
"""

import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import Final

from virtbackupd.drivers.memory.clusters import CLUSTER, ZERO_CLUSTER, Cluster
from virtbackupd.drivers.memory.pattern import NOISE_SIZE, starts_by_identity, window

_KIND_SHIFT: Final = 62
_VALUE: Final = (1 << _KIND_SHIFT) - 1
_ZERO, _PATTERN, _BYTE, _STORED = range(4)


class ContentsWriter:
    """Numbers for clusters; gathers those that must be stored."""

    def __init__(self) -> None:
        self.stored: list[Cluster] = []
        self._starts = starts_by_identity()
        self._known: dict[int, int] = {}

    def numbers(self, clusters: Iterable[Cluster]) -> list[int]:
        """One for each; the clusters must live as long as this object."""
        known = self._known
        return [known.get(id(content)) or self._number(content) for content in clusters]

    def _number(self, content: Cluster) -> int:
        if content is ZERO_CLUSTER:
            return _ZERO
        start = self._starts.get(id(content))
        number = _tagged(_PATTERN, start) if start is not None else self._other(content)
        self._known[id(content)] = number
        return number

    def _other(self, content: Cluster) -> int:
        if content == bytes(content[:1]) * CLUSTER:
            return _tagged(_BYTE, content[0])
        self.stored.append(content)
        return _tagged(_STORED, len(self.stored) - 1)


class ContentsReader:
    """Clusters for numbers; ValueError for a number that nothing stands behind."""

    def __init__(self, stored: Sequence[bytes]) -> None:
        self._stored = stored
        self._known: dict[int, Cluster] = {}

    def clusters(self, numbers: Iterable[int]) -> list[Cluster]:
        known = self._known
        return [known.get(number) or self._found(number) for number in numbers]

    def _found(self, number: int) -> Cluster:
        found = self._known[number] = self._cluster(number >> _KIND_SHIFT, number & _VALUE)
        return found

    def _cluster(self, kind: int, value: int) -> Cluster:
        if kind == _ZERO and not value:
            return ZERO_CLUSTER
        if kind == _PATTERN and value < NOISE_SIZE:
            return window(value)
        if kind == _BYTE and value < 256:
            return bytes([value]) * CLUSTER
        if kind == _STORED and value < len(self._stored):
            return self._stored[value]
        raise ValueError(f"no cluster is stored under the number {value}")


def packed(numbers: Iterable[int], code: str = "Q") -> bytes:
    """Numbers of 64 bits, or of another size that `array` knows, in little-endian order."""
    return _swapped(array(code, numbers)).tobytes()


def unpacked(data: bytes, code: str = "Q") -> "array[int]":
    """The other way; ValueError when the length cannot be."""
    numbers = array(code)
    numbers.frombytes(data)
    return _swapped(numbers)


def _swapped(numbers: "array[int]") -> "array[int]":
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _tagged(kind: int, value: int) -> int:
    return kind << _KIND_SHIFT | value
