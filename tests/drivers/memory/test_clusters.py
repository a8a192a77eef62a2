"""Ranges, runs and slices of clusters; the contents come from small images."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtbackupd.drivers.memory.clusters import (
    CLUSTER,
    Extent,
    OutOfRange,
    cluster_count,
    run_end,
    spans,
    touched,
)
from virtbackupd.drivers.memory.image import Image

keys = st.sets(st.integers(0, 40)).map(sorted)


def covered(pieces: Iterable[tuple[int, int, bool]]) -> list[bool]:
    return [flag for _, length, flag in pieces for _ in range(length)]


def hole(offset: int, length: int) -> Extent:
    return Extent(offset, length, allocated=False, zero=True)


def data(offset: int, length: int) -> Extent:
    return Extent(offset, length, allocated=True, zero=False)


def test_cluster_count_rounds_up() -> None:
    assert [cluster_count(size) for size in (0, 1, CLUSTER, CLUSTER + 1)] == [0, 1, 1, 2]


def test_a_range_touches_every_cluster_it_has_a_byte_in() -> None:
    assert list(touched(CLUSTER - 1, 2)) == [0, 1]


def test_an_empty_range_touches_nothing() -> None:
    assert list(touched(CLUSTER, 0)) == []


@given(keys.filter(bool), st.data())
def test_run_end_stops_at_the_first_gap(numbers: list[int], choice: st.DataObject) -> None:
    start = choice.draw(st.integers(0, len(numbers) - 1))
    end = run_end(numbers, start)
    assert numbers[start:end] == list(range(numbers[start], numbers[start] + end - start))
    assert end == len(numbers) or numbers[end] != numbers[end - 1] + 1


@given(keys, st.integers(0, 40 * CLUSTER), st.integers(0, 100))
def test_spans_agree_with_a_look_at_each_byte(numbers: list[int], offset: int, length: int) -> None:
    wanted = [(offset + step) // CLUSTER in numbers for step in range(length)]
    assert covered(spans(numbers, offset, length)) == wanted


@given(keys)
def test_neighbouring_spans_differ(numbers: list[int]) -> None:
    flags = [flag for _, _, flag in spans(numbers, 0, 42 * CLUSTER)]
    assert all(left != right for left, right in pairwise(flags))


def test_whole_clusters_are_read_without_a_copy() -> None:
    image = Image(2 * CLUSTER, path="a")
    image.write(0, b"x" * CLUSTER)
    assert image.read_slices(0, CLUSTER)[0] is image.read_slices(0, 2 * CLUSTER)[0]


def test_a_slice_outlives_the_next_write() -> None:
    image = Image(CLUSTER, path="a")
    image.write(0, b"old")
    (piece,) = image.read_slices(0, 3)
    image.write(0, b"new")
    assert bytes(piece) == b"old"


def test_reading_nothing_gives_nothing() -> None:
    assert Image(10, path="a").read_slices(3, 0) == []


@pytest.mark.parametrize(("offset", "length"), [(0, 11), (11, 0), (-1, 1), (5, -1)])
def test_reading_outside_names_offset_and_capacity(offset: int, length: int) -> None:
    with pytest.raises(OutOfRange, match=rf"{offset} exceed the disk's capacity of 10"):
        Image(10, path="a").read(offset, length)


def test_extents_of_a_huge_hole_are_one() -> None:
    size = 8 << 40
    assert list(Image(size, path="a").extents(0, size)) == [hole(0, size)]


def test_extents_are_cut_to_the_request() -> None:
    image = Image(3 * CLUSTER, path="a")
    image.write(CLUSTER, b"x")
    extents = list(image.extents(CLUSTER - 5, 10))
    assert extents == [hole(CLUSTER - 5, 5), data(CLUSTER, 5)]
