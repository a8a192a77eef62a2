"""Attach, detach and update of a device: of the stored definition, of the running machine, or both.

The stored definition is only replaced once the running machine has changed. How a running machine
is changed is in `hotplug` and `media`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lxml import etree

from virtbackupd.drivers import device_rules, store
from virtbackupd.drivers.definitions import device_edits
from virtbackupd.drivers.definitions.document import parse_fragment
from virtbackupd.drivers.enums import DeviceModify
from virtbackupd.drivers.errors import OperationUnsupported
from virtbackupd.drivers.flags import FlagRules
from virtbackupd.drivers.qemu import define, hotplug, media
from virtbackupd.drivers.qemu.prepare import completed
from virtbackupd.drivers.qemu.refusals import check_device

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from virtbackupd.drivers.definitions.domain import DomainDefinition
    from virtbackupd.drivers.qemu.domain import QemuDomain


@dataclass(frozen=True, slots=True)
class _Change:
    """One kind of call: its flags, and what it does to a stored and to a running machine."""

    rules: FlagRules
    edit: "Callable[[DomainDefinition, str], DomainDefinition]"
    live: "Callable[[QemuDomain, etree._Element, int], Awaitable[None]]"


async def attach(domain: "QemuDomain", xml: str, flags: int) -> None:
    """Plug a device in."""
    change = _Change(device_rules.ATTACH, device_edits.attach_device, _attach_live)
    await _change(domain, xml, flags, change)


async def detach(domain: "QemuDomain", xml: str, flags: int) -> None:
    """Take a device out."""
    change = _Change(device_rules.DETACH, device_edits.detach_device, _detach_live)
    await _change(domain, xml, flags, change)


async def update(domain: "QemuDomain", xml: str, flags: int) -> None:
    """Change a medium, a link, or any device of the stored definition."""
    change = _Change(device_rules.UPDATE, device_edits.update_device, _update_live)
    await _change(domain, xml, flags, change)


async def detach_alias(domain: "QemuDomain", alias: str, flags: int) -> None:
    """Take out the device of that name."""
    device_rules.DETACH_ALIAS.check(flags)
    async with domain.modify(device_rules.DETACH_ALIAS.function):
        live, stored = _affected(domain, flags)
        if stored is not None:
            raise OperationUnsupported(
                "a stored definition has no aliases: detach the device by its XML"
            )
        if live:
            await hotplug.detach_alias(domain, alias)


async def _change(domain: "QemuDomain", xml: str, flags: int, change: _Change) -> None:
    change.rules.check(flags)
    device = parse_fragment(xml, "device document")
    check_device(device)
    async with domain.modify(change.rules.function):
        live, stored = _affected(domain, flags)
        if stored is not None:
            stored = await completed(domain.host, change.edit(stored, xml))
        if live:
            await change.live(domain, device, flags)
        if stored is not None:
            path = define.definition_path(domain.host, domain.ref.name)
            await store.write(path, stored.to_xml())
            domain.persistent = stored


def _affected(domain: "QemuDomain", flags: int) -> "tuple[bool, DomainDefinition | None]":
    """Whether the running machine is meant, and the stored definition if that is meant."""
    flags = device_rules.which_meant(domain, flags)
    if flags & DeviceModify.LIVE:
        domain.require_run()
    if not flags & DeviceModify.CONFIG:
        return True, None
    return bool(flags & DeviceModify.LIVE), device_rules.require_stored(domain)


async def _attach_live(domain: "QemuDomain", device: etree._Element, flags: int) -> None:
    del flags
    device_rules.require_hotpluggable(device)
    if device.tag == "disk":
        await hotplug.attach_disk(domain, device)
    else:
        await hotplug.attach_interface(domain, device)


async def _detach_live(domain: "QemuDomain", device: etree._Element, flags: int) -> None:
    del flags
    device_rules.require_hotpluggable(device)
    await hotplug.detach(domain, device)


async def _update_live(domain: "QemuDomain", device: etree._Element, flags: int) -> None:
    device_rules.require_hotpluggable(device)
    if device.tag == "disk":
        await media.change(domain, device, force=bool(flags & DeviceModify.FORCE))
    else:
        await hotplug.update_link(domain, device)
