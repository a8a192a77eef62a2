"""Serial ports, consoles and channels: where the guest's end is and what the host's end is.

`devices` has the smaller view that a console stream needs. What a default means is a driver's rule.
"""

from dataclasses import dataclass

from lxml import etree

from virtbackupd.drivers.definitions.address import Address, read_address
from virtbackupd.drivers.definitions.tree import child_attribute, number


@dataclass(frozen=True, slots=True)
class CharacterPort:
    """One `<serial>`, `<console>` or `<channel>`."""

    kind: str
    type: str
    """The host's end: pty, unix, tcp, file, dev, null."""
    path: str | None
    mode: str
    """Of a socket: bind, or connect."""
    host: str | None
    service: str | None
    telnet: bool
    append: bool
    log_file: str | None
    target_type: str | None
    target_name: str | None
    target_port: int | None
    target_model: str | None
    alias: str | None
    address: Address | None


def read_ports(devices: etree._Element, kind: str) -> tuple[CharacterPort, ...]:
    return tuple(_port(element, kind) for element in devices.iterchildren(kind))


def _port(element: etree._Element, kind: str) -> CharacterPort:
    source = _source(element)
    port = child_attribute(element, "target", "port")
    return CharacterPort(
        kind=kind,
        type=element.get("type", "pty"),
        path=source.get("path"),
        mode=source.get("mode", "bind"),
        host=source.get("host"),
        service=source.get("service"),
        telnet=child_attribute(element, "protocol", "type") == "telnet",
        append=source.get("append") == "on",
        log_file=child_attribute(element, "log", "file"),
        target_type=child_attribute(element, "target", "type"),
        target_name=child_attribute(element, "target", "name"),
        target_port=None if port is None else number(port, f"the port of a <{kind}>", limit=65535),
        target_model=child_attribute(element, "target/model", "name"),
        alias=child_attribute(element, "alias", "name"),
        address=read_address(element),
    )


def _source(element: etree._Element) -> etree._Element:
    found = element.find("source")
    return etree.Element("source") if found is None else found
