"""XML for the domains and checkpoints of a world that were described without any.

The domain is the kind of machine that virt-install makes: virtio disks, a guest agent channel, a
serial console. Only writes text; `definitions` reads it back like any caller's.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from virtbackupd.drivers.definitions.writer import attributes, element_line, escape_text
from virtbackupd.drivers.memory.world_file import CheckpointEntry

_BUS_OF_DEVICE: Final = {"cdrom": "sata", "floppy": "fdc"}
_AGENT: Final = """\
    <channel type='unix'>
      <target type='virtio' name='org.qemu.guest_agent.0'/>
    </channel>
"""


class MachineXml(NamedTuple):
    """What the XML of a domain tells besides its disks."""

    name: str
    uuid: str
    memory_kib: int
    vcpus: int
    agent: bool


class DiskXml(NamedTuple):
    """What the XML of a disk tells."""

    target: str
    path: str | None
    format: str
    device: str
    bus: str | None
    read_only: bool
    backing: Sequence[tuple[str, str]]
    """Path and format of each image below, the uppermost first."""
    data_store: str | None


def domain_xml(machine: MachineXml, disks: Sequence[DiskXml]) -> str:
    """The whole document."""
    return (
        "<domain type='qemu'>\n"
        f"  <name>{escape_text(machine.name)}</name>\n"
        f"  <uuid>{machine.uuid}</uuid>\n"
        f"  <memory unit='KiB'>{machine.memory_kib}</memory>\n"
        f"  <vcpu>{machine.vcpus}</vcpu>\n"
        "  <os>\n    <type arch='x86_64' machine='q35'>hvm</type>\n    <boot dev='hd'/>\n  </os>\n"
        "  <features>\n    <acpi/>\n  </features>\n"
        "  <devices>\n"
        "    <emulator>/usr/bin/qemu-system-x86_64</emulator>\n"
        f"{''.join(_disk(disk) for disk in disks)}"
        "    <serial type='pty'>\n      <target port='0'/>\n    </serial>\n"
        "    <console type='pty'>\n      <target type='serial' port='0'/>\n    </console>\n"
        f"{_AGENT if machine.agent else ''}"
        "  </devices>\n"
        "</domain>\n"
    )


def checkpoint_xml(
    entry: CheckpointEntry, parent: str | None, created: int, disks: Sequence[str], domain: str
) -> str:
    """A document to redefine the checkpoint from; `domain` is the domain's XML."""
    parts = ["<domaincheckpoint>\n", element_line(1, "name", entry.name)]
    if entry.description is not None:
        parts.append(element_line(1, "description", entry.description))
    if parent is not None:
        parts += ["  <parent>\n", element_line(2, "name", parent), "  </parent>\n"]
    parts += [element_line(1, "creationTime", str(created)), "  <disks>\n"]
    parts += [_checkpoint_disk(target, entry.name) for target in disks]
    parts += ["  </disks>\n", domain, "</domaincheckpoint>\n"]
    return "".join(parts)


def _checkpoint_disk(target: str, bitmap: str) -> str:
    named = (("name", target), ("checkpoint", "bitmap"), ("bitmap", bitmap))
    return f"    <disk{attributes(named)}/>\n"


def _disk(disk: DiskXml) -> str:
    bus = disk.bus or _BUS_OF_DEVICE.get(disk.device, "virtio")
    parts = [
        f"    <disk type='file' device='{disk.device}'>\n",
        f"      <driver name='qemu' type='{disk.format if disk.path else 'raw'}'/>\n",
    ]
    if disk.path is not None:
        parts.append(_source(disk.path, disk.data_store))
    if disk.backing:
        parts.append(_backing(disk.backing))
    parts.append(f"      <target{attributes((('dev', disk.target), ('bus', bus)))}/>\n")
    if disk.read_only:
        parts.append("      <readonly/>\n")
    parts.append("    </disk>\n")
    return "".join(parts)


def _source(path: str, data_store: str | None) -> str:
    named = attributes([("file", path)])
    if data_store is None:
        return f"      <source{named}/>\n"
    return (
        f"      <source{named}>\n"
        "        <dataStore type='file'>\n"
        "          <format type='raw'/>\n"
        f"          <source{attributes([('file', data_store)])}/>\n"
        "        </dataStore>\n"
        "      </source>\n"
    )


def _backing(layers: Sequence[tuple[str, str]]) -> str:
    if not layers:
        return "<backingStore/>\n"
    (path, format_name), *below = layers
    return (
        "      <backingStore type='file'>\n"
        f"        <format type='{format_name}'/>\n"
        f"        <source{attributes([('file', path)])}/>\n"
        f"        {_backing(below).lstrip()}"
        "      </backingStore>\n"
    )
