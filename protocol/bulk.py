"""Many values of one XDR type at a time: the fast path for packing long lists.

A list of structs is turned on its side: each field becomes one or more columns of byte strings,
made by a few calls that run in C, and the columns are joined row by row. The bytes are the same as
those of `packing`, value for value; only packing is done here, because a server packs long lists
and clients read them.
"""

import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice, repeat
from typing import Any, NamedTuple, TypeAlias

from virtbackupd.protocol.errors import XdrEncodeError
from virtbackupd.protocol.packing import check_length, check_size

Column: TypeAlias = Iterable[bytes]
Columns: TypeAlias = Callable[[Sequence[Any]], list[Column]]
"""Values to columns; joined row by row the columns are the packed values."""

_WORD = struct.Struct(">I")
_PADDINGS = tuple(bytes(-length % 4) for length in range(1024))
_LENGTHS = tuple(_WORD.pack(length) for length in range(1024))
_ABSENT, _PRESENT = _LENGTHS[0], _LENGTHS[1]


class Field(NamedTuple):
    """One field of a struct, or a run of number fields with the record that packs them."""

    start: int
    stop: int
    columns: Columns
    record: struct.Struct | None


def join(columns: list[Column]) -> bytes:
    return b"".join(chain.from_iterable(zip(*columns, strict=True)))


def rows(columns: list[Column]) -> Iterator[bytes]:
    if len(columns) == 1:
        return iter(columns[0])
    return map(b"".join, zip(*columns, strict=True))


def one_by_one(encode: Callable[[Any], bytes]) -> Columns:
    """For types of which there are never many."""

    def columns(values: Sequence[Any]) -> list[Column]:
        return [map(encode, values)]

    return columns


def number(record: struct.Struct) -> Columns:
    def columns(values: Sequence[Any]) -> list[Column]:
        return [map(record.pack, values)]

    return columns


def text(limit: int) -> Columns:
    def columns(values: Sequence[str]) -> list[Column]:
        return _counted(_encoded(values), limit)

    return columns


def _encoded(values: Sequence[str]) -> list[bytes]:
    try:
        return [value.encode() for value in values]
    except UnicodeEncodeError:
        return [value.encode("utf-8", "surrogateescape") for value in values]


def _counted(values: list[bytes], limit: int) -> list[Column]:
    lengths = list(map(len, values))
    longest = max(lengths)
    check_length(longest, limit)
    if longest < len(_LENGTHS):
        return [map(_LENGTHS.__getitem__, lengths), values, map(_PADDINGS.__getitem__, lengths)]
    return [map(_WORD.pack, lengths), values, (bytes(-length % 4) for length in lengths)]


def fixed_opaque(size: int) -> Columns:
    padding = bytes(-size % 4)

    def columns(values: Sequence[bytes]) -> list[Column]:
        for length in set(map(len, values)):
            check_size(length, size)
        return [values, repeat(padding, len(values))] if padding else [values]

    return columns


def optional(inner: Columns) -> Columns:
    def columns(values: Sequence[Any]) -> list[Column]:
        present = [value for value in values if value is not None]
        if not present:
            return [repeat(_ABSENT, len(values))]
        packed = rows(inner(present))
        return [[_ABSENT if value is None else _PRESENT + next(packed) for value in values]]

    return columns


def array(inner: Columns, limit: int) -> Columns:
    def columns(values: Sequence[Sequence[Any]]) -> list[Column]:
        # The same list may stand in many places: it is packed once.
        distinct = {id(value): value for value in values}
        counts = list(map(len, distinct.values()))
        check_length(max(counts), limit)
        flat = list(chain.from_iterable(distinct.values()))
        packed = rows(inner(flat)) if flat else iter(())
        bodies = [_WORD.pack(count) + b"".join(islice(packed, count)) for count in counts]
        by_list = dict(zip(distinct, bodies, strict=True))
        return [[by_list[id(value)] for value in values]]

    return columns


def record(fields: Sequence[Field], size: int) -> Columns:
    def columns(values: Sequence[tuple[Any, ...]]) -> list[Column]:
        turned = list(zip(*values, strict=True))
        check_size(len(turned), size)
        packed: list[Column] = []
        for start, stop, field_columns, run in fields:
            if run is None:
                packed += field_columns(turned[start])
            else:
                packed.append(map(run.pack, *turned[start:stop]))
        return packed

    return columns


def union(arms: dict[int, Columns]) -> Columns:
    """Each arm makes the columns of its own values, discriminant included."""

    def columns(values: Sequence[tuple[int, Any]]) -> list[Column]:
        contents = defaultdict[int, list[Any]](list)
        for kind, content in values:
            contents[kind].append(content)
        packed = {kind: rows(_arm(arms, kind)(same)) for kind, same in contents.items()}
        return [[next(packed[kind]) for kind, _ in values]]

    return columns


def _arm(arms: dict[int, Columns], kind: int) -> Columns:
    if kind not in arms:
        raise XdrEncodeError(f"a union has no arm {kind}")
    return arms[kind]


def number_arm(kind: int, both: struct.Struct) -> Columns:
    """`both` packs the discriminant and the number at once."""

    def columns(values: Sequence[Any]) -> list[Column]:
        return [map(both.pack, repeat(kind), values)]

    return columns


def arm(discriminant: bytes, content: Columns | None) -> Columns:
    """`content` is None for a void arm."""

    def columns(values: Sequence[Any]) -> list[Column]:
        before: Column = repeat(discriminant, len(values))
        return [before] if content is None else [before, *content(values)]

    return columns
