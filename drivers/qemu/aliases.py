"""The names that devices have while a domain runs: libvirt's, so that every client knows them.

They are QEMU's device ids as well. A name that begins with `ua-` is the author's own and is kept.
"""

from collections.abc import Callable
from typing import Final

from lxml import etree

from virtbackupd.drivers.definitions.address import DriveAddress, read_address
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.definitions.tree import child_attribute
from virtbackupd.drivers.errors import ConfigUnsupported
from virtbackupd.drivers.qemu.bus_addresses import disk_index

USER_PREFIX: Final = "ua-"
_NUMBERED: Final = {
    "interface": "net",
    "serial": "serial",
    "console": "console",
    "channel": "channel",
    "input": "input",
    "video": "video",
    "sound": "sound",
    "watchdog": "watchdog",
    "memballoon": "balloon",
    "rng": "rng",
    "panic": "panic",
}


def with_aliases(definition: DomainDefinition) -> DomainDefinition:
    """The live form: every device with its name."""
    return definition.edited_devices(assign_aliases)


def assign_aliases(devices: etree._Element) -> None:
    """Name all devices that have no name."""
    models = _scsi_models(devices)
    for disk in devices.iterchildren("disk"):
        _name(disk, disk_alias(disk, models))
    for controller in devices.iterchildren("controller"):
        _name(controller, _controller_alias(controller))
    for tag, prefix in _NUMBERED.items():
        for number, device in enumerate(devices.iterchildren(tag)):
            _name(device, f"{prefix}{number}")
    _share_first_console(devices)


def next_alias(devices: etree._Element, device: etree._Element) -> str:
    """A free name for a device that is plugged into a running machine."""
    if device.tag == "disk":
        return disk_alias(device, _scsi_models(devices))
    prefix = _NUMBERED[str(device.tag)]
    taken = {child_attribute(it, "alias", "name") for it in devices.iterchildren(device.tag)}
    return next(name for number in range(4096) if (name := f"{prefix}{number}") not in taken)


def disk_alias(disk: etree._Element, scsi_models: dict[int, str]) -> str:
    """By the bus and the place on it."""
    bus = child_attribute(disk, "target", "bus") or ""
    target = child_attribute(disk, "target", "dev") or ""
    address = read_address(disk)
    if bus in ("virtio", "usb"):
        return f"{bus}-disk{disk_index(target)}"
    if not isinstance(address, DriveAddress):
        raise ConfigUnsupported(f"disk {target!r} has no place on a {bus} controller")
    return _DRIVE_ALIASES[bus](address, scsi_models.get(address.controller, ""))


def _scsi_alias(it: DriveAddress, model: str) -> str:
    if model.startswith("virtio-scsi"):
        return f"scsi{it.controller}-{it.bus}-{it.target}-{it.unit}"
    return f"scsi{it.controller}-{it.bus}-{it.unit}"


_DRIVE_ALIASES: Final[dict[str, Callable[[DriveAddress, str], str]]] = {
    "ide": lambda it, _: f"ide{it.controller}-{it.bus}-{it.unit}",
    "sata": lambda it, _: f"sata{it.controller}-{it.bus}-{it.unit}",
    "fdc": lambda it, _: f"fdc{it.controller}-{it.bus}-{it.unit}",
    "scsi": _scsi_alias,
}


def _scsi_models(devices: etree._Element) -> dict[int, str]:
    return {
        int(controller.get("index", "0")): controller.get("model", "")
        for controller in devices.iterchildren("controller")
        if controller.get("type") == "scsi"
    }


def _controller_alias(controller: etree._Element) -> str:
    kind, index = controller.get("type", ""), controller.get("index", "0")
    # What the chipset has built in carries the names that QEMU gave it.
    fixed = {
        ("pci", "pcie-root"): "pcie.0",
        ("pci", "pci-root"): "pci.0",
    }.get((kind, controller.get("model", "")))
    if fixed is not None:
        return fixed
    if kind == "pci":
        return f"pci.{index}"
    if index == "0" and kind in ("usb", "ide", "sata"):
        return {"sata": "ide"}.get(kind, kind)
    return f"{kind}{index}"


def _name(device: etree._Element, alias: str) -> None:
    element = device.find("alias")
    if element is None:
        element = etree.Element("alias")
        address = device.find("address")
        if address is None:
            device.append(element)
        else:
            address.addprevious(element)
    if not (element.get("name") or "").startswith(USER_PREFIX):
        element.set("name", alias)


def _share_first_console(devices: etree._Element) -> None:
    """The first serial console is the first serial port, by the same name."""
    console, serial = devices.find("console"), devices.find("serial")
    if console is None or serial is None:
        return
    alias = child_attribute(serial, "alias", "name")
    if child_attribute(console, "target", "type") == "serial" and alias is not None:
        _name(console, alias)
