"""When a domain may be undefined or renamed: the rules that every driver has in common.

Nothing is changed here. The order of the checks is libvirt's.
"""

from collections.abc import Sized
from typing import Protocol

from virtbackupd.drivers.enums import Undefine
from virtbackupd.drivers.errors import InvalidArgument, OperationInvalid, Origin, XmlError
from virtbackupd.drivers.events import DomainRef

_EXCLUSIVE = ((Undefine.NVRAM, Undefine.KEEP_NVRAM), (Undefine.TPM, Undefine.KEEP_TPM))


class Removable(Protocol):
    """What the rules look at."""

    ref: DomainRef

    @property
    def active(self) -> bool: ...

    @property
    def persistent(self) -> object | None: ...

    @property
    def saved(self) -> object | None:
        """A managed save image, if there is one."""

    @property
    def checkpoints(self) -> Sized: ...


def require_undefinable(domain: Removable, flags: int) -> None:
    """Refuse while the domain has what the flags do not name, or flags that contradict."""
    for removed, kept in _EXCLUSIVE:
        if flags & removed and flags & kept:
            raise OperationInvalid(
                f"{removed.name} and {kept.name} of domain {domain.ref.name} exclude each other"
            )
    if domain.persistent is None:
        raise OperationInvalid(f"domain {domain.ref.name} is transient and cannot be undefined")
    # An active domain only becomes transient, and keeps its checkpoints until it stops.
    if not domain.active:
        _require_no_checkpoints(domain, flags)
    _require_no_saved_state(domain, flags)


def _require_no_checkpoints(domain: Removable, flags: int) -> None:
    count = len(domain.checkpoints)
    if count and not flags & Undefine.CHECKPOINTS_METADATA:
        raise OperationInvalid(
            f"domain {domain.ref.name} has {count} checkpoints: delete them, or pass the flag "
            "VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA"
        )


def _require_no_saved_state(domain: Removable, flags: int) -> None:
    if domain.saved is not None and not flags & Undefine.MANAGED_SAVE:
        raise OperationInvalid(
            f"domain {domain.ref.name} has a managed save image: remove it, or pass the flag "
            "VIR_DOMAIN_UNDEFINE_MANAGED_SAVE"
        )


def require_renamable(domain: Removable, new_name: str | None) -> str:
    """The new name, or why the domain cannot have it."""
    wanted = _checked_name(new_name)
    name = domain.ref.name
    if domain.active:
        raise OperationInvalid(f"domain {name} is running, shut it down to rename it")
    if domain.persistent is None:
        raise OperationInvalid(f"domain {name} is transient and cannot be renamed")
    if domain.saved is not None:
        raise OperationInvalid(f"domain {name} has a managed save image, remove it to rename it")
    if wanted == name:
        raise OperationInvalid(f"domain {name} has that name already")
    return wanted


def _checked_name(name: str | None) -> str:
    if not name:
        raise InvalidArgument("the new name of a domain must not be empty", origin=Origin.DOMAIN)
    if "/" in name or "\n" in name or name in (".", ".."):
        raise XmlError(f"the domain name {name!r} cannot be a file name")
    return name
