"""The compiled interface texts: every procedure by program and number, and by name.

`remote_protocol.x` and `admin_protocol.x` lie beside this module and are read once, each when it is
first needed. How a procedure finds its structs (remote_NAME_args, _ret, _msg) is known here and
nowhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from virtbackupd.protocol.idl import EnumMember, EnumType, IdlError, Specification, Struct, parse
from virtbackupd.protocol.procedures import Procedure, ReadOnly, StructInfo
from virtbackupd.protocol.xdr import Codec, Compiler


class _Program(NamedTuple):
    """Where the interface text keeps the procedures of a program, and what its names begin with."""

    enum: str
    member_prefix: str
    struct_prefix: str
    name_prefix: str
    number: str
    version: str


_REMOTE = (
    _Program(
        "remote_procedure",
        "REMOTE_PROC_",
        "remote_",
        "",
        "REMOTE_PROGRAM",
        "REMOTE_PROTOCOL_VERSION",
    ),
    _Program(
        "qemu_procedure",
        "QEMU_PROC_",
        "qemu_",
        "QEMU_",
        "QEMU_PROGRAM",
        "QEMU_PROTOCOL_VERSION",
    ),
)
_ADMIN = (
    _Program(
        "admin_procedure",
        "ADMIN_PROC_",
        "admin_",
        "",
        "ADMIN_PROGRAM",
        "ADMIN_PROTOCOL_VERSION",
    ),
)


@dataclass(frozen=True, slots=True)
class Schema:
    """`by_name` uses the names without REMOTE_PROC_; those of the QEMU program keep QEMU_."""

    versions: dict[int, int]
    by_number: dict[tuple[int, int], Procedure]
    by_name: dict[str, Procedure]
    constants: dict[str, int]
    compiler: Compiler

    def codec(self, type_name: str) -> Codec:
        return self.compiler.codec(type_name)


@cache
def load() -> Schema:
    """The schema of libvirt's own interface."""
    return compile_schema(_text("remote_protocol.x"))


@cache
def load_admin() -> Schema:
    """The schema of the administration interface."""
    return compile_schema(_text("admin_protocol.x"), _ADMIN)


def _text(name: str) -> str:
    # What `importlib.resources` would load for this takes longer than parsing the text.
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def compile_schema(text: str, programs: Sequence[_Program] = _REMOTE) -> Schema:
    """Raises `IdlError` when the text is wrong."""
    specification = parse(text)
    compiler = Compiler(specification)
    constants = specification.constants
    procedures = [
        _procedure(program, member, specification, compiler)
        for program in programs
        for member in _members(specification, program.enum)
    ]
    return Schema(
        versions={constants[known.number]: constants[known.version] for known in programs},
        by_number={(found.program, found.number): found for found in procedures},
        by_name={found.name: found for found in procedures},
        constants=constants,
        compiler=compiler,
    )


def _members(specification: Specification, enum: str) -> tuple[EnumMember, ...]:
    found = specification.types.get(enum)
    if not isinstance(found, EnumType):
        raise IdlError(f"the interface text has no enum {enum}")
    return found.members


def _procedure(
    program: _Program, member: EnumMember, specification: Specification, compiler: Compiler
) -> Procedure:
    bare = member.name.removeprefix(program.member_prefix)
    notes = member.annotations
    args, ret, message = (
        _struct(f"{program.struct_prefix}{bare.lower()}_{suffix}", specification, compiler)
        for suffix in ("args", "ret", "msg")
    )
    acl = notes.get("acl", "none")
    return Procedure(
        program=specification.constants[program.number],
        number=member.value,
        name=program.name_prefix + bare,
        args=args,
        ret=ret,
        message=message,
        declared="void" in notes or any((args, ret, message)),
        is_event="event" in notes,
        priority=notes.get("priority", "low"),
        read_only=ReadOnly(notes.get("readonly", "none")),
        stream=notes.get("stream"),
        acl=() if acl == "none" else tuple(acl.split(";")),
        acl_filter=notes.get("aclfilter"),
    )


def _struct(name: str, specification: Specification, compiler: Compiler) -> StructInfo | None:
    found = specification.types.get(name)
    return StructInfo(found, compiler) if isinstance(found, Struct) else None
