"""Which console a caller means, and who may hold it: the same rules for every driver."""

from typing import Final, Protocol

from virtbackupd.drivers.definitions.devices import CharacterDevice
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.errors import InternalError, OperationFailed
from virtbackupd.drivers.flags import FlagRules

FORCE: Final = 1
"""VIR_DOMAIN_CONSOLE_FORCE: disconnect whoever holds the console."""
SAFE: Final = 2
"""VIR_DOMAIN_CONSOLE_SAFE: only if sessions exclude each other, which they always do here."""
OPEN: Final = FlagRules("virDomainOpenConsole", FORCE | SAFE)


class Session(Protocol):
    """What a console knows of whoever has opened it."""

    closed: bool

    def close(self) -> None: ...


def find_pty(definition: DomainDefinition, dev_name: str | None) -> CharacterDevice:
    """The device with that alias, or the first one; InternalError when there is no such pty."""
    devices = (*definition.consoles, *definition.serials)
    found = [device for device in devices if dev_name is None or device.alias == dev_name]
    if not found:
        wanted = dev_name if dev_name is not None else "of any kind"
        raise InternalError(f"domain {definition.name} has no character device {wanted}")
    if found[0].type != "pty":
        raise InternalError(
            f"character device {found[0].alias} of domain {definition.name} is of type"
            f" {found[0].type}: only a pty can be opened"
        )
    return found[0]


def make_way(held: Session | None, device: CharacterDevice, domain_name: str, flags: int) -> None:
    """End the session that has the console, by force only; OperationFailed without it."""
    if held is None or held.closed:
        return
    if not flags & FORCE:
        raise OperationFailed(
            f"console {device.alias} of domain {domain_name} is open already:"
            " close it, or take it over by force"
        )
    held.close()
