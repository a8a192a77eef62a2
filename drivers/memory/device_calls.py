"""Attach, detach and update of a device: of the stored definition, of the running domain, or both.

A running domain lets disks and interfaces come and go at once, and changes the medium of a drive;
anything else waits for the next start. Contents of a new disk's file come from `media`.
"""

from collections.abc import Callable
from enum import IntFlag
from typing import TYPE_CHECKING, Final, NamedTuple

from lxml import etree

from virtbackupd.drivers.definitions import device_edits
from virtbackupd.drivers.definitions.document import parse_fragment
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.definitions.tree import child_attribute
from virtbackupd.drivers.errors import (
    ConfigUnsupported,
    OperationInvalid,
    OperationUnsupported,
)
from virtbackupd.drivers.events import DomainDeviceAdded, DomainDeviceRemoved
from virtbackupd.drivers.flags import FlagRules
from virtbackupd.drivers.memory import block, media
from virtbackupd.drivers.memory.block_nodes import device_alias

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.disk import DiskDefinition
    from virtbackupd.drivers.memory.domain import MemoryDomain


class Modify(IntFlag):
    """virDomainDeviceModifyFlags."""

    LIVE = 1
    CONFIG = 2
    FORCE = 4


class _Change(NamedTuple):
    """One kind of call: its flags, and what it does to a definition and to a running domain."""

    rules: FlagRules
    edit: Callable[[DomainDefinition, str], DomainDefinition]
    live: "Callable[[MemoryDomain, DomainDefinition, etree._Element], None]"


_HOT_BUSES: Final = ("virtio", "scsi", "usb")
_HOTPLUGGABLE: Final = ("disk", "interface")


async def attach(domain: "MemoryDomain", xml: str, flags: int) -> None:
    """Plug a device in."""
    await _change(domain, xml, flags, _ATTACH)


async def detach(domain: "MemoryDomain", xml: str, flags: int) -> None:
    """Take a device out."""
    await _change(domain, xml, flags, _DETACH)


async def update(domain: "MemoryDomain", xml: str, flags: int) -> None:
    """Change a medium, or any device of the stored definition."""
    await _change(domain, xml, flags, _UPDATE)


async def _change(domain: "MemoryDomain", xml: str, flags: int, change: _Change) -> None:
    change.rules.check(flags)
    device = parse_fragment(xml, "device document")
    if not flags & (Modify.LIVE | Modify.CONFIG):
        flags |= Modify.LIVE if domain.active else Modify.CONFIG
    if flags & Modify.LIVE:
        _require_hotpluggable(domain, device)
        await _take_files(domain, change.edit(domain.definition, xml), device)
    # Nothing waits from here: both definitions change, or none.
    stored = change.edit(_stored(domain), xml) if flags & Modify.CONFIG else domain.persistent
    if flags & Modify.LIVE:
        domain.require_active()
        change.live(domain, change.edit(domain.definition, xml), device)
    domain.persistent = stored


async def _take_files(
    domain: "MemoryDomain", edited: DomainDefinition, device: etree._Element
) -> None:
    disk = _disk(edited, device)
    if disk is not None:
        await media.take_files(domain.host, [disk])


def _attach_live(domain: "MemoryDomain", edited: DomainDefinition, device: etree._Element) -> None:
    disk = _disk(edited, device)
    if disk is not None:
        _require_hot_bus(domain, disk)
        domain.insert_medium(disk)
    domain.live = edited
    domain.events.publish(DomainDeviceAdded(domain.ref, _alias(edited, device)))


def _detach_live(domain: "MemoryDomain", edited: DomainDefinition, device: etree._Element) -> None:
    alias, disk = _alias(domain.definition, device), _disk(domain.definition, device)
    if disk is not None:
        _require_hot_bus(domain, disk)
        block.require_free(domain, disk.target)
        domain.remove_medium(disk.target)
    domain.live = edited
    domain.events.publish(DomainDeviceRemoved(domain.ref, alias))


def _update_live(domain: "MemoryDomain", edited: DomainDefinition, device: etree._Element) -> None:
    disk = _disk(edited, device)
    if disk is not None:
        if not disk.removable:
            raise OperationUnsupported(
                f"disk {disk.target!r} is no drive whose medium could be changed while domain"
                f" {domain.ref.name} runs"
            )
        block.require_free(domain, disk.target)
        domain.insert_medium(disk)
    domain.live = edited


_ATTACH: Final = _Change(
    FlagRules("virDomainAttachDeviceFlags", Modify.LIVE | Modify.CONFIG),
    device_edits.attach_device,
    _attach_live,
)
_DETACH: Final = _Change(
    FlagRules("virDomainDetachDeviceFlags", Modify.LIVE | Modify.CONFIG),
    device_edits.detach_device,
    _detach_live,
)
_UPDATE: Final = _Change(
    FlagRules("virDomainUpdateDeviceFlags", Modify.LIVE | Modify.CONFIG | Modify.FORCE),
    device_edits.update_device,
    _update_live,
)


def _require_hotpluggable(domain: "MemoryDomain", device: etree._Element) -> None:
    domain.require_active()
    if device.tag not in _HOTPLUGGABLE:
        raise ConfigUnsupported(
            f"a <{device.tag}> of a running domain cannot be changed: use the flag CONFIG and"
            " start the domain again"
        )


def _require_hot_bus(domain: "MemoryDomain", disk: "DiskDefinition") -> None:
    if disk.bus not in _HOT_BUSES or disk.removable:
        raise OperationUnsupported(
            f"disk {disk.target!r} on the bus {disk.bus!r} cannot come or go while domain"
            f" {domain.ref.name} runs: use one of {', '.join(_HOT_BUSES)}"
        )


def _stored(domain: "MemoryDomain") -> DomainDefinition:
    if domain.persistent is None:
        raise OperationInvalid(
            f"domain {domain.ref.name} is transient: it has no stored definition"
        )
    return domain.persistent


def _disk(definition: DomainDefinition, device: etree._Element) -> "DiskDefinition | None":
    """The disk that the device stands for, if it is one and the definition has it."""
    target = child_attribute(device, "target", "dev") if device.tag == "disk" else None
    return next((disk for disk in definition.disks if disk.target == target), None)


def _alias(definition: DomainDefinition, device: etree._Element) -> str:
    disk = _disk(definition, device)
    if disk is not None:
        return device_alias(disk)
    mac = child_attribute(device, "mac", "address")
    macs = [interface.mac for interface in definition.interfaces]
    return f"net{macs.index(mac) if mac in macs else len(macs) - 1}"
