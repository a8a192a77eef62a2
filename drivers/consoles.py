"""Which console a caller means: the same choice and the same refusals for every driver."""

from virtbackupd.drivers.definitions.devices import CharacterDevice
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.errors import InternalError


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
