"""External snapshots of a running domain's disks: each goes on in an image above the old one.

The checkpoints' bitmaps are begun anew in the new images, in the same transaction; the old ones
stay, and count with them. Internal snapshots, and going back to one, are not offered.
"""

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import trio
from lxml import etree

from virtbackupd.drivers.definitions.alignment import require_block_jobs
from virtbackupd.drivers.definitions.snapshot import aligned, parse_snapshot
from virtbackupd.drivers.errors import ConfigUnsupported, DriverError, OperationUnsupported
from virtbackupd.drivers.flags import FlagRules
from virtbackupd.drivers.qemu import agent, bitmaps, commit, disk_images, storage
from virtbackupd.drivers.qemu.bitmaps import query_images
from virtbackupd.drivers.qemu.block_nodes import Layer, read_layer, write_layer
from virtbackupd.drivers.qemu.checkpoint import PATIENCE
from virtbackupd.drivers.qemu.image_chain import Image
from virtbackupd.drivers.qemu.labels import default_owner
from virtbackupd.drivers.qemu.state_file import PARTS, Part
from virtbackupd.drivers.qemu.storage import Store
from virtbackupd.drivers.qemu.together import together

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.snapshot import SnapshotDefinition
    from virtbackupd.drivers.qemu.bitmaps import Images
    from virtbackupd.drivers.qemu.block_nodes import Json
    from virtbackupd.drivers.qemu.domain import QemuDomain

_NO_METADATA: Final = 4
_DISK_ONLY: Final = 16
_REUSE: Final = 32
_QUIESCE: Final = 64
_ATOMIC: Final = 128
_VALIDATE: Final = 512
_CREATE = FlagRules(
    "virDomainSnapshotCreateXML",
    _NO_METADATA | _DISK_ONLY | _REUSE | _QUIESCE | _ATOMIC | _VALIDATE,
)
_API: Final = "virDomainSnapshotCreateXML"


async def create_xml(domain: "QemuDomain", xml: str, flags: int) -> str:
    """Make a snapshot; returns its name."""
    _CREATE.check(flags)
    definition = parse_snapshot(xml, int(time.time()))
    if not flags & _DISK_ONLY or not domain.active:
        raise OperationUnsupported(
            "only external snapshots of the disks of running domains are supported: start the "
            "domain and pass VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY"
        )
    domain.jobs.require_idle("make a snapshot")
    async with domain.modify(_API):
        domain.snapshots.check_new(definition.name)
        definition = aligned(definition, domain.definition, generate=not flags & _REUSE)
        _check(domain, definition)
        with trio.fail_after(PATIENCE, shield=True):
            await _create(domain, definition, flags)
    return definition.name


def _check(domain: "QemuDomain", definition: "SnapshotDefinition") -> None:
    if not definition.selected:
        raise ConfigUnsupported(f"no disk of domain {domain.ref.name} is part of the snapshot")
    for entry in definition.selected:
        disk, chain = domain.definition.find_disk(entry.name), domain.nodes.disks[entry.name]
        if disk is None or not chain.layers:
            raise ConfigUnsupported(f"disk {entry.name} of {domain.ref.name} has no medium")
        require_block_jobs(disk)
        commit.require_plain(chain)
        commit.require_free(domain, entry.name)


async def _create(domain: "QemuDomain", definition: "SnapshotDefinition", flags: int) -> None:
    images = await query_images(domain.monitor)
    stores = _stores(domain, definition, images, reuse=bool(flags & _REUSE))
    await trio.to_thread.run_sync(storage.check, list(stores.values()))
    domain.overlays = {target: store.layer for target, store in stores.items()}
    try:
        await domain.status.note()
        await trio.to_thread.run_sync(storage.create, list(stores.values()))
        await together(partial(storage.attach, domain, store) for store in stores.values())
        await _switch(domain, stores, images, freeze=bool(flags & _QUIESCE))
    except DriverError:
        await take_back(domain, [store.path for store in stores.values() if store.created])
        raise
    before = domain.definition.to_xml(inactive=True)
    await adopt(domain)
    if not flags & _NO_METADATA:
        await domain.snapshots.add(replace(definition, domain_xml=before))


def _stores(
    domain: "QemuDomain", definition: "SnapshotDefinition", images: "Images", *, reuse: bool
) -> dict[str, Store]:
    found = {}
    for entry in definition.selected:
        source = domain.nodes.disks[entry.name].layers[0]
        image, facts = Image(entry.type, entry.source or "", "qcow2"), images.facts(source.node)
        found[entry.name] = Store(
            layer=Layer(domain.nodes.take_number(), image),
            capacity=facts.virtual_size,
            reuse=reuse,
            backing=source,
            names_backing=True,
            opens_backing=False,
            cluster_size=facts.cluster_size if source.image.format == "qcow2" else 0,
            extended_l2=facts.extended_l2,
            owner=default_owner(domain.host.settings),
        )
    return found


async def _switch(
    domain: "QemuDomain", stores: dict[str, Store], images: "Images", *, freeze: bool
) -> None:
    """One instant for all disks, with the guest's file systems at rest where that is wished."""
    actions = [action for target, store in stores.items()
               for action in _actions(domain, target, store, images)]  # fmt: skip
    if not freeze:
        await bitmaps.transaction(domain.monitor, actions)
        return
    await agent.fsfreeze(domain, [], 0)
    try:
        await bitmaps.transaction(domain.monitor, actions)
    finally:
        await agent.fsthaw(domain, [], 0)


def _actions(domain: "QemuDomain", target: str, store: Store, images: "Images") -> "list[Json]":
    old, new = domain.nodes.disks[target].layers[0].node, store.layer.node
    begun = [
        bitmaps.add(new, bitmap.name, persistent=True, granularity=bitmap.granularity)
        for bitmap in images.all(old)
        if bitmap.usable
    ]
    return [*begun, {"type": "blockdev-snapshot", "data": {"node": old, "overlay": new}}]


async def adopt(domain: "QemuDomain") -> None:
    """The disks stand on their new images: show that, and write it down."""
    overlays, domain.overlays = domain.overlays, {}
    chains = [domain.nodes.disks[target] for target in overlays]
    await disk_images.use_chains(
        domain, [chain.from_layers((overlays[chain.target], *chain.layers)) for chain in chains]
    )


async def take_back(domain: "QemuDomain", paths: list[str]) -> None:
    """The disks stay where they were: nobody needs the new images."""
    overlays, domain.overlays = domain.overlays, {}
    await storage.detach(domain, list(overlays.values()))
    await storage.forget_files(paths)
    await domain.save_status()


async def resume(domain: "QemuDomain") -> None:
    """See how far a snapshot had come when the daemon was ended, for a QEMU found again."""
    if not domain.overlays:
        return
    found = await domain.monitor.execute("query-block")
    used = {device["inserted"]["node-name"] for device in found if device.get("inserted")}
    if all(layer.node in used for layer in domain.overlays.values()):
        await adopt(domain)
    else:
        paths = [layer.image.path for layer in domain.overlays.values()]
        await take_back(domain, paths)


# What the status file keeps of a snapshot that is being made.
def _write_part(domain: "QemuDomain") -> etree._Element | None:
    if not domain.overlays:
        return None
    root = etree.Element("overlays")
    for target, layer in domain.overlays.items():
        etree.SubElement(root, "disk", target=target).append(write_layer(layer))
    return root


def _read_part(domain: "QemuDomain", root: etree._Element) -> None:
    for disk in root.iterchildren("disk"):
        for image in disk.iterchildren("image"):
            domain.overlays[disk.get("target", "")] = read_layer(image)


PARTS.append(Part("overlays", _write_part, _read_part))
