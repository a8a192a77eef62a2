"""What a running domain's XML shows of its disks' images, sockets and ports beyond the stored one.

Edits definitions only; where the values come from is not known here.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from lxml import etree

from virtbackupd.drivers.definitions.tree import child_attribute, drop_attribute

if TYPE_CHECKING:
    from collections.abc import Mapping

    from virtbackupd.drivers.definitions.domain import DomainDefinition
    from virtbackupd.drivers.qemu.block_nodes import DiskNodes, Layer


def with_chains(
    definition: "DomainDefinition", chains: "Mapping[str, DiskNodes]"
) -> "DomainDefinition":
    """Show the number of each image, and what is below it."""

    def edit(devices: etree._Element) -> None:
        for disk in devices.iterchildren("disk"):
            nodes = chains.get(child_attribute(disk, "target", "dev") or "")
            if nodes is not None:
                show_chain(disk, nodes)

    return definition.edited_devices(edit)


def show_chain(disk: etree._Element, nodes: "DiskNodes") -> None:
    """The same for one disk."""
    for old in disk.findall("backingStore"):
        disk.remove(old)
    source = disk.find("source")
    if source is None:
        return
    if not nodes.layers:
        drop_attribute(source, "index")
        return
    source.set("index", str(nodes.layers[0].number))
    if not nodes.layers[-1].image.implicit_backing:
        source.addnext(_backing(nodes.layers[1:]))


def with_sockets(definition: "DomainDefinition", paths: "Mapping[str, str]") -> "DomainDefinition":
    """Show the path of each Unix socket that we chose, by alias."""

    def edit(devices: etree._Element) -> None:
        for port in devices.iterchildren("serial", "console", "channel"):
            path = paths.get(child_attribute(port, "alias", "name") or "")
            if path is not None and port.get("type") == "unix":
                _show_socket(port, path)

    return definition.edited_devices(edit)


def without_sockets_below(definition: "DomainDefinition", folder: Path) -> "DomainDefinition":
    """Leave out the paths that we chose for another run."""

    def edit(devices: etree._Element) -> None:
        for port in devices.iterchildren("serial", "console", "channel"):
            source = port.find("source")
            if source is not None and folder in Path(source.get("path", "/")).parents:
                drop_attribute(source, "path")

    return definition.edited_devices(edit)


def with_vnc_port(definition: "DomainDefinition", port: int) -> "DomainDefinition":
    """Show the port that QEMU has found free."""

    def edit(devices: etree._Element) -> None:
        for graphics in devices.iterchildren("graphics"):
            if graphics.get("autoport") == "yes":
                graphics.set("port", str(port))

    return definition.edited_devices(edit)


def _backing(layers: "tuple[Layer, ...]") -> etree._Element:
    """The chain below; an empty element says that it ends here."""
    if not layers:
        return etree.Element("backingStore")
    image = layers[0].image
    attribute = "dev" if image.type == "block" else "file"
    element = etree.Element("backingStore", type=image.type, index=str(layers[0].number))
    etree.SubElement(element, "format", type=image.format)
    source = etree.SubElement(element, "source", {attribute: image.path})
    if image.secret is not None:
        encryption = etree.SubElement(source, "encryption", format="luks")
        named = (("uuid", image.secret.uuid), ("usage", image.secret.usage))
        secret = {name: value for name, value in named if value is not None}
        etree.SubElement(encryption, "secret", {"type": "passphrase", **secret})
    if not layers[0].image.implicit_backing:
        element.append(_backing(layers[1:]))
    return element


def _show_socket(port: etree._Element, path: str) -> None:
    source = port.find("source")
    if source is None:
        source = etree.Element("source")
        port.insert(0, source)
    if source.get("path") is None:
        source.set("mode", source.get("mode") or "bind")
        source.set("path", path)
