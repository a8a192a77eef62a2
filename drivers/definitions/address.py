"""The `<address>` of a device, by the kind of bus that it sits on, read and written.

An address is a fact of the document; which ones are free is for a driver to know.
"""

from dataclasses import dataclass
from typing import TypeAlias

from lxml import etree

from virtbackupd.drivers.errors import XmlError


@dataclass(frozen=True, slots=True, order=True)
class PciAddress:
    """A function of a slot; `bus` is the index of the PCI controller that provides it."""

    bus: int
    slot: int
    function: int = 0
    multifunction: bool = False


@dataclass(frozen=True, slots=True, order=True)
class DriveAddress:
    """A place on a controller for drives; what a unit is depends on the controller's type."""

    controller: int
    bus: int
    target: int
    unit: int


@dataclass(frozen=True, slots=True, order=True)
class UsbAddress:
    """A port, with dots where hubs are between; `bus` is the index of the USB controller."""

    bus: int
    port: str


@dataclass(frozen=True, slots=True, order=True)
class VirtioSerialAddress:
    """A port of a virtio-serial controller; port 0 is kept for the first console."""

    controller: int
    bus: int
    port: int


@dataclass(frozen=True, slots=True, order=True)
class OtherAddress:
    """Any kind that this module does not know."""

    type: str


Address: TypeAlias = PciAddress | DriveAddress | UsbAddress | VirtioSerialAddress | OtherAddress


def read_address(device: etree._Element) -> Address | None:
    """The device's address, None while it has none."""
    element = device.find("address")
    if element is None:
        return None
    kind = element.get("type", "")
    where = f"the address of a <{device.tag}>"
    match kind:
        case "pci":
            return _pci(element, where)
        case "drive":
            numbers = [_number(element, name, where) for name in _DRIVE]
            return DriveAddress(*numbers)
        case "usb":
            return UsbAddress(_number(element, "bus", where), element.get("port") or "")
        case "virtio-serial":
            numbers = [_number(element, name, where) for name in _VIRTIO_SERIAL]
            return VirtioSerialAddress(*numbers)
    return OtherAddress(kind)


def write_address(device: etree._Element, address: Address) -> None:
    """Give the device this address, in the place of any other."""
    element = device.find("address")
    if element is None:
        element = etree.SubElement(device, "address")
    element.attrib.clear()
    for name, value in _attributes(address):
        element.set(name, value)


_DRIVE = ("controller", "bus", "target", "unit")
_VIRTIO_SERIAL = ("controller", "bus", "port")


def _pci(element: etree._Element, where: str) -> PciAddress | None:
    if not any(name in element.attrib for name in ("bus", "slot", "function")):
        return None
    if _number(element, "domain", where):
        raise XmlError(f"{where} is in another PCI domain than 0")
    bus, slot, function = (_number(element, name, where) for name in ("bus", "slot", "function"))
    if bus > 255 or slot > 31 or function > 7:
        raise XmlError(f"{where} is beyond bus 0xff, slot 0x1f or function 0x7")
    return PciAddress(bus, slot, function, element.get("multifunction") == "on")


def _number(element: etree._Element, name: str, where: str) -> int:
    text = element.get(name, "0")
    try:
        value = int(text, 16 if text.lower().startswith("0x") else 10)
    except ValueError:
        raise XmlError(f"{where} has the malformed {name} {text!r}") from None
    if not 0 <= value < 1 << 31:
        raise XmlError(f"{where} has {name} {text}, which is out of range")
    return value


def _attributes(address: Address) -> list[tuple[str, str]]:
    match address:
        case PciAddress(bus, slot, function, multifunction):
            pairs = [
                ("type", "pci"),
                ("domain", "0x0000"),
                ("bus", f"0x{bus:02x}"),
                ("slot", f"0x{slot:02x}"),
                ("function", f"0x{function:x}"),
            ]
            return [*pairs, ("multifunction", "on")] if multifunction else pairs
        case DriveAddress(controller, bus, target, unit):
            values = (controller, bus, target, unit)
            return [("type", "drive"), *zip(_DRIVE, map(str, values), strict=True)]
        case UsbAddress(bus, port):
            return [("type", "usb"), ("bus", str(bus)), ("port", port)]
        case VirtioSerialAddress(controller, bus, port):
            ports = (controller, bus, port)
            return [("type", "virtio-serial"), *zip(_VIRTIO_SERIAL, map(str, ports), strict=True)]
        case OtherAddress(kind):
            return [("type", kind)]
