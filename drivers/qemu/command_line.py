"""From a completed definition to the arguments that start its QEMU, in libvirt's order.

The definition has all addresses and aliases; the block nodes of its disks are made by their owner.
Each part of the machine has a module of its own, this one only puts them together.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from virtbackupd.drivers.errors import ConfigUnsupported
from virtbackupd.drivers.qemu.arguments import Arguments, Json
from virtbackupd.drivers.qemu.build import Build
from virtbackupd.drivers.qemu.cpu import add_cpu
from virtbackupd.drivers.qemu.device_controllers import controller_devices
from virtbackupd.drivers.qemu.device_disks import disk_device
from virtbackupd.drivers.qemu.device_display import add_display
from virtbackupd.drivers.qemu.device_interfaces import interface_device, needs_helper, netdev
from virtbackupd.drivers.qemu.device_others import add_others
from virtbackupd.drivers.qemu.device_ports import add_ports
from virtbackupd.drivers.qemu.machine_arguments import (
    add_boot,
    add_clock,
    add_machine,
    add_memory,
    add_power,
    guest_name,
)

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.domain import DomainDefinition
    from virtbackupd.drivers.qemu.capabilities import QemuCapabilities
    from virtbackupd.drivers.qemu.config import DomainPaths


class PreparedDisk(Protocol):
    """What the command line needs of a disk's block nodes."""

    @property
    def node(self) -> str | None:
        """The top of the chain; None in an empty drive."""

    def blockdevs(self) -> list[Json]:
        """Each image before the one on top of it."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments, and the variables that it gets beside ours."""

    argv: Sequence[str]
    env: Mapping[str, str]


def build_command(
    definition: "DomainDefinition",
    *,
    paths: "DomainPaths",
    capabilities: "QemuCapabilities",
    disks: Mapping[str, PreparedDisk],
    objects: Sequence[Json] = (),
    incoming: str | None = None,
    monitor_fd: int | None = None,
) -> Command:
    """`objects` come before all nodes and devices; the guest's processors are held at first.

    `monitor_fd` is a socket that listens already; without it QEMU makes its own.
    """
    build = Build.of(definition, capabilities, paths)
    arguments = Arguments()
    _add_head(arguments, build)
    arguments.objects(objects)
    _add_monitor(arguments, build, monitor_fd)
    _add_machine(arguments, build)
    _add_devices(arguments, build, disks)
    capabilities.require_devices(*arguments.drivers)
    arguments.add("-sandbox", _sandbox(build))
    arguments.add("-msg", "timestamp=on")
    if incoming is not None:
        arguments.add("-incoming", incoming)
    arguments.add(*build.machine.qemu.arguments)
    argv = [definition.emulator or capabilities.path, *arguments.all()]
    return Command(argv, dict(build.machine.qemu.environment))


def boot_indexes(build: Build) -> dict[str, int]:
    """By the alias of each device that `<os><boot>` means: the first of its kind."""
    found: dict[str, int] = {}
    for position, kind in enumerate(build.machine.boot.devices, start=1):
        alias = next(iter(_boot_candidates(build, kind)), None)
        if alias is not None:
            found[alias] = position
    return found


def _boot_candidates(build: Build, kind: str) -> Iterator[str]:
    if kind == "network":
        aliases = [interface.place.alias for interface in build.hardware.interfaces]
        yield from (alias for alias in aliases if alias)
        return
    device = {"hd": "disk", "cdrom": "cdrom", "fd": "floppy"}.get(kind)
    for disk in build.hardware.disks:
        if disk.disk.device == device and disk.alias:
            yield disk.alias


def _add_head(arguments: Arguments, build: Build) -> None:
    arguments.add("-name", guest_name(build), "-S", "-no-user-config", "-nodefaults")
    arguments.add("-uuid", build.definition.uuid_text)


def _add_machine(arguments: Arguments, build: Build) -> None:
    add_machine(arguments, build)
    add_cpu(arguments, build)
    add_memory(arguments, build)
    add_clock(arguments, build)
    add_power(arguments, build)
    add_boot(arguments, build)


def _add_monitor(arguments: Arguments, build: Build, descriptor: int | None) -> None:
    where = {"path": str(build.paths.monitor)} if descriptor is None else {"fd": str(descriptor)}
    arguments.option("chardev", "socket", id="charmonitor", **where, server="on", wait="off")
    arguments.option("mon", "", chardev="charmonitor", id="monitor", mode="control")


def _add_devices(arguments: Arguments, build: Build, disks: Mapping[str, PreparedDisk]) -> None:
    for props in controller_devices(build):
        arguments.device(props)
    boot = boot_indexes(build)
    for hardware in build.hardware.disks:
        nodes = _nodes_of(hardware.disk.target, disks)
        for props in nodes.blockdevs():
            arguments.json("blockdev", props)
        index = boot.get(hardware.alias or "")
        arguments.device(disk_device(build, hardware, nodes.node, index))
    for interface in build.hardware.interfaces:
        arguments.json("netdev", netdev(interface))
        index = boot.get(interface.place.alias or "")
        arguments.device(interface_device(build, interface, index))
    add_ports(arguments, build)
    add_display(arguments, build)
    add_others(arguments, build)


def _nodes_of(target: str, disks: Mapping[str, PreparedDisk]) -> PreparedDisk:
    nodes = disks.get(target)
    if nodes is None:
        raise ConfigUnsupported(f"disk {target!r} has not been prepared")
    return nodes


def _sandbox(build: Build) -> str:
    """Nothing that a guest breaks into may start programs or gain rights."""
    allowed = "allow" if needs_helper(build) else "deny"
    return f"on,obsolete=deny,elevateprivileges={allowed},spawn={allowed},resourcecontrol=deny"
