"""The record of what NBD clients read: ranges that touch are one, and the record is bounded."""

import pytest

from virtbackupd.drivers.memory import nbd_record
from virtbackupd.drivers.memory.bitmap import DirtyMap
from virtbackupd.drivers.memory.nbd_record import DiskReads

CLUSTER = 65536


def noted(*ranges: tuple[int, int]) -> DiskReads:
    reads = DiskReads()
    for offset, length in ranges:
        reads.note(offset, length)
    return reads


def test_nothing_read() -> None:
    assert DiskReads().ranges() == []


@pytest.mark.parametrize(
    ("requests", "ranges"),
    [
        ([(0, 10), (10, 5)], [(0, 15)]),
        ([(10, 5), (0, 10)], [(0, 15)]),
        ([(0, 10), (20, 10)], [(0, 10), (20, 10)]),
        ([(0, 30), (5, 5), (40, 1)], [(0, 30), (40, 1)]),
        ([(7, 0)], []),
    ],
)
def test_requests_are_merged(
    requests: list[tuple[int, int]], ranges: list[tuple[int, int]]
) -> None:
    assert noted(*requests).ranges() == ranges


def test_asking_does_not_end_the_record() -> None:
    reads = noted((0, 10))
    assert reads.ranges() == [(0, 10)]
    reads.note(10, 10)
    assert reads.ranges() == [(0, 20)]


def test_repeated_reads_count_each_time() -> None:
    reads = noted((0, 10), (0, 10))
    assert (reads.count, reads.bytes, reads.ranges()) == (2, 20, [(0, 10)])


def test_ranges_from_two_connections_are_merged() -> None:
    steps = [offset for pair in zip(range(50), range(50, 100), strict=True) for offset in pair]
    assert noted(*((step, 1) for step in steps)).ranges() == [(0, 100)]


def test_reads_beyond_the_bound_are_counted_and_said_to_be_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nbd_record, "MAX_RANGES", 3)
    reads = noted(*((2 * step, 1) for step in range(5)))
    assert (len(reads.ranges()), reads.count, reads.complete) == (3, 5, False)


def test_clearing_begins_anew_and_keeps_what_had_changed() -> None:
    reads = noted((0, 10))
    reads.begin("c1", DirtyMap([1]))
    reads.clear()
    assert (reads.count, reads.bytes, reads.ranges(), reads.since) == (0, 0, [], "c1")


def test_what_was_read_outside_the_changes() -> None:
    reads = noted((0, 2 * CLUSTER), (4 * CLUSTER, CLUSTER))
    assert list(reads.outside(DirtyMap([1, 4]))) == [(0, CLUSTER)]
