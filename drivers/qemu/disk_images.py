"""A disk moves to another active image while it runs: its chain, its definitions, its old nodes.

What snapshots and commits have in common. The live definition and the persistent one are changed,
the latter only where it named the same image.
"""

from typing import TYPE_CHECKING

from lxml import etree

from virtbackupd.drivers import store
from virtbackupd.drivers.definitions.tree import drop_attribute
from virtbackupd.drivers.qemu.define import definition_path
from virtbackupd.drivers.qemu.live_details import with_chains
from virtbackupd.drivers.qemu.qmp import QmpError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from virtbackupd.drivers.definitions.domain import DomainDefinition
    from virtbackupd.drivers.qemu.block_nodes import DiskNodes, Layer
    from virtbackupd.drivers.qemu.domain import QemuDomain
    from virtbackupd.drivers.qemu.image_chain import Image

_SOURCE_ATTRIBUTE = {"file": "file", "block": "dev"}


async def use_chains(domain: "QemuDomain", chains: "Iterable[DiskNodes]") -> None:
    """QEMU has other images below its disks: show that, and write it down."""
    persistent = domain.persistent
    for chain in chains:
        old = domain.nodes.disks[chain.target]
        domain.nodes.disks[chain.target] = chain
        domain.live = with_image(domain.definition, chain.target, chain.layers[0].image)
        if persistent is not None and _same_image(persistent, old):
            persistent = with_image(persistent, chain.target, chain.layers[0].image)
    domain.live = with_chains(domain.definition, domain.nodes.disks)
    await domain.save_status()
    if persistent is not None and persistent is not domain.persistent:
        await store.write(definition_path(domain.host, domain.ref.name), persistent.to_xml())
        domain.persistent = persistent


async def drop_layers(domain: "QemuDomain", layers: "Iterable[Layer]") -> None:
    """Let QEMU close images that no disk stands on any more, the upper ones first."""
    for layer in layers:
        for node in (layer.node, layer.storage):
            try:
                await domain.monitor.execute("blockdev-del", {"node-name": node})
            except QmpError:
                continue


def with_image(definition: "DomainDefinition", target: str, image: "Image") -> "DomainDefinition":
    """The definition with another active image of a disk; what is below is left to be found."""

    def edit(devices: etree._Element) -> None:
        for disk in devices.iterchildren("disk"):
            found = disk.find("target")
            if found is not None and found.get("dev") == target:
                _set_image(disk, image)

    return definition.edited_devices(edit)


def _set_image(disk: etree._Element, image: "Image") -> None:
    disk.set("type", image.type)
    source, driver = disk.find("source"), disk.find("driver")
    if source is not None:
        for name in _SOURCE_ATTRIBUTE.values():
            drop_attribute(source, name)
        source.set(_SOURCE_ATTRIBUTE[image.type], image.path)
    if driver is not None:
        driver.set("type", image.format)
    for below in disk.findall("backingStore"):
        disk.remove(below)


def _same_image(definition: "DomainDefinition", chain: "DiskNodes") -> bool:
    disk = definition.find_disk(chain.target)
    return disk is not None and bool(chain.layers) and disk.source == chain.layers[0].image.path
