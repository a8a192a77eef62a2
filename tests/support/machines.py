"""Definitions as the QEMU driver completes them, their command lines, a QEMU that tries these."""

import json
import subprocess
from functools import cache
from pathlib import Path

import trio
from lxml import etree

from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.qemu.addresses import complete
from virtbackupd.drivers.qemu.aliases import with_aliases
from virtbackupd.drivers.qemu.block_nodes import BlockNodes
from virtbackupd.drivers.qemu.capabilities import QemuCapabilities, probe
from virtbackupd.drivers.qemu.command_line import build_command
from virtbackupd.drivers.qemu.config import DomainPaths
from virtbackupd.drivers.qemu.image_chain import read_chain

EMULATOR = "/usr/bin/qemu-system-x86_64"
_DOMAIN = """<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<name>m</name><uuid>00000000-0000-4000-8000-000000000001</uuid><memory unit='MiB'>32</memory>
{vcpu}<os><type machine='{machine}'>hvm</type>{boot}</os>{extra}<devices>{devices}</devices>
{tail}</domain>"""


@cache
def capabilities() -> QemuCapabilities:
    return trio.run(probe, EMULATOR)


def domain(devices: str = "", machine: str = "q35", **parts: str) -> str:
    """A domain document; `parts` are boot, vcpu, extra and tail."""
    known = {"boot": "", "vcpu": "", "extra": "", "tail": ""} | parts
    return _DOMAIN.format(devices=devices, machine=machine, **known)


def completed(xml: str) -> DomainDefinition:
    return complete(DomainDefinition.parse(xml), capabilities())


def tree(definition: DomainDefinition) -> etree._Element:
    return etree.fromstring(definition.to_xml())


def addresses(definition: DomainDefinition, path: str) -> list[str]:
    """As `bus:slot.function`, or the numbers of another address with dots."""
    found = tree(definition).findall(f"devices/{path}/address")
    return [_short(address) for address in found]


def _short(address: etree._Element) -> str:
    if address.get("type") == "pci":
        keys = ("bus", "slot", "function")
        bus, slot, function = (int(address.get(key, "0"), 16) for key in keys)
        return f"{bus}:{slot:x}.{function}"
    return ".".join(str(value) for key, value in address.attrib.items() if key != "type")


def command(xml: str, folder: Path = Path("/run/m"), incoming: str | None = None) -> list[str]:
    """The arguments of a domain as it would be started."""
    live = with_aliases(completed(xml))
    nodes = BlockNodes()
    for disk in live.disks:
        nodes.disks[disk.target] = nodes.number(disk, read_chain(disk))
    paths = DomainPaths(folder, folder / "log")
    built = build_command(
        live, paths=paths, capabilities=capabilities(), disks=nodes.disks, incoming=incoming
    )
    return list(built.argv)


def values(argv: list[str], option: str) -> list[str]:
    """What follows each `-option`."""
    return [argv[at + 1] for at, word in enumerate(argv) if word == f"-{option}"]


def devices(argv: list[str]) -> dict[str, dict[str, object]]:
    """By id, or by driver where there is none."""
    found = [json.loads(text) for text in values(argv, "device")]
    return {str(props.get("id", props["driver"])): props for props in found}


def try_out(argv: list[str]) -> str:
    """Start, ask for the state and quit; returns what QEMU complains about."""
    lines = [{"execute": name} for name in ("qmp_capabilities", "query-status", "quit")]
    talk = "\n".join(map(json.dumps, lines)).encode()
    done = subprocess.run(
        [*argv, "-qmp", "stdio"], input=talk, capture_output=True, timeout=60, check=False
    )
    answered = b'"prelaunch"' in done.stdout and done.returncode == 0
    return "" if answered else done.stderr.decode()
