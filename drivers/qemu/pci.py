"""Free places on the PCI buses of a machine, and the root ports and bridges that make more of them.

Two topologies: one conventional bus (pc), and PCI Express, where a device takes a root port of its
own (q35). What has an address keeps it. Knows no command line.
"""

from collections import Counter
from typing import Final

from lxml import etree

from virtbackupd.drivers.definitions.address import PciAddress, read_address, write_address
from virtbackupd.drivers.definitions.tree import has_child
from virtbackupd.drivers.errors import ConfigUnsupported

SLOTS: Final = 32
FUNCTIONS: Final = 8
_MAX_BUSES: Final = 255
_ROOT_PORTS: Final = ("pcie-root-port", "pcie-switch-upstream-port")
_BRIDGES: Final = ("pcie-to-pci-bridge", "dmi-to-pci-bridge", "pci-bridge")
_MODEL_NAMES: Final = {
    "pcie-root-port": "pcie-root-port",
    "pcie-to-pci-bridge": "pcie-pci-bridge",
    "dmi-to-pci-bridge": "i82801b11-bridge",
    "pci-bridge": "pci-bridge",
}
_RESERVED: Final = {"pc": {(0, 0), (0, 1)}, "q35": {(0, 0), (0, 0x1F)}}
"""Slots of the chipset: the host bridge, and what is built in."""


class PciBuses:
    """The buses of the machine whose `<devices>` these are."""

    def __init__(self, devices: etree._Element, kind: str) -> None:
        self.express = kind == "q35"
        self._devices = devices
        self._slots: set[tuple[int, int]] = set(_RESERVED[kind])
        self._functions: Counter[tuple[int, int, int]] = Counter()
        self._kind = kind
        for device in devices.iterchildren(tag=etree.Element):
            address = read_address(device)
            if isinstance(address, PciAddress):
                self.take(address)
        self._refuse_collisions()

    def take(self, address: PciAddress) -> None:
        """Note that the function is in use."""
        self._slots.add((address.bus, address.slot))
        self._functions[address.bus, address.slot, address.function] += 1

    def place(self, device: etree._Element, address: PciAddress) -> None:
        """Put a device there."""
        write_address(device, address)
        self.take(address)

    def place_if_free(self, device: etree._Element, address: PciAddress) -> bool:
        """Put a device where its kind belongs, unless the place is taken."""
        if self._functions[address.bus, address.slot, address.function]:
            return False
        self.place(device, address)
        return True

    def place_anywhere(self, device: etree._Element, *, express: bool) -> None:
        """Put a device on the next free place that suits it."""
        if not self.express or not express:
            self.place(device, self._free_slot())
        else:
            self.place(device, PciAddress(self._free_port(), 0))

    def place_controllers(self) -> None:
        """Root ports and bridges that the document names come first: they make places."""
        self.add_missing_buses()
        for controller in self._pci_controllers():
            model = controller.get("model", "")
            if model.endswith("-root"):
                continue
            self._complete_controller(controller)
            if read_address(controller) is None:
                self._place_controller(controller, model)

    def add_missing_buses(self) -> None:
        """Addresses on a bus that nothing provides: PCI Express gets a root port for it."""
        known = self._models()
        for bus in sorted({bus for bus, _ in self._slots}):
            for index in range(1, bus + 1):
                if index not in known:
                    self._new_controller(index, self._default_bridge())
                    known[index] = self._default_bridge()

    def free_ports(self) -> int:
        """How many devices could still be plugged into root ports."""
        return sum(1 for bus in self._ports() if (bus, 0) not in self._slots)

    def add_port(self) -> int:
        """One more root port; returns its bus."""
        return self._add("pcie-root-port")

    def free_hotplug_place(self, *, express: bool) -> PciAddress:
        """Where a device can be plugged into a running machine; nothing can be added to that."""
        if self.express:
            for bus in self._ports() if express else ():
                if (bus, 0) not in self._slots:
                    return PciAddress(bus, 0)
        found = self._slot_on_buses(self._conventional_buses())
        if found is not None:
            return found
        raise ConfigUnsupported(
            "the running machine has no free place for another PCI device: shut it down and add a"
            " <controller type='pci' model='pcie-root-port'/>"
        )

    def _default_bridge(self) -> str:
        return "pcie-root-port" if self.express else "pci-bridge"

    def _place_controller(self, controller: etree._Element, model: str) -> None:
        if model == "pcie-root-port":
            self.place(controller, self._next_root_place())
        elif model == "pcie-to-pci-bridge":
            self.place(controller, PciAddress(self._free_port(), 0))
        elif model == "dmi-to-pci-bridge":
            self.place(controller, PciAddress(0, self._free_on_bus(0) or 0x1E))
        else:
            self.place(controller, self._free_slot(exclude=int(controller.get("index", "0"))))

    def _complete_controller(self, controller: etree._Element) -> None:
        model = controller.get("model", "")
        if model not in _MODEL_NAMES:
            raise ConfigUnsupported(f"PCI controller model {model!r} is not supported")
        if not has_child(controller, "model"):
            controller.insert(0, etree.Element("model", name=_MODEL_NAMES[model]))

    def _next_root_place(self) -> PciAddress:
        """Root ports share slots of the root bus, eight in each."""
        for controller in self._pci_controllers():
            address = read_address(controller)
            if controller.get("model") == "pcie-root-port" and isinstance(address, PciAddress):
                found = self._next_function(address)
                if found is not None:
                    return found
        slot = self._free_on_bus(0)
        if slot is None:
            raise ConfigUnsupported("the machine has no free slot for another root port")
        return PciAddress(0, slot, 0, multifunction=True)

    def _next_function(self, address: PciAddress) -> PciAddress | None:
        if address.bus or address.function or not address.multifunction:
            return None
        for function in range(1, FUNCTIONS):
            if not self._functions[0, address.slot, function]:
                return PciAddress(0, address.slot, function)
        return None

    def _free_port(self) -> int:
        for bus in self._ports():
            if (bus, 0) not in self._slots:
                return bus
        return self.add_port()

    def _free_slot(self, exclude: int | None = None) -> PciAddress:
        """On a conventional bus; a bridge is added where none has room."""
        buses = [bus for bus in self._conventional_buses() if bus != exclude]
        found = self._slot_on_buses(buses)
        if found is not None:
            return found
        bus = self._add("pcie-to-pci-bridge" if self.express else "pci-bridge")
        return PciAddress(bus, 1)

    def _slot_on_buses(self, buses: list[int]) -> PciAddress | None:
        for bus in buses:
            slot = self._free_on_bus(bus)
            # The last slot of the root bus stays free for a bridge, which makes more of them.
            if slot is not None and not (bus == 0 and slot == SLOTS - 1):
                return PciAddress(bus, slot)
        return None

    def _free_on_bus(self, bus: int) -> int | None:
        return next((slot for slot in range(1, SLOTS) if (bus, slot) not in self._slots), None)

    def _add(self, model: str) -> int:
        if model == "pcie-to-pci-bridge":
            self._free_port()
        taken = self._models()
        index = next(number for number in range(1, _MAX_BUSES + 2) if number not in taken)
        if index > _MAX_BUSES:
            raise ConfigUnsupported(f"the machine has more than {_MAX_BUSES} PCI buses")
        controller = self._new_controller(index, model)
        self._complete_controller(controller)
        if model == "pci-bridge":
            self.place(controller, PciAddress(0, self._free_on_bus(0) or SLOTS - 1))
        else:
            self._place_controller(controller, model)
        return index

    def _new_controller(self, index: int, model: str) -> etree._Element:
        controller = etree.Element("controller", type="pci", index=str(index), model=model)
        last = self._devices.findall("controller")[-1]
        last.addnext(controller)
        return controller

    def _pci_controllers(self) -> list[etree._Element]:
        found = self._devices.iterchildren("controller")
        return [controller for controller in found if controller.get("type") == "pci"]

    def _models(self) -> dict[int, str]:
        return {
            int(controller.get("index", "0")): controller.get("model", "")
            for controller in self._pci_controllers()
        }

    def _ports(self) -> list[int]:
        return sorted(index for index, model in self._models().items() if model in _ROOT_PORTS)

    def _conventional_buses(self) -> list[int]:
        bridges = sorted(index for index, model in self._models().items() if model in _BRIDGES)
        return bridges if self.express else [0, *bridges]

    def _refuse_collisions(self) -> None:
        for (bus, slot, function), users in self._functions.items():
            if users > 1:
                raise ConfigUnsupported(
                    f"PCI address 0000:{bus:02x}:{slot:02x}.{function} is used by {users} devices"
                )


def complete_ports(devices: etree._Element) -> None:
    """Write the chassis and port numbers of root ports and bridges, where they have none."""
    for controller in devices.iterchildren("controller"):
        address = read_address(controller)
        if controller.get("type") != "pci" or not isinstance(address, PciAddress):
            continue
        names = _target(controller.get("model", ""), controller.get("index", "0"), address)
        if names and not has_child(controller, "target"):
            target = etree.Element("target", names)
            controller.insert(1 if has_child(controller, "model") else 0, target)


def _target(model: str, index: str, address: PciAddress) -> dict[str, str]:
    if model == "pcie-root-port":
        port = address.slot << 3 | address.function
        return {"chassis": index, "port": f"0x{port:x}"}
    return {"chassisNr": index} if model == "pci-bridge" else {}
