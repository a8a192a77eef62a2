"""What stands around the contents in a saved state: what was read or written, clock and faults.

Turns records back into the states that they are of; ValueError or DriverError says what is wrong.
"""

from itertools import groupby
from operator import itemgetter

from virtbackupd.drivers.clock import LAST_TIME, ClockState
from virtbackupd.drivers.faults import rule_records
from virtbackupd.drivers.memory.bitmap import DirtyMap
from virtbackupd.drivers.memory.nbd_record import MAX_RANGES, ReadsState
from virtbackupd.drivers.memory.ranges import joined
from virtbackupd.drivers.memory.state_contents import unpacked
from virtbackupd.drivers.memory.state_records import SavedChanges, SavedReads, SavedSurroundings
from virtbackupd.drivers.memory.surroundings import Surroundings
from virtbackupd.drivers.memory.written import MAX_RANGES as MAX_WRITTEN
from virtbackupd.drivers.memory.written import Epoch, WrittenState


def require(holds: bool, what: str) -> None:
    """ValueError says what does not hold."""
    if not holds:
        raise ValueError(what)


def read_reads(saved: SavedReads) -> ReadsState:
    """What was read of a disk."""
    pairs = list(zip(unpacked(saved.starts), unpacked(saved.ends), strict=True))
    require(len(pairs) <= MAX_RANGES, "too many ranges of a disk were read")
    require(list(joined(pairs)) == pairs, "the ranges that were read are out of order")
    require(min(saved.count, saved.size) >= 0, "the reads of a disk are less than none")
    changed = None if saved.changed is None else DirtyMap(unpacked(saved.changed))
    return ReadsState(saved.count, saved.size, saved.complete, tuple(pairs), saved.since, changed)


def read_surroundings(saved: SavedSurroundings | None) -> Surroundings | None:
    """None of a file that says nothing about them."""
    if saved is None:
        return None
    rules = tuple(rule_records.read(rule) for rule in saved.faults)
    return Surroundings(_clock(saved.clock), rules)


def _clock(saved: ClockState) -> ClockState:
    time = saved.time
    known = not saved.stopped if time is None else 0 <= time <= LAST_TIME
    require(known, "its clock stands at no time from 1970 to 9999")
    return saved


def read_written(table: SavedChanges) -> WrittenState | None:
    """None of a file that says nothing about it."""
    if table.exact_from is None:
        return None
    require(table.exact_from >= 0, "the changes of an image begin before its first epoch")
    numbers = iter(unpacked(table.written))
    rows = list(zip(numbers, numbers, numbers, strict=True))
    require(len(rows) <= MAX_WRITTEN, "an image was written in too many places")
    grouped = groupby(rows, key=itemgetter(0))
    epochs = tuple(Epoch(number, tuple(row[1:] for row in group)) for number, group in grouped)
    ordered = [each.number for each in epochs]
    require(ordered == sorted(set(ordered)), "the epochs of an image are out of order")
    for _, ranges in epochs:
        require(list(joined(ranges)) == list(ranges), "what was written is out of order")
    return WrittenState(table.exact_from, epochs)
