"""What each procedure asks for, read from the annotations of the interface text.

An annotation is `OBJECT:PERMISSION`, `OBJECT:PERMISSION:FLAGS` or `OBJECT:PERMISSION::FIELD:VALUE`.
With flags the permission is needed when one of them is set, after a `!` when none is; with a field,
when it has that value. Knows no client and no rule.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from virtbackupd.protocol.procedures import Procedure

Wire = tuple[Any, ...]
Condition = Callable[[Wire], bool]

FLAGS: Final[Mapping[str, int]] = {
    "VIR_DOMAIN_AFFECT_LIVE": 1,
    "VIR_DOMAIN_AFFECT_CONFIG": 2,
    "VIR_DOMAIN_CHECKPOINT_CREATE_QUIESCE": 1 << 1,
    "VIR_DOMAIN_CHECKPOINT_XML_SECURE": 1 << 0,
    "VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT": 1,
    "VIR_DOMAIN_REBOOT_GUEST_AGENT": 1 << 1,
    "VIR_DOMAIN_SAVE_IMAGE_XML_SECURE": 1 << 0,
    "VIR_DOMAIN_SHUTDOWN_GUEST_AGENT": 1 << 1,
    "VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE": 1 << 6,
    "VIR_DOMAIN_SNAPSHOT_XML_SECURE": 1 << 0,
    "VIR_DOMAIN_VCPU_GUEST": 1 << 3,
    "VIR_DOMAIN_XML_MIGRATABLE": 1 << 3,
    "VIR_DOMAIN_XML_SECURE": 1 << 0,
    "VIR_NETWORK_UPDATE_AFFECT_LIVE": 1,
    "VIR_NETWORK_UPDATE_AFFECT_CONFIG": 2,
    "VIR_NODE_DEVICE_UPDATE_AFFECT_LIVE": 1,
    "VIR_NODE_DEVICE_UPDATE_AFFECT_CONFIG": 2,
}
"""Values of libvirt's public headers."""


class AnnotationError(Exception):
    """An annotation of the interface text makes no sense: our own mistake, found at start."""


@dataclass(frozen=True, slots=True)
class Permission:
    """`object` is `connect`, `domain`, `secret` …; `name` as libvirt writes it, with hyphens."""

    object: str
    name: str

    def __str__(self) -> str:
        return f"{self.object}:{self.name}"


@dataclass(frozen=True, slots=True)
class Demand:
    """A permission that a call needs, always or under a condition on its arguments."""

    permission: Permission
    needed: Condition | None = None
    condition: str = ""
    """The condition as annotated, for people."""


def demands(procedure: Procedure) -> tuple[Demand, ...]:
    """What a call of the procedure needs; nothing for `none`, and for events."""
    written = [part for entry in procedure.acl for part in entry.split(";")]
    return tuple(_demand(part.strip(), procedure) for part in written if part.strip() != "none")


def seen_with(procedure: Procedure) -> Permission | None:
    """What a client must be allowed on an element of a list to see it there."""
    if procedure.acl_filter is None:
        return None
    return permission(procedure.acl_filter.strip())


def permission(text: str) -> Permission:
    """`domain:fs_freeze` and `domain:fs-freeze` are the same."""
    subject, _, name = text.partition(":")
    return Permission(subject, name.replace("_", "-"))


def _demand(text: str, procedure: Procedure) -> Demand:
    subject, name, *rest = text.split(":")
    needed = permission(f"{subject}:{name}")
    if not rest:
        return Demand(needed)
    if rest[0]:
        return Demand(needed, _by_flags(rest[0], procedure), rest[0])
    return Demand(needed, _by_field(rest[1], rest[2], procedure), f"{rest[1]} is {rest[2]}")


def _by_flags(text: str, procedure: Procedure) -> Condition:
    position = _position("flags", procedure)
    none = text.startswith("!")
    mask = 0
    for word in text.removeprefix("!").split("|"):
        mask |= _flag(word)
    return lambda args: bool(args[position] & mask) is not none


def _by_field(field: str, value: str, procedure: Procedure) -> Condition:
    position, wanted = _position(field, procedure), _flag(value)
    return lambda args: bool(args[position] == wanted)


def _position(field: str, procedure: Procedure) -> int:
    """Of an argument; a procedure that cannot be called here has none, and is never asked."""
    names = [declared.name for declared in procedure.args.fields] if procedure.args else []
    if field in names:
        return names.index(field)
    if procedure.declared:
        raise AnnotationError(f"{procedure.name} has no argument {field!r} for its condition")
    return 0


def _flag(name: str) -> int:
    try:
        return FLAGS[name]
    except KeyError:
        raise AnnotationError(f"nobody knows the value of {name}") from None
