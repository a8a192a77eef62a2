"""What a running domain's XML shows beyond the persistent one: the ends of its character devices.

Reads and edits definitions only; where the values come from is not known here.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from lxml import etree

from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.definitions.tree import child_attribute

AGENT_NAME: Final = "org.qemu.guest_agent.0"
_CHARACTER_DEVICES: Final = ("serial", "parallel", "console", "channel")


class Channel(NamedTuple):
    """The guest agent's channel; `path` is the host's end, None where the driver chooses it."""

    alias: str
    path: str | None


def agent_channel(definition: DomainDefinition) -> Channel | None:
    """The channel that the guest agent listens on, if there is one."""
    if not definition.has_guest_agent:
        return None
    devices = etree.fromstring(definition.to_xml()).find("devices")
    if devices is None:
        return None
    for index, element in enumerate(devices.iterchildren("channel")):
        if child_attribute(element, "target", "name") == AGENT_NAME:
            alias = child_attribute(element, "alias", "name") or f"channel{index}"
            return Channel(alias, child_attribute(element, "source", "path"))
    return None


def with_terminals(definition: DomainDefinition, paths: Mapping[str, str]) -> DomainDefinition:
    """Show the pseudo terminal of each character device, given by alias."""

    def edit(devices: etree._Element) -> None:
        for alias, element in _character_devices(devices):
            path = paths.get(alias)
            if path is not None:
                _show_terminal(element, path)
        _show_first_serial_as_console(devices)

    return definition.edited_devices(edit) if paths else definition


def terminal(definition: DomainDefinition, alias: str) -> str | None:
    """The pseudo terminal shown for an alias."""
    devices = etree.fromstring(definition.to_xml()).find("devices")
    for known, element in () if devices is None else _character_devices(devices):
        if known == alias:
            return child_attribute(element, "source", "path")
    return None


def _character_devices(devices: etree._Element) -> Iterator[tuple[str, etree._Element]]:
    """With their aliases, which are the kind and a number unless they say otherwise."""
    for kind in _CHARACTER_DEVICES:
        for index, element in enumerate(devices.iterchildren(kind)):
            yield child_attribute(element, "alias", "name") or f"{kind}{index}", element


def disk_alias(definition: DomainDefinition, target: str) -> str:
    """The name of the device that a disk is in; the target where it has none."""
    root = etree.fromstring(definition.to_xml())
    for element in root.iterfind("devices/disk"):
        if child_attribute(element, "target", "dev") == target:
            return child_attribute(element, "alias", "name") or target
    return target


def disk_aliases(root: etree._Element) -> dict[str, str]:
    """By target, the names of the devices that the disks are in."""
    return {
        child_attribute(disk, "target", "dev") or "": child_attribute(disk, "alias", "name") or ""
        for disk in root.iterfind("devices/disk")
    }


def _show_terminal(element: etree._Element, path: str) -> None:
    source = element.find("source")
    if source is None:
        source = etree.Element("source")
        element.insert(0, source)
    source.set("path", path)
    if element.tag == "console":
        element.set("tty", path)


def _show_first_serial_as_console(devices: etree._Element) -> None:
    """The first console is the first serial port under another name, unless it is of its own."""
    serial, console = devices.find("serial"), devices.find("console")
    if serial is None or console is None:
        return
    path = child_attribute(serial, "source", "path")
    kind = child_attribute(console, "target", "type") or "serial"
    if path is not None and kind == "serial":
        _show_terminal(console, path)
