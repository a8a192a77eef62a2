"""The devices of a domain other than disks, as far as a call or a statistic needs them."""

import msgspec
from lxml import etree

from virtbackupd.drivers.definitions.tree import child_attribute

_GUEST_AGENT_CHANNEL = "org.qemu.guest_agent.0"


class InterfaceDefinition(msgspec.Struct, frozen=True):
    """A network card; `source` is the network, bridge or device behind it."""

    type: str
    mac: str | None
    target: str | None
    model: str | None
    source: str | None


class CharacterDevice(msgspec.Struct, frozen=True):
    """A `<serial>` or `<console>`; `alias` is what a client may open it by."""

    kind: str
    type: str
    port: int
    alias: str


def read_interfaces(devices: etree._Element) -> tuple[InterfaceDefinition, ...]:
    return tuple(_interface(element) for element in devices.iterchildren("interface"))


def read_character_devices(devices: etree._Element, kind: str) -> tuple[CharacterDevice, ...]:
    found = enumerate(devices.iterchildren(kind))
    return tuple(_character_device(element, kind, index) for index, element in found)


def has_guest_agent(devices: etree._Element) -> bool:
    return any(
        child_attribute(channel, "target", "name") == _GUEST_AGENT_CHANNEL
        for channel in devices.iterchildren("channel")
    )


def _interface(element: etree._Element) -> InterfaceDefinition:
    source = element.find("source")
    names = [] if source is None else [source.get(key) for key in ("network", "bridge", "dev")]
    return InterfaceDefinition(
        type=element.get("type", "user"),
        mac=child_attribute(element, "mac", "address"),
        target=child_attribute(element, "target", "dev"),
        model=child_attribute(element, "model", "type"),
        source=next((name for name in names if name), None),
    )


def _character_device(element: etree._Element, kind: str, index: int) -> CharacterDevice:
    port = child_attribute(element, "target", "port") or ""
    return CharacterDevice(
        kind=kind,
        type=element.get("type", "pty"),
        port=int(port) if port.isascii() and port.isdigit() and len(port) < 6 else index,
        alias=child_attribute(element, "alias", "name") or f"{kind}{index}",
    )
