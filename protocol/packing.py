"""One XDR value at a time: a pair of functions for each kind of type, on xdrlib3's primitives.

Every limit is checked here, before memory is taken for the value. What libvirt tolerates is
tolerated: any non-zero present flag and any padding. The module does not know the IDL; which type
gets which pair is decided in `xdr`.

Runs of integers do not use xdrlib3: one `struct` call reads a whole run, and xdrlib3 wraps a hyper
that is out of range instead of refusing it.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from xdrlib3 import Packer, Unpacker

from virtbackupd.protocol.errors import XdrEncodeError, XdrError

Value: TypeAlias = Any
"""What an IDL type maps to in Python; only the compiled description knows which it is."""
Pack: TypeAlias = Callable[[Packer, Value], None]
Unpack: TypeAlias = Callable[[Unpacker], Value]


class Packing(NamedTuple):
    pack: Pack
    unpack: Unpack


class Part(NamedTuple):
    """One field of a struct, or a run of number fields that is read and written at once."""

    where: int | slice
    packing: Packing


def numbers(record: struct.Struct) -> Packing:
    """A tuple of numbers in one piece."""
    size = record.size

    def pack(packer: Packer, values: Sequence[Value]) -> None:
        packer.pack_fopaque(size, record.pack(*values))

    def unpack(unpacker: Unpacker) -> tuple[Value, ...]:
        start = unpacker.get_position()
        unpacker.set_position(start + size)
        return record.unpack_from(unpacker.get_buffer(), start)

    return Packing(pack, unpack)


def number(record: struct.Struct) -> Packing:
    run = numbers(record)

    def pack(packer: Packer, value: Value) -> None:
        run.pack(packer, (value,))

    def unpack(unpacker: Unpacker) -> Value:
        return run.unpack(unpacker)[0]

    return Packing(pack, unpack)


def boolean() -> Packing:
    return Packing(Packer.pack_bool, Unpacker.unpack_bool)


def opaque(limit: int) -> Packing:
    """Bytes with their length before them."""

    def pack(packer: Packer, value: bytes) -> None:
        check_length(len(value), limit)
        packer.pack_opaque(value)

    def unpack(unpacker: Unpacker) -> bytes:
        return bytes(unpacker.unpack_fopaque(_length(unpacker, limit)))

    return Packing(pack, unpack)


def text(limit: int) -> Packing:
    """A string; bytes that are not UTF-8 come back unchanged when the value is packed again."""
    raw = opaque(limit)

    def pack(packer: Packer, value: str) -> None:
        raw.pack(packer, value.encode("utf-8", "surrogateescape"))

    def unpack(unpacker: Unpacker) -> str:
        return str(raw.unpack(unpacker), "utf-8", "surrogateescape")

    return Packing(pack, unpack)


def fixed_opaque(size: int) -> Packing:
    def pack(packer: Packer, value: bytes) -> None:
        check_size(len(value), size)
        packer.pack_fopaque(size, value)

    def unpack(unpacker: Unpacker) -> bytes:
        return bytes(unpacker.unpack_fopaque(size))

    return Packing(pack, unpack)


def fixed_chars(size: int) -> Packing:
    """`char x[size]`: a word for each byte. A shorter value is filled up with zeros."""

    def pack(packer: Packer, value: bytes) -> None:
        check_length(len(value), size)
        packer.pack_fopaque(4 * size, spread(value.ljust(size, b"\0")))

    def unpack(unpacker: Unpacker) -> bytes:
        return bytes(unpacker.unpack_fopaque(4 * size)[3::4])

    return Packing(pack, unpack)


def chars(limit: int) -> Packing:
    """`char x<limit>`: the count, then a word for each byte."""

    def pack(packer: Packer, value: bytes) -> None:
        check_length(len(value), limit)
        packer.pack_uint(len(value))
        packer.pack_fopaque(4 * len(value), spread(value))

    def unpack(unpacker: Unpacker) -> bytes:
        return bytes(unpacker.unpack_fopaque(4 * _length(unpacker, limit))[3::4])

    return Packing(pack, unpack)


def spread(value: bytes) -> bytes:
    """Each byte as the 32-bit word that a C `char` becomes, sign included."""
    words = bytearray(4 * len(value))
    words[0::4] = words[1::4] = words[2::4] = value.translate(_SIGNS)
    words[3::4] = value
    return bytes(words)


_SIGNS = bytes(128) + b"\xff" * 128


def optional(inner: Packing) -> Packing:
    def pack(packer: Packer, value: Value) -> None:
        packer.pack_bool(value is not None)
        if value is not None:
            inner.pack(packer, value)

    def unpack(unpacker: Unpacker) -> Value:
        return inner.unpack(unpacker) if unpacker.unpack_uint() else None

    return Packing(pack, unpack)


def array(unpack_item: Unpack, pack_items: Pack, limit: int, item_size: int) -> Packing:
    """`item_size` is the least an item takes, so that a count is weighed before items are made."""

    def pack(packer: Packer, values: Sequence[Value]) -> None:
        check_length(len(values), limit)
        packer.pack_uint(len(values))
        pack_items(packer, values)

    def unpack(unpacker: Unpacker) -> list[Value]:
        count = _length(unpacker, limit)
        left = len(unpacker.get_buffer()) - unpacker.get_position()
        if count * item_size > left:
            raise XdrError(f"a list announces {count} items, but only {left} bytes follow")
        return [unpack_item(unpacker) for _ in range(count)]

    return Packing(pack, unpack)


def fixed_array(unpack_item: Unpack, pack_items: Pack, size: int) -> Packing:
    def pack(packer: Packer, values: Sequence[Value]) -> None:
        check_size(len(values), size)
        pack_items(packer, values)

    def unpack(unpacker: Unpacker) -> list[Value]:
        return [unpack_item(unpacker) for _ in range(size)]

    return Packing(pack, unpack)


def record(parts: Sequence[Part], size: int) -> Packing:
    """A struct of `size` fields, as a tuple."""
    if len(parts) == 1 and isinstance(parts[0].where, slice):
        return _checked_run(parts[0].packing, size)
    packs = tuple((part.where, part.packing.pack) for part in parts)
    unpacks = tuple((isinstance(part.where, slice), part.packing.unpack) for part in parts)

    def pack(packer: Packer, value: tuple[Value, ...]) -> None:
        check_size(len(value), size)
        for where, pack_part in packs:
            pack_part(packer, value[where])

    def unpack(unpacker: Unpacker) -> tuple[Value, ...]:
        values: list[Value] = []
        for is_run, unpack_part in unpacks:
            if is_run:
                values += unpack_part(unpacker)
            else:
                values.append(unpack_part(unpacker))
        return tuple(values)

    return Packing(pack, unpack)


def _checked_run(run: Packing, size: int) -> Packing:
    def pack(packer: Packer, value: tuple[Value, ...]) -> None:
        check_size(len(value), size)
        run.pack(packer, value)

    return Packing(pack, run.unpack)


def union(discriminant: Packing, arms: dict[int, Packing | None]) -> Packing:
    """A pair of the discriminant and the value of its arm (None for a void one)."""

    def pack(packer: Packer, value: tuple[int, Value]) -> None:
        kind, content = value
        if kind not in arms:
            raise XdrEncodeError(f"a union has no arm {kind}")
        discriminant.pack(packer, kind)
        arm = arms[kind]
        if arm is not None:
            arm.pack(packer, content)

    def unpack(unpacker: Unpacker) -> tuple[int, Value]:
        kind = discriminant.unpack(unpacker)
        if kind not in arms:
            raise XdrError(f"a union has no arm {kind}")
        arm = arms[kind]
        return kind, None if arm is None else arm.unpack(unpacker)

    return Packing(pack, unpack)


def check_length(length: int, limit: int) -> None:
    if length > limit:
        raise XdrEncodeError(f"{length} elements are more than the limit of {limit}")


def check_size(length: int, size: int) -> None:
    if length != size:
        raise XdrEncodeError(f"{length} elements where there must be {size}")


def _length(unpacker: Unpacker, limit: int) -> int:
    length = unpacker.unpack_uint()
    if length > limit:
        raise XdrError(f"{length} elements announced, the limit is {limit}")
    return length
