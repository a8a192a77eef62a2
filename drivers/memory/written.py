"""Which bytes of an image were written in which epoch, for those who ask more exactly than bitmaps.

The record is bounded: of an image that is written in too many places it forgets the oldest epochs,
and says so. Knows no cluster and no bitmap.
"""

from typing import Final, NamedTuple

from virtbackupd.drivers.memory.ranges import Range, RangeList, joined

MAX_RANGES: Final = 16_384
"""Separate ranges that are kept of one image, in all epochs together."""
_PATIENCE: Final = 8192


class Epoch(NamedTuple):
    """What was written in one."""

    number: int
    ranges: tuple[Range, ...]
    """In order and apart from each other."""


class WrittenState(NamedTuple):
    """The record as it was at an instant."""

    exact_from: int
    """The first epoch of which all is known."""
    epochs: tuple[Epoch, ...]
    """In the order of time."""

    def since(self, epoch: int) -> list[Range] | None:
        """What was written in `epoch` or later, in order; None when that is not known."""
        if epoch < self.exact_from:
            return None
        later = (each.ranges for each in self.epochs if each.number >= epoch)
        return list(joined(sorted(found for ranges in later for found in ranges)))

    def clipped(self, end: int) -> "WrittenState":
        """The same without what lies behind `end`."""
        return WrittenState(
            self.exact_from,
            tuple(Epoch(number, _clipped(ranges, end)) for number, ranges in self.epochs),
        )


NOTHING: Final = WrittenState(0, ())


class Written:
    """What is written into one image during one epoch."""

    __slots__ = ("_before", "_epoch", "_list", "note")

    def __init__(self, before: WrittenState, epoch: int) -> None:
        """Goes on from a state, which may already hold something of that epoch."""
        known = before.epochs and before.epochs[-1].number == epoch
        merged = before.epochs[-1].ranges if known else ()
        self._before = before._replace(epochs=before.epochs[:-1]) if known else before
        self._epoch = epoch
        self._list = RangeList(MAX_RANGES, _PATIENCE, merged)
        self.note = self._list.note
        """Some bytes have been written: offset and length."""

    def state(self) -> WrittenState:
        """The record with all that was noted so far."""
        merged = tuple(self._list.merged())
        if not self._list.complete:
            return WrittenState(self._epoch + 1, ())
        return _bounded(self._before.exact_from, (*self._before.epochs, Epoch(self._epoch, merged)))


def _bounded(exact_from: int, epochs: tuple[Epoch, ...]) -> WrittenState:
    kept = sum(len(each.ranges) for each in epochs)
    while kept > MAX_RANGES:
        exact_from = epochs[0].number + 1
        kept -= len(epochs[0].ranges)
        epochs = epochs[1:]
    return WrittenState(exact_from, epochs)


def _clipped(ranges: tuple[Range, ...], end: int) -> tuple[Range, ...]:
    return tuple((start, min(stop, end)) for start, stop in ranges if start < end)
