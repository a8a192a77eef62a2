"""What is known of a procedure: its number, its name, its types and its annotations.

Built by `schema` from the interface text. Types are compiled when a payload is first packed or
unpacked, so a procedure nobody calls costs nothing.
"""

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from virtbackupd.protocol.errors import XdrError
from virtbackupd.protocol.idl import Declaration, Struct
from virtbackupd.protocol.xdr import Codec, Compiler


class ReadOnly(Enum):
    """May a read-only connection call it? NONE: not a call of the public interface."""

    ALLOW = "allow"
    DENY = "deny"
    CONDITIONAL = "conditional"
    NONE = "none"


class StructInfo:
    """The arguments, result or event of a procedure: its fields, and its codec when needed."""

    def __init__(self, struct: Struct, compiler: Compiler) -> None:
        self.name = struct.name
        self.fields: tuple[Declaration, ...] = struct.fields
        self._compiler = compiler

    @cached_property
    def codec(self) -> Codec:
        return self._compiler.codec(self.name)


@dataclass(frozen=True, slots=True)
class Procedure:
    """One procedure of one program. A struct is None where nothing travels.

    `declared` is False where the interface text names the procedure only; its payloads cannot be
    read or written then.
    """

    program: int
    number: int
    name: str
    args: StructInfo | None
    ret: StructInfo | None
    message: StructInfo | None
    declared: bool
    is_event: bool
    priority: str
    read_only: ReadOnly
    stream: str | None
    acl: tuple[str, ...]
    acl_filter: str | None

    def decode_args(self, payload: bytes) -> tuple[Any, ...]:
        """Raises `XdrError`. What follows the arguments is ignored, as libvirt does."""
        return _decode(self.args, payload, self.name)

    def encode_args(self, args: tuple[Any, ...]) -> bytes:
        return _encode(self.args, args)

    def decode_ret(self, payload: bytes) -> tuple[Any, ...]:
        return _decode(self.ret, payload, self.name)

    def encode_ret(self, ret: tuple[Any, ...]) -> bytes:
        """Raises `XdrEncodeError`."""
        return _encode(self.ret, ret)

    def decode_message(self, payload: bytes) -> tuple[Any, ...]:
        return _decode(self.message, payload, self.name)

    def encode_message(self, message: tuple[Any, ...]) -> bytes:
        return _encode(self.message, message)


def _decode(struct: StructInfo | None, payload: bytes, name: str) -> tuple[Any, ...]:
    if struct is None:
        return ()
    try:
        value: tuple[Any, ...] = struct.codec.decode(payload)[0]
    except XdrError as error:
        raise XdrError(f"{name}: {error}") from error
    return value


def _encode(struct: StructInfo | None, value: tuple[Any, ...]) -> bytes:
    return b"" if struct is None else struct.codec.encode(value)
