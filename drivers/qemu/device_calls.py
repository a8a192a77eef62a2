"""Attach, detach and update of a device: of the stored definition, of the running machine, or both.

The stored definition is only replaced once the running machine has changed. How a running machine
is changed is in `hotplug` and `media`.
"""

from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, Final

from lxml import etree

from virtbackupd.drivers import store
from virtbackupd.drivers.definitions import device_edits
from virtbackupd.drivers.definitions.document import parse_fragment
from virtbackupd.drivers.errors import ConfigUnsupported, OperationInvalid, OperationUnsupported
from virtbackupd.drivers.flags import FlagRules
from virtbackupd.drivers.qemu import define, hotplug, media
from virtbackupd.drivers.qemu.prepare import completed
from virtbackupd.drivers.qemu.refusals import check_device

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from virtbackupd.drivers.definitions.domain import DomainDefinition
    from virtbackupd.drivers.qemu.domain import QemuDomain


class Modify(IntFlag):
    """virDomainDeviceModifyFlags."""

    LIVE = 1
    CONFIG = 2
    FORCE = 4


_ATTACH: Final = FlagRules("virDomainAttachDeviceFlags", Modify.LIVE | Modify.CONFIG)
_DETACH: Final = FlagRules("virDomainDetachDeviceFlags", Modify.LIVE | Modify.CONFIG)
_DETACH_ALIAS: Final = FlagRules("virDomainDetachDeviceAlias", Modify.LIVE | Modify.CONFIG)
_UPDATE: Final = FlagRules("virDomainUpdateDeviceFlags", Modify.LIVE | Modify.CONFIG | Modify.FORCE)
_HOTPLUGGABLE: Final = ("disk", "interface")


@dataclass(frozen=True, slots=True)
class _Change:
    """One kind of call: its flags, and what it does to a stored and to a running machine."""

    rules: FlagRules
    edit: "Callable[[DomainDefinition, str], DomainDefinition]"
    live: "Callable[[QemuDomain, etree._Element, int], Awaitable[None]]"


async def attach(domain: "QemuDomain", xml: str, flags: int) -> None:
    """Plug a device in."""
    await _change(domain, xml, flags, _Change(_ATTACH, device_edits.attach_device, _attach_live))


async def detach(domain: "QemuDomain", xml: str, flags: int) -> None:
    """Take a device out."""
    await _change(domain, xml, flags, _Change(_DETACH, device_edits.detach_device, _detach_live))


async def update(domain: "QemuDomain", xml: str, flags: int) -> None:
    """Change a medium, a link, or any device of the stored definition."""
    await _change(domain, xml, flags, _Change(_UPDATE, device_edits.update_device, _update_live))


async def detach_alias(domain: "QemuDomain", alias: str, flags: int) -> None:
    """Take out the device of that name."""
    _DETACH_ALIAS.check(flags)
    async with domain.modify(_DETACH_ALIAS.function):
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
    if not flags & (Modify.LIVE | Modify.CONFIG):
        flags |= Modify.LIVE if domain.active else Modify.CONFIG
    if flags & Modify.LIVE:
        domain.require_run()
    if not flags & Modify.CONFIG:
        return True, None
    if domain.persistent is None:
        raise OperationInvalid(
            f"domain {domain.ref.name} is transient: it has no stored definition"
        )
    return bool(flags & Modify.LIVE), domain.persistent


async def _attach_live(domain: "QemuDomain", device: etree._Element, flags: int) -> None:
    del flags
    _require_hotpluggable(device)
    if device.tag == "disk":
        await hotplug.attach_disk(domain, device)
    else:
        await hotplug.attach_interface(domain, device)


async def _detach_live(domain: "QemuDomain", device: etree._Element, flags: int) -> None:
    del flags
    _require_hotpluggable(device)
    await hotplug.detach(domain, device)


async def _update_live(domain: "QemuDomain", device: etree._Element, flags: int) -> None:
    _require_hotpluggable(device)
    if device.tag == "disk":
        await media.change(domain, device, force=bool(flags & Modify.FORCE))
    else:
        await hotplug.update_link(domain, device)


def _require_hotpluggable(device: etree._Element) -> None:
    if device.tag not in _HOTPLUGGABLE:
        raise ConfigUnsupported(
            f"a <{device.tag}> of a running domain cannot be changed: use the flag CONFIG and"
            " start the domain again"
        )
