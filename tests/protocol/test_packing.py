"""Every rule of the wire for single values: bytes as libvirt sends them, limits, tolerances.

Values are checked against bytes written out by hand; whole types follow in `test_xdr`.
"""

import pytest

from virtbackupd.protocol.errors import XdrEncodeError, XdrError
from virtbackupd.protocol.idl import parse
from virtbackupd.protocol.packing import Value
from virtbackupd.protocol.xdr import Codec, Compiler


def codec(declaration: str) -> Codec:
    """The codec of one declared value."""
    return Compiler(parse(f"typedef {declaration};")).codec("x")


@pytest.mark.parametrize(
    ("declaration", "value", "data"),
    [
        ("int x", -1, "ffffffff"),
        ("unsigned int x", 4294967295, "ffffffff"),
        ("hyper x", -2, "fffffffffffffffe"),
        ("unsigned hyper x", 2**64 - 1, "ffffffffffffffff"),
        ("unsigned char x", 255, "000000ff"),
        ("unsigned short x", 65535, "0000ffff"),
        ("short x", -1, "ffffffff"),
        ("bool x", True, "00000001"),
        ("double x", 0.5, "3fe0000000000000"),
        ("float x", 0.5, "3f000000"),
        ("string x<9>", "abcde", "00000005 6162636465000000"),
        ("string x<9>", "", "00000000"),
        ("string x<9>", "ä", "00000002 c3a40000"),
        ("opaque x[3]", b"\1\2\3", "01020300"),
        ("opaque x<9>", b"\1\2\3", "00000003 01020300"),
        ("char x<9>", b"ab", "00000002 00000061 00000062"),
        ("char x[2]", b"ab", "00000061 00000062"),
        ("char x<9>", b"\xff\x80", "00000002 ffffffff ffffff80"),
        ("int *x", None, "00000000"),
        ("int *x", 7, "00000001 00000007"),
        ("int x<9>", [1, 2], "00000002 00000001 00000002"),
        ("int x[2]", [1, 2], "00000001 00000002"),
    ],
)
def test_value_and_bytes(declaration: str, value: Value, data: str) -> None:
    raw = bytes.fromhex(data)
    assert codec(declaration).encode(value) == raw
    assert codec(declaration).decode(raw) == (value, len(raw))


@pytest.mark.parametrize(
    ("declaration", "data", "value"),
    [
        ("int *x", "01000000 00000007", 7),
        ("int *x", "00000002 00000007", 7),
        ("bool x", "00000005", True),
        ("string x<9>", "00000001 61ffffff", "a"),
        ("opaque x[1]", "61ffffff", b"a"),
        ("char x<9>", "00000001 12345661", b"a"),
        ("unsigned char x", "12345661", 0x61),
        ("string x<9>", "00000001 ff000000", "\udcff"),
    ],
)
def test_what_libvirt_tolerates(declaration: str, data: str, value: Value) -> None:
    assert codec(declaration).decode(bytes.fromhex(data))[0] == value


def test_what_follows_is_not_looked_at() -> None:
    assert codec("int x").decode(bytes.fromhex("00000007 ffff")) == (7, 4)


def test_decoding_starts_at_the_offset() -> None:
    assert codec("string x<9>").decode(b"\0\0\0\0\0\0\0\1a\0\0\0", 4) == ("a", 12)


def test_bytes_that_are_not_utf8_come_back() -> None:
    text = codec("string x<9>")
    raw = bytes.fromhex("00000002 ff800000")
    assert text.encode(text.decode(raw)[0]) == raw


def test_short_char_array_is_filled_up() -> None:
    assert codec("char x[4]").encode(b"a") == bytes.fromhex("00000061" + 3 * "00000000")


@pytest.mark.parametrize(
    ("declaration", "data"),
    [
        ("int x", "000000"),
        ("hyper x", "00000000 000000"),
        ("double x", "00000000"),
        ("bool x", ""),
        ("string x<9>", "00000005 61626364"),
        ("string x<9>", "00000009"),
        ("opaque x[5]", "0102030405"),
        ("char x<9>", "00000002 00000061"),
        ("char x[2]", "00000061"),
        ("int *x", "00000001"),
        ("int x[2]", "00000001"),
    ],
)
def test_missing_bytes(declaration: str, data: str) -> None:
    with pytest.raises(XdrError, match="end in the middle"):
        codec(declaration).decode(bytes.fromhex(data))


@pytest.mark.parametrize(
    "declaration", ["string x<4>", "opaque x<4>", "char x<4>", "int x<4>", "string x<>"]
)
def test_announced_length_over_the_limit(declaration: str) -> None:
    with pytest.raises(XdrError):
        codec(declaration).decode(bytes.fromhex("ffffffff") + bytes(64))


def test_limit_itself_is_allowed() -> None:
    assert codec("string x<4>").decode(b"\0\0\0\4abcd")[0] == "abcd"


def test_count_is_weighed_against_what_follows() -> None:
    with pytest.raises(XdrError, match="1000 items, but only 8 bytes follow"):
        codec("int x<1000>").decode(bytes.fromhex("000003e8") + bytes(8))


def test_count_is_weighed_with_the_least_size_of_an_item() -> None:
    types = parse("struct big { hyper a; opaque b[16]; }; typedef big x<100>;")
    with pytest.raises(XdrError, match="2 items"):
        Compiler(types).codec("x").decode(bytes.fromhex("00000002") + bytes(47))


@pytest.mark.parametrize(
    ("declaration", "value"),
    [
        ("int x", 2**31),
        ("unsigned int x", -1),
        ("hyper x", 2**63),
        ("unsigned hyper x", -1),
        ("unsigned hyper x", 2**64),
        ("unsigned char x", 256),
        ("int x", "1"),
        ("int x", None),
        ("string x<4>", "abcde"),
        ("string x<4>", "äää"),
        ("string x<4>", b"abc"),
        ("string x<4>", None),
        ("string x<4>", "\ud800"),
        ("opaque x<4>", b"abcde"),
        ("opaque x[4]", b"abc"),
        ("opaque x[4]", b"abcde"),
        ("char x[2]", b"abc"),
        ("char x<2>", b"abc"),
        ("int x<2>", [1, 2, 3]),
        ("int x[2]", [1]),
    ],
)
def test_value_that_does_not_fit(declaration: str, value: Value) -> None:
    with pytest.raises(XdrEncodeError):
        codec(declaration).encode(value)


def union() -> Codec:
    text = "union x switch (int kind) { case 1: int i; case 2: string s<9>; case 3: void; };"
    return Compiler(parse(text)).codec("x")


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ((1, 5), "00000001 00000005"),
        ((2, "a"), "00000002 00000001 61000000"),
        ((3, None), "00000003"),
    ],
)
def test_union(value: tuple[int, Value], data: str) -> None:
    raw = bytes.fromhex(data)
    assert union().encode(value) == raw
    assert union().decode(raw) == (value, len(raw))


def test_union_without_the_arm() -> None:
    with pytest.raises(XdrError, match="no arm 9"):
        union().decode(bytes.fromhex("00000009"))
    with pytest.raises(XdrEncodeError, match="no arm 9"):
        union().encode((9, 1))


@pytest.mark.parametrize("value", [(1,), (1, 2, 3), 5, "ab"])
def test_struct_of_another_shape(value: Value) -> None:
    with pytest.raises(XdrEncodeError):
        Compiler(parse("struct x { int a; hyper b; };")).codec("x").encode(value)


def test_struct_with_numbers_on_both_sides() -> None:
    types = parse("struct x { int a; hyper b; string c<9>; unsigned char d; };")
    raw = bytes.fromhex("00000001 0000000000000002 00000001 61000000 00000003")
    assert Compiler(types).codec("x").encode((1, 2, "a", 3)) == raw
    assert Compiler(types).codec("x").decode(raw)[0] == (1, 2, "a", 3)
