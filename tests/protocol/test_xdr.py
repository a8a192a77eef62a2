"""The compiled codecs against xdrlib3, over every struct of the interface.

`reference` packs a value by walking the description with xdrlib3's calls and nothing else; the
compiled codec has to give the same bytes and to read them back.
"""

import string
from importlib import resources
from typing import assert_never

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdrlib3 import Packer

from virtbackupd.protocol import bulk
from virtbackupd.protocol.errors import XdrError
from virtbackupd.protocol.idl import (
    Declaration,
    EnumType,
    IdlError,
    Shape,
    Specification,
    Struct,
    Typedef,
    Union,
    parse,
)
from virtbackupd.protocol.packing import Value
from virtbackupd.protocol.xdr import Codec, Compiler

LONGEST = 6
INTERFACE = parse(
    (resources.files("virtbackupd.protocol") / "remote_protocol.x").read_text("utf-8")
)
COMPILER = Compiler(INTERFACE)
STRUCTS = sorted(name for name, kind in INTERFACE.types.items() if isinstance(kind, Struct))
NUMBERS = {
    "int": st.integers(-(2**31), 2**31 - 1),
    "unsigned int": st.integers(0, 2**32 - 1),
    "hyper": st.integers(-(2**63), 2**63 - 1),
    "unsigned hyper": st.integers(0, 2**64 - 1),
    "unsigned char": st.integers(0, 255),
    "unsigned short": st.integers(0, 65535),
    "double": st.floats(allow_nan=False),
}
TEXT = st.text(string.printable + "äß\u20ac\U0001f600\udc80\udcff", max_size=9)


def values(types: Specification, name: str) -> st.SearchStrategy[Value]:
    """Values of a named type."""
    if name in NUMBERS:
        return NUMBERS[name]
    kind = types.types[name]
    match kind:
        case EnumType():
            return NUMBERS["int"]
        case Typedef():
            return declared(types, kind.declaration)
        case Struct():
            return st.tuples(*(declared(types, field) for field in kind.fields))
        case Union():
            return st.one_of(*(_arm(types, *arm) for arm in kind.arms.items()))
        case _:
            assert_never(kind)


def _arm(types: Specification, kind: int, arm: Declaration | None) -> st.SearchStrategy[Value]:
    return st.tuples(st.just(kind), st.none() if arm is None else declared(types, arm))


def declared(types: Specification, field: Declaration) -> st.SearchStrategy[Value]:
    most = min(field.size if field.size is not None else LONGEST, LONGEST)
    match field.type_name, field.shape:
        case "string", _:
            return TEXT
        case (("opaque" | "char"), Shape.FIXED_ARRAY):
            return st.binary(min_size=field.size or 0, max_size=field.size)
        case (("opaque" | "char"), _):
            return st.binary(max_size=most)
        case _, Shape.OPTIONAL:
            return st.none() | values(types, field.type_name)
        case _, Shape.VARIABLE_ARRAY:
            return st.lists(values(types, field.type_name), max_size=most)
        case _, Shape.FIXED_ARRAY:
            size = field.size or 0
            return st.lists(values(types, field.type_name), min_size=size, max_size=size)
        case _:
            return values(types, field.type_name)


def reference(types: Specification, name: str, packer: Packer, value: Value) -> None:
    """Packs a value of a named type the plain way."""
    plain = {
        "int": packer.pack_int,
        "unsigned int": packer.pack_uint,
        "unsigned char": packer.pack_uint,
        "unsigned short": packer.pack_uint,
        "hyper": packer.pack_hyper,
        "unsigned hyper": packer.pack_uhyper,
        "double": packer.pack_double,
    }
    if name in plain:
        plain[name](value)
        return
    kind = types.types[name]
    match kind:
        case EnumType():
            packer.pack_enum(value)
        case Typedef():
            reference_declared(types, kind.declaration, packer, value)
        case Struct():
            for field, part in zip(kind.fields, value, strict=True):
                reference_declared(types, field, packer, part)
        case Union():
            packer.pack_int(value[0])
            arm = kind.arms[value[0]]
            if arm is not None:
                reference_declared(types, arm, packer, value[1])
        case _:
            assert_never(kind)


def reference_declared(
    types: Specification, field: Declaration, packer: Packer, value: Value
) -> None:
    if field.type_name in {"string", "opaque", "char"}:
        reference_bytes(field, packer, value)
        return

    def item(one: Value) -> None:
        reference(types, field.type_name, packer, one)

    match field.shape:
        case Shape.ONE:
            item(value)
        case Shape.OPTIONAL:
            packer.pack_bool(value is not None)
            if value is not None:
                item(value)
        case Shape.VARIABLE_ARRAY:
            packer.pack_array(value, item)
        case Shape.FIXED_ARRAY:
            packer.pack_farray(len(value), value, item)
        case _:
            assert_never(field.shape)


def reference_bytes(field: Declaration, packer: Packer, value: Value) -> None:
    def char(one: int) -> None:
        packer.pack_int(one - 256 if one > 127 else one)

    match field.type_name, field.shape:
        case "string", _:
            packer.pack_string(value.encode("utf-8", "surrogateescape"))
        case "opaque", Shape.FIXED_ARRAY:
            packer.pack_fopaque(len(value), value)
        case "opaque", _:
            packer.pack_opaque(value)
        case "char", Shape.FIXED_ARRAY:
            packer.pack_farray(len(value), value, char)
        case _:
            packer.pack_array(value, char)


def packed(name: str, value: Value) -> bytes:
    packer = Packer()
    reference(INTERFACE, name, packer, value)
    return packer.get_buffer()


def codec(text: str, name: str = "x") -> Codec:
    return Compiler(parse(text)).codec(name)


@given(st.data())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_every_struct_gives_xdrlib3s_bytes_and_comes_back(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(STRUCTS))
    value = data.draw(values(INTERFACE, name))
    expected = packed(name, value)
    assert COMPILER.codec(name).encode(value) == expected
    assert COMPILER.codec(name).decode(expected) == (value, len(expected))


@given(st.data())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_many_structs_at_once_give_xdrlib3s_bytes(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(STRUCTS))
    many = data.draw(st.lists(values(INTERFACE, name), min_size=1, max_size=6))
    expected = b"".join(packed(name, value) for value in many)
    assert bulk.join(COMPILER.codec(name).columns(many)) == expected


def test_nothing_is_read_from_less_than_the_least_size() -> None:
    for name in STRUCTS:
        described = COMPILER.codec(name)
        with pytest.raises(XdrError):
            described.decode(bytes(described.size - 1))


def test_codec_is_made_once() -> None:
    assert COMPILER.codec("remote_nonnull_domain") is COMPILER.codec("remote_nonnull_domain")


def test_unknown_type() -> None:
    with pytest.raises(IdlError, match="no type is called 'nothing'"):
        codec("struct x { nothing a; };")


@pytest.mark.parametrize(
    "text",
    ["struct x { x *next; };", "typedef x x<5>;", "struct x { y a; }; struct y { x b<2>; };"],
)
def test_type_that_contains_itself(text: str) -> None:
    with pytest.raises(IdlError, match="contains itself"):
        codec(text)


def test_same_type_twice_side_by_side_is_no_recursion() -> None:
    assert codec("struct y { int i; }; struct x { y a; y b; };").encode(((1,), (2,))) == bytes(
        [0, 0, 0, 1, 0, 0, 0, 2]
    )


def test_failed_type_can_be_asked_for_again() -> None:
    compiler = Compiler(parse("struct x { nothing a; };"))
    for _ in range(2):
        with pytest.raises(IdlError, match="nothing"):
            compiler.codec("x")
