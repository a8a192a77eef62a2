"""What a saved world says of reads, writes and the clock is refused unless it makes sense."""

from typing import Any

import msgspec
import pytest

from virtbackupd.drivers.clock import ClockState
from virtbackupd.drivers.memory.state_around import read_reads, read_surroundings, read_written
from virtbackupd.drivers.memory.state_contents import packed
from virtbackupd.drivers.memory.state_records import SavedChanges, SavedReads, SavedSurroundings
from virtbackupd.drivers.memory.written import MAX_RANGES, Epoch, WrittenState

READS = SavedReads(
    count=2,
    size=15,
    complete=True,
    starts=packed([0, 20]),
    ends=packed([10, 25]),
    since=None,
    changed=None,
)
CHANGES = SavedChanges(b"", b"", 1, packed([1, 0, 10, 1, 20, 30, 3, 5, 6]))


def test_ranges_that_were_read() -> None:
    assert read_reads(READS).merged == ((0, 10), (20, 25))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"starts": packed([20, 0])}, "out of order"),
        ({"starts": packed([0, 10])}, "out of order"),
        ({"ends": packed([0, 25])}, "out of order"),
        ({"ends": packed([10])}, "shorter"),
        ({"starts": b"123"}, "multiple"),
        ({"count": -1}, "less than none"),
        (
            {"starts": packed(range(0, 140_000, 2)), "ends": packed(range(1, 140_001, 2))},
            "too many ranges",
        ),
    ],
)
def test_reads_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_reads(msgspec.structs.replace(READS, **changes))


def test_ranges_that_were_written() -> None:
    epochs = (Epoch(1, ((0, 10), (20, 30))), Epoch(3, ((5, 6),)))
    assert read_written(CHANGES) == WrittenState(1, epochs)


def test_a_file_that_says_nothing_of_what_was_written() -> None:
    assert read_written(msgspec.structs.replace(CHANGES, exact_from=None)) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exact_from": -1}, "before its first epoch"),
        ({"written": packed([1, 0])}, "shorter"),
        ({"written": packed([2, 0, 1, 1, 0, 1])}, "epochs of an image are out of order"),
        ({"written": packed([1, 0, 1, 2, 0, 1, 1, 4, 5])}, "epochs of an image are out of order"),
        ({"written": packed([1, 5, 6, 1, 0, 1])}, "what was written is out of order"),
        ({"written": packed([1, 5, 5])}, "what was written is out of order"),
        ({"written": packed([1, 0, 1] * (MAX_RANGES + 1))}, "too many places"),
    ],
)
def test_writes_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_written(msgspec.structs.replace(CHANGES, **changes))


@pytest.mark.parametrize(
    "clock",
    [
        ClockState(stopped=True, time=None),
        ClockState(stopped=False, time=-1.0),
        ClockState(stopped=False, time=1e15),
    ],
)
def test_a_clock_that_cannot_be(clock: ClockState) -> None:
    with pytest.raises(ValueError, match="no time from 1970 to 9999"):
        read_surroundings(SavedSurroundings(clock, []))


def test_a_clock_at_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="no time"):
        read_surroundings(SavedSurroundings(ClockState(stopped=True, time=float("nan")), []))
