"""Attach, detach and update of a device: of the stored definition, of the running domain, or both.

A running domain lets disks and interfaces come and go at once, and changes the medium of a drive;
anything else waits for the next start. Contents of a new disk's file come from `media`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from lxml import etree

from virtbackupd.drivers import device_rules
from virtbackupd.drivers.definitions import device_edits
from virtbackupd.drivers.definitions.document import parse_fragment
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.definitions.tree import child_attribute
from virtbackupd.drivers.enums import DeviceModify
from virtbackupd.drivers.errors import OperationUnsupported
from virtbackupd.drivers.events import DomainDeviceAdded, DomainDeviceRemoved
from virtbackupd.drivers.flags import FlagRules
from virtbackupd.drivers.memory import block, media
from virtbackupd.drivers.memory.block_nodes import device_alias

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.disk import DiskDefinition
    from virtbackupd.drivers.memory.domain import MemoryDomain


class _Change(NamedTuple):
    """One kind of call: its flags, and what it does to a definition and to a running domain."""

    rules: FlagRules
    edit: Callable[[DomainDefinition, str], DomainDefinition]
    live: "Callable[[MemoryDomain, DomainDefinition, etree._Element], None]"


_HOT_BUSES: Final = ("virtio", "scsi", "usb")


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
    flags = device_rules.which_meant(domain, flags)
    if flags & DeviceModify.LIVE:
        domain.require_active()
        device_rules.require_hotpluggable(device)
        await _take_files(domain, change.edit(domain.definition, xml), device)
    # Nothing waits from here: both definitions change, or none.
    stored = domain.persistent
    if flags & DeviceModify.CONFIG:
        stored = change.edit(device_rules.require_stored(domain), xml)
    if flags & DeviceModify.LIVE:
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


_ATTACH: Final = _Change(device_rules.ATTACH, device_edits.attach_device, _attach_live)
_DETACH: Final = _Change(device_rules.DETACH, device_edits.detach_device, _detach_live)
_UPDATE: Final = _Change(device_rules.UPDATE, device_edits.update_device, _update_live)


def _require_hot_bus(domain: "MemoryDomain", disk: "DiskDefinition") -> None:
    if disk.bus not in _HOT_BUSES or disk.removable:
        raise OperationUnsupported(
            f"disk {disk.target!r} on the bus {disk.bus!r} cannot come or go while domain"
            f" {domain.ref.name} runs: use one of {', '.join(_HOT_BUSES)}"
        )


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
