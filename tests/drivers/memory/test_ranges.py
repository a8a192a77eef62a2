"""Ranges as they come: merged, and bounded while they wait and when they are merged."""

from hypothesis import given
from hypothesis import strategies as st

from virtbackupd.drivers.memory.ranges import RangeList, joined

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)), max_size=30)


def noted(ranges: list[tuple[int, int]], limit: int = 1000, patience: int = 4) -> RangeList:
    found = RangeList(limit, patience)
    for offset, length in ranges:
        found.note(offset, length)
    return found


@given(RANGES)
def test_the_list_holds_every_byte_once(ranges: list[tuple[int, int]]) -> None:
    merged = noted(ranges).merged()
    expected = {byte for offset, length in ranges for byte in range(offset, offset + length)}
    assert [byte for start, end in merged for byte in range(start, end)] == sorted(expected)
    assert merged == list(joined(merged))


def test_what_waits_is_bounded() -> None:
    found = noted([(2 * (step % 100), 1) for step in range(10_000)])
    assert len(found._pending) <= 100
    assert len(found.merged()) == 100


def test_of_too_many_the_first_are_kept_and_the_list_is_not_complete() -> None:
    found = noted([(2 * step, 1) for step in range(5)], limit=3)
    assert (found.merged(), found.complete) == ([(0, 1), (2, 3), (4, 5)], False)


def test_a_list_goes_on_from_what_was_merged() -> None:
    found = RangeList(10, 10, [(0, 5), (8, 9)])
    found.note(5, 3)
    assert (found.merged(), found.complete) == ([(0, 9)], True)
