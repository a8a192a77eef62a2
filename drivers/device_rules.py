"""What a device call may change, and of which definition: the rules that every driver shares.

Nothing is changed here.
"""

from typing import TYPE_CHECKING, Final

from lxml import etree

from virtbackupd.drivers.enums import DeviceModify
from virtbackupd.drivers.errors import ConfigUnsupported, OperationInvalid
from virtbackupd.drivers.flags import FlagRules

if TYPE_CHECKING:
    from virtbackupd.drivers.defined_domain import DefinedDomain
    from virtbackupd.drivers.definitions.domain import DomainDefinition

_WHICH: Final = DeviceModify.LIVE | DeviceModify.CONFIG
ATTACH: Final = FlagRules("virDomainAttachDeviceFlags", _WHICH)
DETACH: Final = FlagRules("virDomainDetachDeviceFlags", _WHICH)
DETACH_ALIAS: Final = FlagRules("virDomainDetachDeviceAlias", _WHICH)
UPDATE: Final = FlagRules("virDomainUpdateDeviceFlags", _WHICH | DeviceModify.FORCE)
_HOTPLUGGABLE: Final = ("disk", "interface")


def which_meant(domain: "DefinedDomain", flags: int) -> int:
    """The flags with LIVE or CONFIG among them; without either, what is in use is meant."""
    if flags & _WHICH:
        return flags
    return flags | (DeviceModify.LIVE if domain.active else DeviceModify.CONFIG)


def require_stored(domain: "DefinedDomain") -> "DomainDefinition":
    """What the next start uses; OperationInvalid when the domain is transient."""
    if domain.persistent is None:
        raise OperationInvalid(
            f"domain {domain.ref.name} is transient: it has no stored definition"
        )
    return domain.persistent


def require_hotpluggable(device: etree._Element) -> None:
    """ConfigUnsupported for what only a start can change."""
    if device.tag not in _HOTPLUGGABLE:
        raise ConfigUnsupported(
            f"a <{device.tag}> of a running domain cannot be changed: use the flag CONFIG and"
            " start the domain again"
        )
