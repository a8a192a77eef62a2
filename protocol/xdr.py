"""One IDL type to one codec, for both directions.

The compiler walks a description once, on demand, and puts the codec together from `packing` (one
value) and `bulk` (many). Values are plain Python:

    struct -> tuple in field order      union -> (discriminant, value)     pointer -> value or None
    array -> list                       integers, enums -> int             double -> float
    string -> str (surrogateescape)     opaque, char arrays -> bytes       bool -> bool

A type that contains itself is refused, so the description bounds how deeply values nest.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import assert_never

from xdrlib3 import Error as XdrlibError
from xdrlib3 import Packer, Unpacker

from virtbackupd.protocol import bulk, packing
from virtbackupd.protocol.errors import XdrEncodeError, XdrError
from virtbackupd.protocol.idl import (
    Declaration,
    Definition,
    EnumType,
    IdlError,
    Shape,
    Specification,
    Struct,
    Typedef,
    Union,
)
from virtbackupd.protocol.packing import Value

_UNBOUNDED = 0xFFFFFFFF
_BULK_THRESHOLD = 4
"""From this many items on, the columns of `bulk` are cheaper than a loop."""

# RFC 4506 4.1: integers shorter than 32 bits travel as a word. The upper bytes of the unsigned
# ones are ignored, as a C cast does.
_NUMBER_FORMATS = {
    "int": "i",
    "unsigned int": "I",
    "hyper": "q",
    "unsigned hyper": "Q",
    "float": "f",
    "double": "d",
    "char": "i",
    "short": "i",
    "unsigned char": "3xB",
    "unsigned short": "2xH",
}


@dataclass(frozen=True, slots=True)
class Codec:
    """Packs and unpacks values of one type. `size` is the least number of bytes a value takes."""

    packing: packing.Packing
    columns: bulk.Columns
    size: int
    number_format: str | None = None

    def decode(self, buffer: bytes, offset: int = 0) -> tuple[Value, int]:
        """The value at `offset` and the offset behind it; what follows is not looked at."""
        unpacker = Unpacker(buffer)
        unpacker.set_position(offset)
        try:
            return self.packing.unpack(unpacker), unpacker.get_position()
        except (struct.error, EOFError, XdrlibError) as error:
            raise XdrError("the data end in the middle of a value") from error

    def encode(self, value: Value) -> bytes:
        packer = Packer()
        try:
            self.packing.pack(packer, value)
        except (struct.error, XdrlibError, TypeError, ValueError, AttributeError) as error:
            raise XdrEncodeError(f"a value does not fit its type: {error}") from error
        return packer.get_buffer()


class Compiler:
    """Codecs for the types of one specification, each made when first asked for."""

    def __init__(self, specification: Specification) -> None:
        self._types = specification.types
        self._codecs: dict[str, Codec] = {
            name: _number(number_format) for name, number_format in _NUMBER_FORMATS.items()
        }
        self._codecs["bool"] = _codec(packing.boolean(), 4)
        self._open: set[str] = set()

    def codec(self, type_name: str) -> Codec:
        """Raises `IdlError` for a type that is unknown or contains itself."""
        if type_name not in self._codecs:
            self._codecs[type_name] = self._compile(type_name)
        return self._codecs[type_name]

    def _compile(self, type_name: str) -> Codec:
        if type_name not in self._types:
            raise IdlError(f"no type is called {type_name!r}")
        if type_name in self._open:
            raise IdlError(f"type {type_name} contains itself")
        self._open.add(type_name)
        try:
            return self._definition(self._types[type_name])
        finally:
            self._open.discard(type_name)

    def _definition(self, definition: Definition) -> Codec:
        match definition:
            case EnumType():
                return self.codec("int")
            case Typedef():
                return self._declaration(definition.declaration)
            case Struct():
                return _struct([self._declaration(field) for field in definition.fields])
            case Union():
                return self._union(definition)
            case _:
                assert_never(definition)

    def _declaration(self, declared: Declaration) -> Codec:
        """A string, opaque or char array is one value; any other array is a list."""
        limit = _UNBOUNDED if declared.size is None else declared.size
        special = _BYTE_ARRAYS.get((declared.type_name, declared.shape))
        if special is not None:
            return special(limit)
        inner = self.codec(declared.type_name)
        match declared.shape:
            case Shape.ONE:
                return inner
            case Shape.OPTIONAL:
                return _optional(inner)
            case Shape.FIXED_ARRAY:
                return _fixed_array(inner, limit)
            case Shape.VARIABLE_ARRAY:
                return _array(inner, limit)
            case _:
                assert_never(declared.shape)

    def _union(self, definition: Union) -> Codec:
        discriminant = self._declaration(definition.discriminant)
        arms = {
            kind: None if arm is None else self._declaration(arm)
            for kind, arm in definition.arms.items()
        }
        return _union(discriminant, arms)


def _record(formats: str) -> struct.Struct:
    return struct.Struct(">" + formats)


def _encoder(pair: packing.Packing) -> Callable[[Value], bytes]:
    def encode(value: Value) -> bytes:
        packer = Packer()
        pair.pack(packer, value)
        return packer.get_buffer()

    return encode


def _codec(pair: packing.Packing, size: int, columns: bulk.Columns | None = None) -> Codec:
    return Codec(pair, columns or bulk.one_by_one(_encoder(pair)), size)


def _number(number_format: str) -> Codec:
    record = _record(number_format)
    return Codec(packing.number(record), bulk.number(record), record.size, number_format)


def _text(limit: int) -> Codec:
    return _codec(packing.text(limit), 4, bulk.text(limit))


def _opaque(limit: int) -> Codec:
    return _codec(packing.opaque(limit), 4)


def _fixed_opaque(size: int) -> Codec:
    return _codec(packing.fixed_opaque(size), size + -size % 4, bulk.fixed_opaque(size))


def _chars(limit: int) -> Codec:
    return _codec(packing.chars(limit), 4)


def _fixed_chars(size: int) -> Codec:
    return _codec(packing.fixed_chars(size), 4 * size)


_BYTE_ARRAYS: dict[tuple[str, Shape], Callable[[int], Codec]] = {
    ("string", Shape.VARIABLE_ARRAY): _text,
    ("opaque", Shape.VARIABLE_ARRAY): _opaque,
    ("opaque", Shape.FIXED_ARRAY): _fixed_opaque,
    ("char", Shape.VARIABLE_ARRAY): _chars,
    ("char", Shape.FIXED_ARRAY): _fixed_chars,
}


def _optional(inner: Codec) -> Codec:
    return _codec(packing.optional(inner.packing), 4, bulk.optional(inner.columns))


def _items_packer(inner: Codec) -> packing.Pack:
    def pack(packer: Packer, values: Sequence[Value]) -> None:
        if len(values) < _BULK_THRESHOLD:
            for value in values:
                inner.packing.pack(packer, value)
        else:
            data = bulk.join(inner.columns(values))
            packer.pack_fopaque(len(data), data)

    return pack


def _array(inner: Codec, limit: int) -> Codec:
    pair = packing.array(inner.packing.unpack, _items_packer(inner), limit, inner.size)
    return _codec(pair, 4, bulk.array(inner.columns, limit))


def _fixed_array(inner: Codec, size: int) -> Codec:
    pair = packing.fixed_array(inner.packing.unpack, _items_packer(inner), size)
    return _codec(pair, size * inner.size)


def _struct(codecs: Sequence[Codec]) -> Codec:
    """Neighbouring numbers become one part."""
    parts: list[packing.Part] = []
    fields: list[bulk.Field] = []
    start = 0
    for is_run, group in groupby(codecs, key=lambda codec: codec.number_format is not None):
        members = list(group)
        if is_run:
            _add_run(start, members, parts, fields)
        else:
            _add_fields(start, members, parts, fields)
        start += len(members)
    pair = packing.record(parts, len(codecs))
    return _codec(pair, sum(codec.size for codec in codecs), bulk.record(fields, len(codecs)))


def _add_run(
    start: int, members: list[Codec], parts: list[packing.Part], fields: list[bulk.Field]
) -> None:
    record = _record("".join(member.number_format or "" for member in members))
    stop = start + len(members)
    parts.append(packing.Part(slice(start, stop), packing.numbers(record)))
    fields.append(bulk.Field(start, stop, members[0].columns, record))


def _add_fields(
    start: int, members: list[Codec], parts: list[packing.Part], fields: list[bulk.Field]
) -> None:
    for index, member in enumerate(members, start):
        parts.append(packing.Part(index, member.packing))
        fields.append(bulk.Field(index, index + 1, member.columns, None))


def _union(discriminant: Codec, arms: dict[int, Codec | None]) -> Codec:
    pairs = {kind: None if arm is None else arm.packing for kind, arm in arms.items()}
    columns = {kind: _arm_columns(discriminant, kind, arm) for kind, arm in arms.items()}
    pair = packing.union(discriminant.packing, pairs)
    return _codec(pair, discriminant.size, bulk.union(columns))


def _arm_columns(discriminant: Codec, kind: int, arm: Codec | None) -> bulk.Columns:
    if arm is not None and arm.number_format and discriminant.number_format:
        both = _record(discriminant.number_format + arm.number_format)
        return bulk.number_arm(kind, both)
    content = None if arm is None else arm.columns
    return bulk.arm(discriminant.encode(kind), content)
