"""What the builders of the command line know of a domain: its views, and how buses are called.

One of these is made for each start and each device that is plugged in. Builds nothing itself.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from virtbackupd.drivers.definitions.address import (
    DriveAddress,
    OtherAddress,
    PciAddress,
    UsbAddress,
    VirtioSerialAddress,
)
from virtbackupd.drivers.definitions.hardware import ControllerHardware, Hardware, read_hardware
from virtbackupd.drivers.definitions.machine import MachineDefinition, read_machine
from virtbackupd.drivers.errors import ConfigUnsupported
from virtbackupd.drivers.qemu.arguments import Json
from virtbackupd.drivers.qemu.defaults import machine_kind

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.address import Address
    from virtbackupd.drivers.definitions.domain import DomainDefinition
    from virtbackupd.drivers.qemu.capabilities import QemuCapabilities
    from virtbackupd.drivers.qemu.config import DomainPaths


@dataclass(frozen=True, slots=True)
class Build:
    """A completed definition with aliases, and where its QEMU lives."""

    definition: "DomainDefinition"
    machine: MachineDefinition
    hardware: Hardware
    kind: str
    capabilities: "QemuCapabilities"
    paths: "DomainPaths"

    @staticmethod
    def of(
        definition: "DomainDefinition", capabilities: "QemuCapabilities", paths: "DomainPaths"
    ) -> "Build":
        return Build(
            definition=definition,
            machine=definition.view(read_machine),
            hardware=definition.view(read_hardware),
            kind=definition.view(machine_kind),
            capabilities=capabilities,
            paths=paths,
        )

    @property
    def accelerated(self) -> bool:
        return self.definition.type == "kvm"

    def controller(self, kind: str, index: int) -> ControllerHardware:
        for controller in self.hardware.controllers:
            if (controller.type, controller.index) == (kind, index):
                return controller
        raise ConfigUnsupported(
            f"domain {self.definition.name} has no {kind} controller {index}, which a device uses"
        )

    def place(self, address: "Address | None", what: str) -> Json:
        """The properties that put a device on its bus."""
        match address:
            case PciAddress():
                return self._pci(address)
            case UsbAddress(bus, port):
                return {"bus": f"{self._usb_bus(bus)}.0", "port": port}
            case VirtioSerialAddress(controller, bus, port):
                alias = self.controller("virtio-serial", controller).place.alias
                return {"bus": f"{alias}.{bus}", "nr": port}
            case DriveAddress() | OtherAddress() | None:
                raise ConfigUnsupported(
                    f"{what} of domain {self.definition.name} has an address that it cannot have"
                )

    def _pci(self, address: PciAddress) -> Json:
        slot = f"0x{address.slot:x}"
        props: Json = {"bus": self.controller("pci", address.bus).place.alias}
        props["addr"] = f"{slot}.0x{address.function:x}" if address.function else slot
        if address.multifunction:
            props["multifunction"] = True
        return props

    def _usb_bus(self, index: int) -> str:
        """Companion controllers have no bus of their own: the main one is the first."""
        return self.controller("usb", index).place.alias or "usb"


def virtio(name: str, model: str | None) -> str:
    """The PCI device of a virtio kind, by libvirt's name of the variant."""
    suffix = (model or "virtio").removeprefix("virtio")
    return f"virtio-{name}-pci{suffix}"
