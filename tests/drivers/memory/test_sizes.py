"""Sizes as QEMU's tools write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtbackupd.drivers.memory.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("65536", 65536),
        ("0x10000", 65536),
        ("512b", 512),
        ("64k", 65536),
        ("64K", 65536),
        ("0.5M", 524288),
        ("2 GiB", 2 << 30),
        ("1T", 1 << 40),
        (" 16 MiB ", 16 << 20),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "-1", "1 x", "1.5.5", "ten", "8E", "0xk", "1\n2"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"size|bits"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (512, "512 bytes"),
        (1024, "1 KiB"),
        (66_000_000, "62.943 MiB"),
        (1 << 31, "2 GiB"),
    ],
)
def test_sizes_are_printed(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, 1023), st.integers(0, 5))
def test_whole_units_survive_a_round_trip(number: int, power: int) -> None:
    size = number << 10 * power
    assert parse_size(format_size(size).replace("bytes", "b")) == size
