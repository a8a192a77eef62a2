"""The controllers of a machine as QEMU devices. What the chipset has built in needs none."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from virtbackupd.drivers.definitions.address import PciAddress
from virtbackupd.drivers.errors import ConfigUnsupported
from virtbackupd.drivers.qemu.arguments import Json, known
from virtbackupd.drivers.qemu.build import virtio

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.hardware import ControllerHardware
    from virtbackupd.drivers.qemu.build import Build

_ORDER: Final = ("pci", "usb", "scsi", "sata", "virtio-serial", "fdc")
_USB: Final = {
    "piix3-uhci": "piix3-usb-uhci",
    "piix4-uhci": "piix4-usb-uhci",
    "ehci": "usb-ehci",
    "ich9-ehci1": "ich9-usb-ehci1",
    "ich9-uhci1": "ich9-usb-uhci1",
    "ich9-uhci2": "ich9-usb-uhci2",
    "ich9-uhci3": "ich9-usb-uhci3",
    "pci-ohci": "pci-ohci",
    "nec-xhci": "nec-usb-xhci",
    "qemu-xhci": "qemu-xhci",
}
_WITH_PORTS: Final = ("nec-xhci", "qemu-xhci")
_SCSI: Final = {
    "lsilogic": "lsi53c895a",
    "lsisas1068": "mptsas1068",
    "lsisas1078": "megasas",
    "vmpvscsi": "pvscsi",
    "dc390": "dc390",
    "am53c974": "am53c974",
}


def controller_devices(build: "Build") -> Iterator[Json]:
    """In an order in which each finds its bus."""
    found = sorted(build.hardware.controllers, key=lambda it: _ORDER.index(it.type)
                   if it.type in _ORDER else -1)  # fmt: skip
    for controller in _bridges_behind_ports(found):
        props = controller_props(build, controller)
        if props is not None:
            yield props


def controller_props(build: "Build", controller: "ControllerHardware") -> Json | None:
    """The device, or None for what needs none."""
    match controller.type:
        case "pci":
            return _pci(build, controller)
        case "usb":
            return _usb(build, controller)
        case "scsi":
            return _scsi(build, controller)
        case "sata":
            return _sata(build, controller)
        case "virtio-serial":
            return _virtio_serial(build, controller)
        case "fdc":
            return _floppy(build)
        case "ide":
            _require_builtin_ide(build, controller)
    return None


def _bridges_behind_ports(controllers: "list[ControllerHardware]") -> "list[ControllerHardware]":
    """A controller comes after the PCI bus that it sits on, whatever their numbers."""
    buses = [it for it in controllers if it.type == "pci"]
    return sorted(buses, key=lambda it: _depth(it, buses)) + [
        it for it in controllers if it.type != "pci"
    ]


def _depth(controller: "ControllerHardware", buses: "list[ControllerHardware]") -> int:
    depth = 0
    address = controller.place.address
    while isinstance(address, PciAddress) and address.bus and depth <= len(buses):
        depth += 1
        above = next((it for it in buses if it.index == address.bus), None)
        address = None if above is None else above.place.address
    return depth


def _pci(build: "Build", controller: "ControllerHardware") -> Json | None:
    place = controller.place
    match controller.model:
        case "pcie-root" | "pci-root":
            return None
        case "pcie-root-port":
            driver = controller.model_name or "pcie-root-port"
            props = known(driver=driver, port=controller.port, chassis=controller.chassis)
        case "pcie-to-pci-bridge":
            props = known(driver=controller.model_name or "pcie-pci-bridge")
        case "dmi-to-pci-bridge":
            props = known(driver=controller.model_name or "i82801b11-bridge")
        case "pci-bridge":
            props = known(driver="pci-bridge", chassis_nr=controller.chassis or controller.index)
        case model:
            raise ConfigUnsupported(f"PCI controller model {model!r} is not supported")
    return {**props, "id": place.alias, **build.place(place.address, "a PCI controller")}


def _usb(build: "Build", controller: "ControllerHardware") -> Json | None:
    model = controller.model or ""
    if model == "none":
        return None
    if model not in _USB:
        raise ConfigUnsupported(f"USB controller model {model!r} is not supported")
    props: Json = {"driver": _USB[model]}
    if controller.ports is not None and model in _WITH_PORTS:
        props |= {"p2": controller.ports, "p3": controller.ports}
    if controller.master_port is not None:
        alias = controller.place.alias
        props |= {"masterbus": f"{alias}.0", "firstport": controller.master_port}
    else:
        props["id"] = controller.place.alias
    return props | build.place(controller.place.address, "a USB controller")


def _scsi(build: "Build", controller: "ControllerHardware") -> Json:
    model = controller.model or "lsilogic"
    place = controller.place
    if model.startswith("virtio"):
        name = virtio("scsi", model.replace("virtio-scsi", "virtio"))
        io = None if controller.iothread is None else f"iothread{controller.iothread}"
        props = known(driver=name, iothread=io, num_queues=controller.queues)
    elif model in _SCSI:
        props = {"driver": _SCSI[model]}
    else:
        raise ConfigUnsupported(f"SCSI controller model {model!r} is not supported")
    return {**props, "id": place.alias, **build.place(place.address, "a SCSI controller")}


def _sata(build: "Build", controller: "ControllerHardware") -> Json | None:
    if build.kind == "q35" and controller.index == 0:
        return None
    place = build.place(controller.place.address, "a SATA controller")
    return {"driver": "ich9-ahci", "id": controller.place.alias, **place}


def _virtio_serial(build: "Build", controller: "ControllerHardware") -> Json:
    place = controller.place
    props = known(
        driver=virtio("serial", controller.model),
        id=place.alias,
        max_ports=controller.ports,
        vectors=controller.vectors,
    )
    return props | build.place(place.address, "a virtio-serial controller")


def _floppy(build: "Build") -> Json | None:
    """A pc has one built in; newer q35 machines have none."""
    return {"driver": "isa-fdc", "id": "fdc0"} if build.kind == "q35" else None


def _require_builtin_ide(build: "Build", controller: "ControllerHardware") -> None:
    if build.kind != "pc" or controller.index:
        raise ConfigUnsupported(
            f"IDE controller {controller.index} is not supported: only the machine pc has one,"
            " use the bus sata or scsi"
        )
