"""The access driver that asks polkit, with libvirt's own names of actions and details.

Nothing is remembered: what an administrator takes away is gone at the next call. Knows no call.
"""

import logging
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from virtbackupd.server.access.control import AccessDriver, Subject
from virtbackupd.server.access.permissions import Permission
from virtbackupd.server.identity import Identity
from virtbackupd.server.polkit import Polkit, PolkitError

log = logging.getLogger(__name__)

DRIVER: Final = "QEMU"
"""`connect_driver` in libvirt's rules, and what our drivers say of themselves."""


class Authority(Protocol):
    """The part of polkit that is needed here."""

    async def allows(self, action: str, identity: Identity, details: dict[str, str]) -> bool: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class PolkitAccess:
    """An access driver."""

    polkit: Authority

    async def allows(self, identity: Identity, permission: Permission, subject: Subject) -> bool:
        """Without an answer nothing is allowed."""
        try:
            return await self.polkit.allows(action(permission), identity, details(subject))
        except PolkitError as error:
            log.warning("%s is refused: %s", permission, error)
            return False

    def close(self) -> None:
        self.polkit.close()


def open_polkit() -> AccessDriver:
    return PolkitAccess(Polkit())


def action(permission: Permission) -> str:
    """`org.libvirt.api.storage-pool.read`."""
    return f"org.libvirt.api.{permission.object.replace('_', '-')}.{permission.name}"


def details(subject: Subject) -> dict[str, str]:
    """What rules of polkit can look up about the object."""
    found = {"connect_driver": DRIVER}
    if subject.kind == "connect" or not subject.uuid:
        return found
    found[f"{subject.kind}_uuid"] = str(UUID(bytes=subject.uuid))
    if subject.kind == "domain":
        found["domain_name"] = subject.name
    return found
