"""The qcow2 header and table arithmetic, without files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtbackupd.drivers.qcow2 import (
    CLUSTER_SIZE,
    HEADER_V2,
    MAGIC,
    REFCOUNTS_PER_BLOCK,
    ImageFormatError,
    build_header,
    empty_image,
    find_backing,
    l1_entries,
    parse_header,
    plan_tables,
)

GIB = 1 << 30


def header(backing_file: str | None = None, backing_format: str | None = None) -> bytes:
    return build_header(GIB, plan_tables(1, GIB), backing_file, backing_format)


def test_a_header_is_read_back() -> None:
    parsed = parse_header(header("base.raw", "raw"), "a")
    assert (parsed.version, parsed.capacity, parsed.cluster_bits) == (3, GIB, 16)
    assert (parsed.backing_file, parsed.backing_format) == ("base.raw", "raw")


def test_a_header_without_backing_file() -> None:
    parsed = parse_header(header(), "a")
    assert (parsed.backing_file, parsed.backing_format) == (None, None)


def test_a_backing_name_has_a_limit() -> None:
    with pytest.raises(ImageFormatError, match="longer than 1023 bytes"):
        header("x" * 1024)


@given(st.integers(1, 10**7), st.integers(0, 1 << 50))
def test_the_plan_counts_every_cluster(start: int, capacity: int) -> None:
    plan = plan_tables(start, capacity)
    assert plan.refcount_block_count * REFCOUNTS_PER_BLOCK >= plan.end
    assert plan.refcount_table_clusters * CLUSTER_SIZE >= plan.refcount_block_count * 8
    assert (plan.refcount_blocks - plan.l1) * CLUSTER_SIZE >= l1_entries(capacity) * 8


@pytest.mark.parametrize("data", [b"", MAGIC, b"\0" * 512, b"QFI\xfa" + bytes(200)])
def test_what_is_no_qcow2_is_refused(data: bytes) -> None:
    with pytest.raises(ImageFormatError, match=r"disk\.img is not a qcow2 image"):
        parse_header(data, "disk.img")


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ImageFormatError, match="version 9"):
        parse_header(MAGIC + b"\0\0\0\x09" + bytes(200), "a")


def test_an_unknown_feature_is_refused() -> None:
    data = bytearray(header())
    data[HEADER_V2.size + 7] = 4
    with pytest.raises(ImageFormatError, match="features 0x4"):
        parse_header(bytes(data), "a")


@given(st.binary(max_size=300))
def test_any_header_is_read_or_refused(noise: bytes) -> None:
    try:
        parse_header(MAGIC + b"\0\0\0\3" + noise, "a")
    except ImageFormatError:
        return


@pytest.mark.parametrize("capacity", [512, 1 << 20, 1 << 40, (1 << 44) + 512])
def test_an_empty_image_has_all_its_tables(capacity: int) -> None:
    pieces = dict(empty_image(capacity, "/base", "raw"))
    parsed = parse_header(pieces[0].ljust(CLUSTER_SIZE, b"\0"), "image")
    assert (parsed.capacity, parsed.backing_file) == (capacity, "/base")
    assert all(offset % CLUSTER_SIZE == 0 for offset in pieces)


def test_backing_is_found_in_any_header() -> None:
    assert find_backing(empty_image(1 << 20, "/base", "raw")[0][1]) == ("/base", "raw")
    assert find_backing(empty_image(1 << 20)[0][1]) is None
    assert find_backing(b"no image") is None
