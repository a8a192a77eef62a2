"""Gives every device of a definition its address, as libvirt writes them when a domain is defined.

What has an address keeps it, so doing it again changes nothing. The order in which devices take
places decides what guests see, and is libvirt's.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from lxml import etree

from virtbackupd.drivers.definitions.address import PciAddress, read_address
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.definitions.domain_defaults import devices_of
from virtbackupd.drivers.definitions.tree import child_attribute
from virtbackupd.drivers.errors import ConfigUnsupported
from virtbackupd.drivers.qemu.bus_addresses import (
    assign_drive_addresses,
    assign_port_addresses,
    assign_usb_addresses,
)
from virtbackupd.drivers.qemu.capabilities import QemuCapabilities
from virtbackupd.drivers.qemu.default_controllers import add_needed_controllers
from virtbackupd.drivers.qemu.defaults import complete_machine, machine_kind
from virtbackupd.drivers.qemu.pci import PciBuses, complete_ports
from virtbackupd.drivers.qemu.refusals import check_supported

_USB2_FUNCTIONS: Final = {
    "ich9-uhci1": 0,
    "ich9-uhci2": 1,
    "ich9-uhci3": 2,
    "ich9-ehci1": 7,
}
"""The companions of a USB 2 controller share a slot."""
_EXPRESS_USB: Final = ("qemu-xhci", "nec-xhci")
_EXPRESS_MODELS: Final = ("virtio", "virtio-non-transitional", "e1000e", "vmxnet3", "igb")
_BUILTIN_SCSI: Final = "ncr53c90"


def complete(definition: DomainDefinition, capabilities: QemuCapabilities) -> DomainDefinition:
    """Refuse what is not supported, then add all that libvirt would: defaults and addresses."""
    check_supported(definition)
    if definition.type == "kvm" and not capabilities.kvm:
        raise ConfigUnsupported(
            f"domain {definition.name} is of type 'kvm' and KVM cannot be used here: use"
            " <domain type='qemu'> for emulation"
        )

    def edit(root: etree._Element) -> None:
        complete_machine(root, capabilities)
        assign_addresses(devices_of(root), machine_kind(root))

    return definition.edited(edit)


def assign_addresses(devices: etree._Element, kind: str) -> None:
    """Address all devices of a machine of that kind."""
    assign_drive_addresses(devices)
    add_needed_controllers(devices)
    assign_port_addresses(devices)
    assign_usb_addresses(devices)
    _assign_pci_addresses(devices, kind)
    complete_ports(devices)
    _put_addresses_last(devices)


def is_express(device: etree._Element) -> bool:
    """Whether a device belongs on PCI Express where the machine has it."""
    match device.tag:
        case "disk" | "memballoon" | "rng" | "input":
            return True
        case "interface" | "video":
            return child_attribute(device, "model", "type") in _EXPRESS_MODELS
        case "controller":
            return _is_express_controller(device)
    return False


def _is_express_controller(device: etree._Element) -> bool:
    if device.get("type") == "virtio-serial":
        return True
    return str(device.get("model")).startswith("virtio-scsi") or device.get("model") in _EXPRESS_USB


def _assign_pci_addresses(devices: etree._Element, kind: str) -> None:
    buses = PciBuses(devices, kind)
    waiting = [device for device in _pci_devices(devices) if read_address(device) is None]
    for device in waiting:
        _place_builtin(buses, device, kind)
    buses.place_controllers()
    missing = [device for device in waiting if read_address(device) is None]
    # A bridge takes the first root port, so it is made before the devices that take the next.
    for device in sorted(missing, key=is_express) if kind == "q35" else missing:
        if read_address(device) is None:
            _place(buses, devices, device)
    if kind == "q35" and missing and not buses.free_ports():
        buses.add_port()


def _place_builtin(buses: PciBuses, device: etree._Element, kind: str) -> None:
    """Devices that the chipset has a place for."""
    wanted = _builtin_place(device, kind)
    if wanted is not None:
        buses.place_if_free(device, wanted)


def _builtin_place(device: etree._Element, kind: str) -> PciAddress | None:
    express = kind == "q35"
    first = device.get("index") == "0"
    match device.tag, device.get("type"), device.get("model"):
        case "video", _, _ if child_attribute(device, "model", "primary") == "yes":
            return PciAddress(0, 1 if express else 2)
        case "controller", "ide", _ if first and not express:
            return PciAddress(0, 1, 1)
        case "controller", "usb", "piix3-uhci" if first and not express:
            return PciAddress(0, 1, 2)
        case "controller", "sata", _ if first and express:
            return PciAddress(0, 0x1F, 2)
        case "controller", "usb", model if express and model in _USB2_FUNCTIONS and first:
            function = _USB2_FUNCTIONS[model]
            return PciAddress(0, 0x1D, function, multifunction=function == 0)
        case "sound", _, "ich9" if express:
            return PciAddress(0, 0x1B)
    return None


def _place(buses: PciBuses, devices: etree._Element, device: etree._Element) -> None:
    function = _USB2_FUNCTIONS.get(device.get("model", ""))
    if device.tag == "controller" and function is not None:
        slot = _companion_slot(devices, device.get("index", "0"))
        if slot is not None:
            place = PciAddress(slot.bus, slot.slot, function, multifunction=function == 0)
            buses.place(device, place)
            return
        buses.place_anywhere(device, express=False)
        found = read_address(device)
        if isinstance(found, PciAddress) and function:
            buses.place(device, PciAddress(found.bus, found.slot, function))
        return
    buses.place_anywhere(device, express=is_express(device))


def _companion_slot(devices: etree._Element, index: str) -> PciAddress | None:
    for controller in devices.iterchildren("controller"):
        address = read_address(controller)
        same = controller.get("index") == index and controller.get("model") in _USB2_FUNCTIONS
        if same and isinstance(address, PciAddress):
            return address
    return None


def _pci_devices(devices: etree._Element) -> Iterator[etree._Element]:
    """Those that sit on PCI, in the order in which they take places."""
    yield from devices.iterchildren("interface")
    yield from (
        it for it in devices.iterchildren("sound") if it.get("model") not in ("sb16", "usb")
    )
    yield from _other_controllers(devices.iterchildren("controller"))
    yield from (
        disk
        for disk in devices.iterchildren("disk")
        if _attribute(disk, "target", "bus") == "virtio"
    )
    yield from (it for it in devices.iterchildren("memballoon") if it.get("model") != "none")
    yield from devices.iterchildren("rng")
    yield from (it for it in devices.iterchildren("watchdog") if it.get("model") == "i6300esb")
    yield from (
        video
        for video in devices.iterchildren("video")
        if _attribute(video, "model", "type") not in ("none", "ramfb")
    )
    yield from (it for it in devices.iterchildren("input") if it.get("bus") == "virtio")
    yield from (
        port
        for port in devices.iterchildren("serial")
        if _attribute(port, "target", "type") == "pci-serial"
    )


def _other_controllers(controllers: Iterable[etree._Element]) -> Iterator[etree._Element]:
    for controller in controllers:
        kind, model = controller.get("type"), controller.get("model")
        if kind not in ("pci", "fdc") and model not in ("none", _BUILTIN_SCSI):
            yield controller


def _attribute(device: etree._Element, path: str, name: str) -> str | None:
    return child_attribute(device, path, name)


def _put_addresses_last(devices: etree._Element) -> None:
    for device in devices.iterchildren(tag=etree.Element):
        address = device.find("address")
        if address is not None:
            device.append(address)
