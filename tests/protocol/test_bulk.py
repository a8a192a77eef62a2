"""The columns for long lists: the borders that random values seldom hit.

That the bytes are xdrlib3's is shown for every struct in `test_xdr`.
"""

import pytest

from virtbackupd.protocol import bulk
from virtbackupd.protocol.errors import XdrEncodeError
from virtbackupd.protocol.idl import parse
from virtbackupd.protocol.packing import Value
from virtbackupd.protocol.xdr import Codec, Compiler


def codec(text: str) -> Codec:
    return Compiler(parse(text)).codec("x")


def same(described: Codec, many: list[Value]) -> bool:
    """Do the columns give the bytes of the values one by one?"""
    return bulk.join(described.columns(many)) == b"".join(map(described.encode, many))


@pytest.mark.parametrize("length", [0, 1, 3, 4, 1023, 1024, 1025, 5000])
def test_string_of_any_length(length: int) -> None:
    assert same(codec("typedef string x<5000>;"), ["a" * length, "b"])


def test_strings_that_are_not_utf8() -> None:
    assert same(codec("typedef string x<9>;"), ["plain", "\udcff", "ä"])


@pytest.mark.parametrize("size", [1, 2, 3, 4, 16])
def test_fixed_opaque_of_any_size(size: int) -> None:
    assert same(codec(f"typedef opaque x[{size}];"), [b"a" * size, b"b" * size])


@pytest.mark.parametrize("many", [[None], [None, None], [1, None, 2], [1]])
def test_optional(many: list[Value]) -> None:
    assert same(codec("typedef int *x;"), many)


@pytest.mark.parametrize("many", [[[]], [[], []], [[1, 2], [], [3]]])
def test_lists_of_lists(many: list[Value]) -> None:
    assert same(codec("typedef int x<9>;"), many)


def test_union_with_number_text_and_void() -> None:
    text = "union x switch (int k) { case 1: hyper i; case 2: string s<9>; case 3: void; };"
    assert same(codec(text), [(1, -1), (2, "abc"), (3, None)])


def test_lists_around_the_threshold() -> None:
    numbers = codec("typedef int x<9>;")
    for count in range(9):
        assert numbers.decode(numbers.encode(list(range(count))))[0] == list(range(count))


LIST = "struct s { string name<4>; opaque id[4]; int a; int b; }; typedef s x<9>;"


@pytest.mark.parametrize(
    "wrong",
    [
        ("abcde", b"1234", 1, 2),
        ("abcd", b"12345", 1, 2),
        ("abcd", b"1234", 1, 2**31),
        ("abcd", b"1234", 1),
        ("abcd", b"1234", 1, 2, 3),
        ("abcd", b"1234", "1", 2),
        (None, b"1234", 1, 2),
        ("\ud800", b"1234", 1, 2),
        None,
    ],
)
def test_one_wrong_item_in_a_long_list(wrong: Value) -> None:
    right = ("abcd", b"1234", 1, 2)
    with pytest.raises(XdrEncodeError):
        codec(LIST).encode([right] * 7 + [wrong])


def test_too_long_a_list() -> None:
    with pytest.raises(XdrEncodeError, match="limit of 9"):
        codec(LIST).encode([("abcd", b"1234", 1, 2)] * 10)


def test_too_long_a_list_within_a_long_list() -> None:
    with pytest.raises(XdrEncodeError, match="limit of 2"):
        codec("typedef int y<2>; typedef y x<9>;").encode([[1]] * 7 + [[1, 2, 3]])


def test_union_without_the_arm_in_a_long_list() -> None:
    text = "union u switch (int k) { case 1: int i; }; typedef u x<9>;"
    with pytest.raises(XdrEncodeError, match="no arm 2"):
        codec(text).encode([(1, 1)] * 7 + [(2, 1)])
