"""Addresses on the buses below PCI: drives on their controllers, USB ports, virtio-serial ports.

A drive's place follows from the letter in its target's name, as in libvirt, so that a guest finds
`sdb` behind `sda`.
"""

import re
from collections.abc import Callable, Iterator
from itertools import count
from typing import Final

from lxml import etree

from virtbackupd.drivers.definitions.address import (
    DriveAddress,
    UsbAddress,
    VirtioSerialAddress,
    read_address,
    write_address,
)
from virtbackupd.drivers.definitions.tree import child_attribute
from virtbackupd.drivers.disks import place_of
from virtbackupd.drivers.errors import ConfigUnsupported

_NAME: Final = re.compile(r"(?:fd|hd|sd|vd|xvd|ubd)([a-z]{1,4})")
_SCSI_UNITS: Final = 15
_HOST_ADAPTER: Final = 7
"""The unit of a SCSI bus that is the controller's own."""
_USB_PORTS: Final = {"piix3-uhci": 2, "piix4-uhci": 2, "ich9-uhci1": 2, "ich9-ehci1": 6,
                     "ehci": 6, "nec-xhci": 4, "qemu-xhci": 4, "ich9-uhci2": 2,
                     "ich9-uhci3": 2, "pci-ohci": 3}  # fmt: skip


def disk_index(target: str) -> int:
    """0 for `vda`, 25 for `vdz`, 26 for `vdaa`."""
    found = _NAME.fullmatch(target)
    if found is None:
        raise ConfigUnsupported(
            f"disk target {target!r} has no letter that gives its place: name it vda, sdb and so on"
        )
    return place_of(found[1])


def _ide(index: int) -> DriveAddress:
    return DriveAddress(index // 4, index // 2 % 2, 0, index % 2)


def _sata(index: int) -> DriveAddress:
    return DriveAddress(index // 6, 0, 0, index % 6)


def _fdc(index: int) -> DriveAddress:
    return DriveAddress(index // 2, 0, 0, index % 2)


def _scsi(index: int) -> DriveAddress:
    unit = index % _SCSI_UNITS
    return DriveAddress(index // _SCSI_UNITS, 0, 0, unit + (unit >= _HOST_ADAPTER))


_DRIVES: Final[dict[str, Callable[[int], DriveAddress]]] = {
    "ide": _ide,
    "sata": _sata,
    "fdc": _fdc,
    "scsi": _scsi,
}


def assign_drive_addresses(devices: etree._Element) -> None:
    """Place the disks of all buses that have drives."""
    taken: set[tuple[str, DriveAddress]] = set()
    for disk in devices.iterchildren("disk"):
        bus = child_attribute(disk, "target", "bus") or ""
        if bus not in _DRIVES:
            continue
        address = read_address(disk) or _DRIVES[bus](_index_of(disk))
        if not isinstance(address, DriveAddress) or (bus, address) in taken:
            target = child_attribute(disk, "target", "dev")
            raise ConfigUnsupported(
                f"disk {target!r} has an address that cannot be or is another disk's"
            )
        taken.add((bus, address))
        write_address(disk, address)


def _index_of(disk: etree._Element) -> int:
    return disk_index(child_attribute(disk, "target", "dev") or "")


def assign_port_addresses(devices: etree._Element) -> None:
    """Place virtio consoles and channels on the ports of virtio-serial controllers."""
    ports = list(_virtio_ports(devices))
    taken = {read_address(port) for port in ports}
    for port in ports:
        if read_address(port) is not None:
            continue
        # Port 0 is what a guest takes for its console.
        first = 0 if port.tag == "console" else 1
        free = next(n for n in count(first) if VirtioSerialAddress(0, 0, n) not in taken)
        address = VirtioSerialAddress(0, 0, free)
        taken.add(address)
        write_address(port, address)


def _virtio_ports(devices: etree._Element) -> Iterator[etree._Element]:
    for port in devices.iterchildren("console", "channel"):
        if child_attribute(port, "target", "type") == "virtio":
            yield port


def assign_usb_addresses(devices: etree._Element) -> None:
    """Plug USB devices into the free ports of the machine's controllers."""
    users = list(_usb_devices(devices))
    taken = {(it.bus, it.port) for it in map(read_address, users) if isinstance(it, UsbAddress)}
    for device in users:
        address = read_address(device)
        if isinstance(address, UsbAddress) and address.port:
            continue
        place = _free_usb_port(devices, taken)
        taken.add((place.bus, place.port))
        write_address(device, place)


def _usb_devices(devices: etree._Element) -> Iterator[etree._Element]:
    for disk in devices.iterchildren("disk"):
        if child_attribute(disk, "target", "bus") == "usb":
            yield disk
    yield from (it for it in devices.iterchildren("input") if it.get("bus") == "usb")
    yield from (it for it in devices.iterchildren("sound") if it.get("model") == "usb")
    for serial in devices.iterchildren("serial"):
        if child_attribute(serial, "target", "type") == "usb-serial":
            yield serial


def _free_usb_port(devices: etree._Element, taken: set[tuple[int, str]]) -> UsbAddress:
    for bus, ports in _usb_controllers(devices):
        for port in range(1, ports + 1):
            if (bus, str(port)) not in taken:
                return UsbAddress(bus, str(port))
    raise ConfigUnsupported(
        "the machine has no free USB port: add <controller type='usb' model='qemu-xhci'"
        " ports='15'/>"
    )


def _usb_controllers(devices: etree._Element) -> Iterator[tuple[int, int]]:
    """Index and number of ports; companions share their controller's ports."""
    for controller in devices.iterchildren("controller"):
        model = controller.get("model", "")
        companion = controller.find("master") is not None
        if controller.get("type") == "usb" and model in _USB_PORTS and not companion:
            ports = int(controller.get("ports") or _USB_PORTS[model])
            yield int(controller.get("index", "0")), ports
