"""Images against a plain byte array, and the promises that a byte array cannot show."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtbackupd.drivers.memory.clusters import CLUSTER, OutOfRange
from virtbackupd.drivers.memory.image import Image

CAPACITY = 4 * CLUSTER + 1000
KIB = 1024


def image_with(*clusters: int, capacity: int = CAPACITY, backing: Image | None = None) -> Image:
    image = Image(capacity, path="/images/a", backing=backing)
    for index in clusters:
        image.write(index * CLUSTER, b"x")
    return image


def test_a_new_image_reads_zeroes_and_takes_no_space() -> None:
    image = Image(CAPACITY, path="a")
    assert image.read(0, CAPACITY) == bytes(CAPACITY)
    assert image.allocation == 0


def test_what_was_written_is_read() -> None:
    image = Image(CAPACITY, path="a")
    image.write(CLUSTER - 2, b"abcd")
    assert image.read(CLUSTER - 3, 6) == b"\0abcd\0"


def test_a_raw_file_is_sparse() -> None:
    assert Image(CAPACITY, path="/a", format="raw").physical == CAPACITY
    assert Image(CAPACITY, path="/a").physical == 0


def test_allocation_counts_clusters() -> None:
    assert image_with(0, 3).allocation == 2 * CLUSTER


@pytest.mark.parametrize("free", [Image.discard, Image.write_zeroes])
def test_freed_clusters_take_no_space(free: Callable[[Image, int, int], None]) -> None:
    image = image_with(0, 1, 4)
    free(image, 0, CAPACITY)
    assert (image.allocation, image.read(0, CAPACITY)) == (0, bytes(CAPACITY))


def test_discard_leaves_clusters_touched_in_part() -> None:
    image = image_with(0, 1)
    image.discard(0, CLUSTER + 5)
    assert image.read(CLUSTER, 1) == b"x"


def test_zeroes_into_a_part_of_a_hole_are_no_data() -> None:
    image = image_with(0)
    image.write_zeroes(CLUSTER + 512, 512)
    assert (image.allocation, image.read(CLUSTER, 2048)) == (CLUSTER, bytes(2048))


def test_written_zeroes_are_data() -> None:
    image = Image(CAPACITY, path="a")
    image.fill(0, CLUSTER, 0)
    assert image.allocation == CLUSTER


def test_filled_clusters_share_their_storage() -> None:
    image = Image(CAPACITY, path="a")
    image.fill(10, 3 * CLUSTER, 0xAB)
    assert image.cluster(1) is image.cluster(2)
    assert image.read(0, 12) == bytes(10) + b"\xab\xab"


@pytest.mark.parametrize("offset", [CAPACITY, CAPACITY - 2, -1])
def test_writing_outside_is_refused(offset: int) -> None:
    with pytest.raises(OutOfRange):
        Image(CAPACITY, path="a").write(offset, b"abc")


def test_backing_contents_show_through() -> None:
    assert image_with(1, backing=image_with(0)).data_clusters() == [0, 1]


def test_writing_leaves_the_backing_image_alone() -> None:
    base = image_with(0)
    top = image_with(backing=base)
    top.write(1, b"y")
    assert (top.read(0, 2), base.read(0, 2)) == (b"xy", b"x\0")


@pytest.mark.parametrize("free", [Image.discard, Image.write_zeroes])
def test_freeing_hides_the_backing_image(free: Callable[[Image, int, int], None]) -> None:
    top = image_with(backing=image_with(0, 2))
    free(top, 0, CLUSTER)
    assert (top.read(0, 1), top.data_clusters(), top.allocation) == (b"\0", [2], 0)


def test_a_smaller_backing_image_ends_in_zeroes() -> None:
    top = image_with(backing=image_with(0, capacity=CLUSTER))
    assert top.read(0, CAPACITY) == b"x" + bytes(CAPACITY - 1)


def test_pattern_fills_whole_clusters_unnoticed() -> None:
    image = Image(CAPACITY, path="a")
    bitmap = image.bitmaps.add("b")
    image.fill_pattern(3, 0, CAPACITY)
    assert image.data_clusters() == [0, 1, 2, 3, 4]
    assert bitmap.count == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.write(CLUSTER, b"x"),
        lambda image: image.fill(CLUSTER, 5, 1),
        lambda image: image.write_zeroes(CLUSTER, 5),
        lambda image: image.discard(CLUSTER, 5),
    ],
)
def test_every_change_is_dirty(change: Callable[[Image], None]) -> None:
    image = Image(CAPACITY, path="a")
    bitmap = image.bitmaps.add("b")
    change(image)
    assert bitmap.dirty_clusters() == [1]


def test_growth_is_zero_and_clean() -> None:
    image = image_with(0)
    bitmap = image.bitmaps.add("b")
    image.resize(9 * CLUSTER)
    assert (image.read(CAPACITY, 10), bitmap.count) == (bytes(10), 0)


def test_growth_does_not_uncover_the_backing_image() -> None:
    base = image_with(0, 1)
    base.write(50, b"y" * 100)
    top = image_with(backing=base, capacity=100)
    top.resize(CAPACITY)
    assert top.read(100, CAPACITY - 100) == bytes(CAPACITY - 100)


def test_what_was_cut_off_stays_lost() -> None:
    image = image_with(0, 3)
    image.write(10, b"yyyy")
    image.resize(12)
    image.resize(CAPACITY)
    assert image.read(10, CAPACITY - 10) == b"yy" + bytes(CAPACITY - 12)


def test_cutting_forgets_dirty_clusters() -> None:
    image = image_with()
    bitmap = image.bitmaps.add("b")
    image.write(3 * CLUSTER, b"x")
    image.resize(CLUSTER)
    assert bitmap.count == 0


ranges = st.tuples(st.integers(0, CAPACITY), st.integers(0, 2 * CLUSTER))
operations = st.lists(
    st.tuples(st.sampled_from(["write", "fill", "zero", "discard"]), ranges), max_size=12
)


def apply_both(image: Image, model: bytearray, name: str, offset: int, length: int) -> set[int]:
    """Change an image and a byte array alike; the clusters that must be dirty for it."""
    length = min(length, CAPACITY - offset)
    end = offset + length
    if name == "write":
        image.write(offset, b"w" * length)
        model[offset:end] = b"w" * length
    elif name == "fill":
        image.fill(offset, length, 7)
        model[offset:end] = b"\7" * length
    elif name == "zero":
        image.write_zeroes(offset, length)
        model[offset:end] = bytes(length)
    else:
        image.discard(offset, length)
        start, stop = -(-offset // CLUSTER) * CLUSTER, end // CLUSTER * CLUSTER
        stop = end if end == CAPACITY else stop
        model[start:stop] = bytes(max(stop - start, 0))
    return {position // CLUSTER for position in (*range(offset, end, KIB), end - 1) if length}


@given(operations, st.booleans())
def test_an_image_agrees_with_a_byte_array(
    script: list[tuple[str, tuple[int, int]]], backed: bool
) -> None:
    image = image_with(backing=image_with(0, 2, 4) if backed else None)
    bitmap = image.bitmaps.add("b")
    model, dirty = bytearray(image.read(0, CAPACITY)), set[int]()
    for name, (offset, length) in script:
        dirty |= apply_both(image, model, name, offset, length)
    assert image.read(0, CAPACITY) == model
    assert bitmap.dirty_clusters() == sorted(dirty)
    assert_extents_tell_the_truth(image)


def assert_extents_tell_the_truth(image: Image) -> None:
    position = 0
    for offset, length, allocated, zero in image.extents(0, image.capacity):
        assert offset == position
        assert allocated != zero
        assert allocated or not any(image.read(offset, length))
        position += length
    assert position == image.capacity


@given(operations, operations)
def test_a_frozen_view_keeps_its_instant(
    before: list[tuple[str, tuple[int, int]]], after: list[tuple[str, tuple[int, int]]]
) -> None:
    image, model = image_with(backing=image_with(1)), bytearray(CAPACITY)
    for name, (offset, length) in before:
        apply_both(image, model, name, offset, length)
    wanted, extents = image.read(0, CAPACITY), list(image.extents(0, CAPACITY))
    with image.freeze() as frozen:
        for name, (offset, length) in after:
            apply_both(image, model, name, offset, length)
        assert frozen.read(0, CAPACITY) == wanted
        assert list(frozen.extents(0, CAPACITY)) == extents


def test_a_thousand_bitmaps_do_not_slow_a_write() -> None:
    image = image_with()
    bitmaps = [image.bitmaps.add(str(number)) for number in range(1000)]
    image.write(0, b"x")
    assert {bitmap.count for bitmap in bitmaps} == {CLUSTER}
    assert len(list(image._log.since(0))) == 1
