"""Devices that come to and go from a running machine: disks on virtio, SCSI and USB, network cards.

A guest may take its time to let a device go, or never do so: the call then returns, and the device
leaves the definition when QEMU says that it has gone. The caller has the turn.
"""

import logging
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio
from lxml import etree

from virtbackupd.drivers.definitions import device_edits
from virtbackupd.drivers.definitions.address import PciAddress, read_address, write_address
from virtbackupd.drivers.definitions.disk import read_disk
from virtbackupd.drivers.definitions.disk_options import read_disk_hardware
from virtbackupd.drivers.definitions.domain_defaults import devices_of
from virtbackupd.drivers.definitions.hardware import read_interface_hardware
from virtbackupd.drivers.definitions.tree import child_attribute
from virtbackupd.drivers.definitions.writer import format_element
from virtbackupd.drivers.errors import (
    ConfigUnsupported,
    DeviceMissing,
    DriverError,
    OperationFailed,
    OperationUnsupported,
)
from virtbackupd.drivers.events import (
    DomainDeviceAdded,
    DomainDeviceRemovalFailed,
    DomainDeviceRemoved,
)
from virtbackupd.drivers.qemu import disk_figures
from virtbackupd.drivers.qemu.addresses import is_express
from virtbackupd.drivers.qemu.aliases import next_alias
from virtbackupd.drivers.qemu.build import Build
from virtbackupd.drivers.qemu.bus_addresses import assign_drive_addresses, assign_usb_addresses
from virtbackupd.drivers.qemu.default_devices import complete_disk, complete_interface
from virtbackupd.drivers.qemu.defaults import machine_kind
from virtbackupd.drivers.qemu.device_disks import disk_device
from virtbackupd.drivers.qemu.device_interfaces import interface_device, needs_helper, netdev
from virtbackupd.drivers.qemu.live_details import show_chain
from virtbackupd.drivers.qemu.live_nodes import add_nodes, delete_nodes
from virtbackupd.drivers.qemu.pci import PciBuses
from virtbackupd.drivers.qemu.prepare import capabilities_of
from virtbackupd.drivers.qemu.qmp import QmpError
from virtbackupd.drivers.qemu.run import Leaving
from virtbackupd.drivers.qemu.undo import undone_by

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.domain import DomainDefinition
    from virtbackupd.drivers.qemu.arguments import Json
    from virtbackupd.drivers.qemu.domain import QemuDomain
    from virtbackupd.drivers.qemu.run import Run

log = logging.getLogger(__name__)

PATIENCE: Final = 5.0
"""Seconds that a guest has to let go of a device while the caller waits, as in libvirt."""
_HOT_BUSES: Final = ("virtio", "scsi", "usb")


async def attach_disk(domain: "QemuDomain", device: etree._Element) -> None:
    """Open the images, then show the disk to the guest; a failure leaves nothing behind."""
    complete_disk(device)
    disk = read_disk(device)
    if disk.bus not in _HOT_BUSES or disk.removable:
        raise OperationUnsupported(
            f"disk {disk.target!r} on the bus {disk.bus!r} cannot be attached while domain"
            f" {domain.ref.name} runs: use one of {', '.join(_HOT_BUSES)}"
        )
    live, placed = _placed(domain.definition, device)
    nodes = await domain.nodes.probe(disk)
    await add_nodes(domain, nodes)
    async with undone_by(partial(delete_nodes, domain, nodes), PATIENCE):
        build = await _build(domain, live)
        hardware = read_disk_hardware(placed)
        await _device_add(domain, disk_device(build, hardware, nodes.node, None))
    domain.nodes.disks[disk.target] = nodes
    show_chain(placed, nodes)
    await _added(domain, device_edits.attach_device(domain.definition, format_element(placed)),
                 hardware.alias)  # fmt: skip
    await disk_figures.learn_capacities(domain, domain.require_run())


async def attach_interface(domain: "QemuDomain", device: etree._Element) -> None:
    """Connect the host's end, then the guest's."""
    complete_interface(device)
    live, placed = _placed(domain.definition, device)
    interface = read_interface_hardware(placed)
    build = await _build(domain, live)
    running = await _build(domain, domain.definition)
    if interface.type == "bridge" and not needs_helper(running):
        raise OperationUnsupported(
            f"domain {domain.ref.name} was started without a bridge, its QEMU may not run the"
            " bridge's helper: add the interface with the flag CONFIG and start it again"
        )
    backend = netdev(interface)
    await domain.monitor.execute("netdev_add", backend)
    async with undone_by(partial(_forget_netdev, domain, backend["id"]), PATIENCE):
        await _device_add(domain, interface_device(build, interface, None))
    await _added(domain, device_edits.attach_device(domain.definition, format_element(placed)),
                 interface.place.alias)  # fmt: skip


async def detach(domain: "QemuDomain", device: etree._Element) -> None:
    """Take out the disk with the same target, or the interface with the same MAC address."""
    found = _find(domain, device)
    await detach_alias(domain, child_attribute(found, "alias", "name") or "")


async def detach_alias(domain: "QemuDomain", alias: str) -> None:
    """Ask the guest to let go, and wait for a while."""
    run = domain.require_run()
    device = _by_alias(domain.definition, alias)
    if device is None or device.tag not in ("disk", "interface"):
        raise DeviceMissing(
            f"domain {domain.ref.name} has no disk or interface with the alias {alias!r}"
        )
    if device.tag == "disk":
        _require_detachable(domain, device)
    leaving = run.leaving.setdefault(alias, Leaving())
    try:
        await domain.monitor.execute("device_del", {"id": alias})
    except QmpError as error:
        if error.class_ != "DeviceNotFound":
            run.leaving.pop(alias, None)
            raise
        gone(domain, run, {"device": alias})
    await _answer(domain, alias, leaving)


async def _answer(domain: "QemuDomain", alias: str, leaving: Leaving) -> None:
    """Only the guest's part has a limit: what it has let go of is cleared away on return."""
    with trio.move_on_after(PATIENCE):
        await leaving.answered.wait()
    if leaving.refused:
        raise OperationFailed(f"the guest of domain {domain.ref.name} keeps device {alias}")
    if leaving.answered.is_set():
        await leaving.cleared.wait()


async def update_link(domain: "QemuDomain", device: etree._Element) -> None:
    """Connect or disconnect the cable of an interface."""
    complete_interface(device)
    wanted = read_interface_hardware(device)
    found = _find(domain, device)
    known = read_interface_hardware(found)
    if (wanted.type, wanted.model, wanted.bridge) != (known.type, known.model, known.bridge):
        raise OperationUnsupported(
            f"of interface {wanted.mac} of a running domain only the link's state can be changed"
        )
    state = "up" if wanted.link_up else "down"
    await domain.monitor.execute("set_link", {"name": known.place.alias, "up": wanted.link_up})

    def edit(devices: etree._Element) -> None:
        interface = _identified(devices, device)
        if interface is not None:
            link = interface.find("link")
            if link is None:
                link = etree.SubElement(interface, "link")
            link.set("state", state)

    domain.live = domain.definition.edited_devices(edit)
    await domain.save_status()


# What QEMU says of devices
def gone(domain: "QemuDomain", run: "Run", data: dict[str, Any]) -> None:
    """DEVICE_DELETED: the guest has let go, and nobody is shown the device any more. No waiting."""
    alias = str(data.get("device") or "")
    device = _by_alias(domain.definition, alias) if alias else None
    leaving = run.leaving.pop(alias, None) or Leaving()
    leaving.answered.set()
    if device is None or domain.run is not run:
        leaving.cleared.set()
    else:
        domain.live = domain.definition.edited_devices(lambda it: _drop(it, alias))
        domain.host.nursery.start_soon(_remove, domain, run, device, leaving)


def kept(domain: "QemuDomain", run: "Run", data: dict[str, Any]) -> None:
    """DEVICE_UNPLUG_GUEST_ERROR: the guest refuses. Must not wait."""
    alias = str(data.get("device") or "")
    if alias:
        domain.events.publish(DomainDeviceRemovalFailed(domain.ref, alias))
    leaving = run.leaving.pop(alias, None)
    if leaving is not None:
        leaving.refused = True
        leaving.answered.set()


async def _remove(
    domain: "QemuDomain", run: "Run", device: etree._Element, leaving: Leaving
) -> None:
    """Clear away what was behind a device, and tell; QEMU may end in the meantime."""
    alias = child_attribute(device, "alias", "name") or ""
    try:
        await _clear_behind(domain, alias, device)
    except DriverError as error:
        log.error("device %s of domain %s: %s", alias, domain.ref.name, error.message)
    if domain.run is run and not run.gone:
        domain.events.publish(DomainDeviceRemoved(domain.ref, alias))
        await domain.save_status_if_possible()
    leaving.cleared.set()


async def _clear_behind(domain: "QemuDomain", alias: str, device: etree._Element) -> None:
    if device.tag == "interface":
        await _forget_netdev(domain, f"host{alias}")
        return
    target = child_attribute(device, "target", "dev") or ""
    nodes = domain.nodes.disks.pop(target, None)
    if nodes is not None:
        await delete_nodes(domain, nodes)


async def _forget_netdev(domain: "QemuDomain", name: str) -> None:
    try:
        await domain.monitor.execute("netdev_del", {"id": name})
    except QmpError:
        # A netdev that is not there any more is what was wanted.
        return


async def _device_add(domain: "QemuDomain", props: "Json") -> None:
    await domain.monitor.execute("device_add", props)


async def _added(domain: "QemuDomain", live: "DomainDefinition", alias: str | None) -> None:
    domain.live = live
    domain.events.publish(DomainDeviceAdded(domain.ref, alias or ""))
    await domain.save_status()


async def _build(domain: "QemuDomain", live: "DomainDefinition") -> Build:
    capabilities = await capabilities_of(domain.host, live)
    return Build.of(live, capabilities, domain.require_run().paths)


def _placed(
    live: "DomainDefinition", device: etree._Element
) -> "tuple[DomainDefinition, etree._Element]":
    """The definition with the device at a free place, and the device as it is there."""
    found: list[etree._Element] = []
    attached = device_edits.attach_device(live, format_element(device))

    def edit(root: etree._Element) -> None:
        devices = devices_of(root)
        added = _identified(devices, device)
        if added is None:
            raise ConfigUnsupported(f"a <{device.tag}> needs a target or a MAC address")
        _place(devices, added, machine_kind(root))
        alias = etree.SubElement(added, "alias")
        alias.set("name", next_alias(devices, added))
        found.append(added)

    definition = attached.edited(edit)
    return definition, found[0]


def _place(devices: etree._Element, added: etree._Element, kind: str) -> None:
    """Only places that the running machine has already."""
    bus = child_attribute(added, "target", "bus") if added.tag == "disk" else None
    if bus == "scsi":
        assign_drive_addresses(devices)
    elif bus == "usb":
        assign_usb_addresses(devices)
    elif not isinstance(read_address(added), PciAddress):
        buses = PciBuses(devices, kind)
        write_address(added, buses.free_hotplug_place(express=is_express(added)))


def _find(domain: "QemuDomain", device: etree._Element) -> etree._Element:
    found = domain.definition.view(lambda root: _copy(_identified(devices_of(root), device)))
    if found is None:
        raise DeviceMissing(
            f"domain {domain.ref.name} has no <{device.tag}> with the same target or MAC address"
        )
    return found


def _identified(devices: etree._Element, device: etree._Element) -> etree._Element | None:
    path, name = ("target", "dev") if device.tag == "disk" else ("mac", "address")
    wanted = (child_attribute(device, path, name) or "").lower()
    for known in devices.iterchildren(device.tag):
        if wanted and (child_attribute(known, path, name) or "").lower() == wanted:
            return known
    return None


def _by_alias(definition: "DomainDefinition", alias: str) -> etree._Element | None:
    return definition.view(lambda root: _copy(_aliased(devices_of(root), alias)))


def _aliased(devices: etree._Element, alias: str) -> etree._Element | None:
    for device in devices.iterchildren(tag=etree.Element):
        if child_attribute(device, "alias", "name") == alias:
            return device
    return None


def _drop(devices: etree._Element, alias: str) -> None:
    device = _aliased(devices, alias)
    if device is not None:
        devices.remove(device)


def _copy(element: etree._Element | None) -> etree._Element | None:
    return None if element is None else deepcopy(element)


def _require_detachable(domain: "QemuDomain", device: etree._Element) -> None:
    disk = read_disk(device)
    if disk.bus not in _HOT_BUSES:
        raise OperationUnsupported(
            f"disk {disk.target!r} on the bus {disk.bus!r} cannot be detached while it runs"
        )
    if domain.backup is not None and domain.backup.uses(disk.target):
        raise OperationUnsupported(
            f"disk {disk.target!r} is part of the running backup of domain {domain.ref.name}:"
            " end that first"
        )
