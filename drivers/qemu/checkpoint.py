"""The checkpoint calls on a domain of QEMU's: which bitmaps come and go, and in which order with
the documents.

What is checked is in `checkpoint_rules`, how bitmaps are found in `bitmaps`, what is on disk in
`checkpoint_files`.
"""

from typing import TYPE_CHECKING, Final

import trio

from virtbackupd.drivers import checkpoint_rules as rules
from virtbackupd.drivers.checkpoint_rules import Doomed, Failures
from virtbackupd.drivers.enums import CheckpointCreate, CheckpointDelete, CheckpointXml
from virtbackupd.drivers.flags import CHECKPOINT_CREATE, CHECKPOINT_DELETE, CHECKPOINT_XML
from virtbackupd.drivers.qemu import bitmaps
from virtbackupd.drivers.qemu.bitmaps import SIZE_BITMAP, Images, query_images, transaction
from virtbackupd.drivers.qemu.qmp import MonitorLost, QmpError
from virtbackupd.drivers.qemu.together import together

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.checkpoint import CheckpointDefinition
    from virtbackupd.drivers.qemu.block_nodes import DiskNodes, Json
    from virtbackupd.drivers.qemu.domain import QemuDomain

PATIENCE: Final = 300.0
"""Seconds for what must not be torn apart when its caller goes away."""


async def create_xml(domain: "QemuDomain", xml: str, flags: int) -> str:
    """Create, or redefine what is known from elsewhere; returns the name."""
    CHECKPOINT_CREATE.check(flags)
    if flags & CheckpointCreate.REDEFINE:
        validate = bool(flags & CheckpointCreate.REDEFINE_VALIDATE)
        return await _redefine(domain, xml, validate=validate)
    definition = rules.parse_new(domain, xml)
    async with domain.modify("virDomainCheckpointCreateXML"):
        domain.require_run()
        prepared = rules.prepare(domain, definition)
        with trio.fail_after(PATIENCE, shield=True):
            await _create(domain, prepared)
    return definition.name


async def _create(domain: "QemuDomain", definition: "CheckpointDefinition") -> None:
    files, monitor = domain.checkpoint_files, domain.monitor
    await files.stage(definition)
    actions = bitmap_additions(domain, definition)
    try:
        await together((lambda: transaction(monitor, actions), files.flush_pending))
        await enter(domain, definition)
    except QmpError:
        await files.drop_pending()
        raise


async def enter(domain: "QemuDomain", definition: "CheckpointDefinition") -> None:
    """The bitmaps are there: confirm the document and make the checkpoint current."""
    await domain.checkpoint_files.confirm(definition.name)
    domain.checkpoints.add(definition.name, definition)


def bitmap_additions(domain: "QemuDomain", definition: "CheckpointDefinition") -> list["Json"]:
    """The new bitmaps of a checkpoint, in the order of the domain's disks."""
    size = domain.host.settings.bitmap_granularity
    return [
        bitmaps.add(node, definition.name, persistent=True, granularity=size)
        for disk in definition.bitmap_disks
        if (node := domain.nodes.disks[disk.name].node) is not None
    ]


async def take_back_bitmaps(domain: "QemuDomain", definition: "CheckpointDefinition") -> None:
    """Remove what a checkpoint that cannot be kept has made, as far as it is there."""
    images = await query_images(domain.monitor)
    tops = [domain.nodes.disks[disk.name].node for disk in definition.bitmap_disks]
    actions = [
        bitmaps.remove(node, definition.name)
        for node in tops
        if node is not None and images.find(node, definition.name) is not None
    ]
    await transaction(domain.monitor, actions)


async def _redefine(domain: "QemuDomain", xml: str, *, validate: bool) -> str:
    async with domain.modify("virDomainCheckpointCreateXML"):
        definition = rules.parse_redefined(domain, xml)
        if validate:
            await _validate(domain, definition)
        with trio.fail_after(PATIENCE, shield=True):
            domain.checkpoints.redefine(definition.name, definition, definition.parent)
            await domain.checkpoint_files.write(definition.name)
    return definition.name


async def _validate(domain: "QemuDomain", definition: "CheckpointDefinition") -> None:
    images = await query_images(domain.monitor)
    for target in rules.targets_to_validate(domain, definition):
        disk = domain.nodes.disks.get(target)
        if disk is None or bitmaps.valid_chain(images, disk, definition.name) is None:
            raise rules.broken_chain(definition.name, target)


async def get_xml_desc(domain: "QemuDomain", name: str, flags: int) -> str:
    """The document as of now; sizes are counted for this answer."""
    CHECKPOINT_XML.check(flags)
    sizes = None
    if flags & CheckpointXml.SIZE:
        domain.checkpoints.get(name)
        async with domain.modify("virDomainCheckpointGetXMLDesc"):
            sizes = await _sizes(domain, domain.checkpoints.get(name))
    return rules.describe(domain, name, flags, sizes)


async def _sizes(domain: "QemuDomain", definition: "CheckpointDefinition") -> dict[str, int]:
    """Dirty bytes by disk; a disk whose bitmaps are not all right is passed over."""
    images = await query_images(domain.monitor)
    sizes: dict[str, int] = {}
    spread: dict[str, DiskNodes] = {}
    for entry in definition.bitmap_disks:
        disk = domain.nodes.disks.get(entry.name)
        chain = disk and bitmaps.valid_chain(images, disk, definition.name)
        if not disk or not chain:
            continue
        if len(chain) == 1:
            sizes[entry.name] = chain[0].dirty
        else:
            spread[entry.name] = disk
    return sizes | await _merged_sizes(domain, images, spread, definition.name)


async def _merged_sizes(
    domain: "QemuDomain", images: Images, disks: "dict[str, DiskNodes]", name: str
) -> dict[str, int]:
    """Sizes of bitmaps that several images of a chain share, counted in temporary ones."""
    if not disks:
        return {}
    monitor = domain.monitor
    tops = {target: disk.layers[0].node for target, disk in disks.items()}
    begin = [
        bitmaps.remove(node, SIZE_BITMAP)
        for node in tops.values()
        if images.find(node, SIZE_BITMAP) is not None
    ]
    for target, disk in disks.items():
        chain = bitmaps.valid_chain(images, disk, name) or []
        begin += bitmaps.merged_copy(tops[target], SIZE_BITMAP, chain)
    with trio.fail_after(PATIENCE, shield=True):
        await transaction(monitor, begin)
        counted = await query_images(monitor)
        await transaction(monitor, [bitmaps.remove(node, SIZE_BITMAP) for node in tops.values()])
    found = {target: counted.find(node, SIZE_BITMAP) for target, node in tops.items()}
    return {target: bitmap.dirty for target, bitmap in found.items() if bitmap is not None}


async def delete(domain: "QemuDomain", name: str, flags: int) -> None:
    """Delete a checkpoint, its descendants, or both."""
    CHECKPOINT_DELETE.check(flags)
    async with domain.modify("virDomainCheckpointDelete"):
        doomed = rules.doomed(domain, name, flags)
        with trio.fail_after(PATIENCE, shield=True):
            metadata_only = bool(flags & CheckpointDelete.METADATA_ONLY)
            await discard(domain, doomed, metadata_only=metadata_only)


async def discard(
    domain: "QemuDomain", doomed: Doomed, *, metadata_only: bool, resumed: bool = False
) -> None:
    """Go through all of them even if some fail, then raise the first failure.

    A deletion that is resumed may find that bitmaps have gone already; one that QEMU does not
    answer will be.
    """
    files, failures = domain.checkpoint_files, Failures()
    images = None if metadata_only else await query_images(domain.monitor)
    await files.mark_deleting(doomed.names)
    gone: list[str] = []
    moved: set[str] = set()
    for name in doomed.names:
        if (failures and name in doomed.last) or isinstance(failures.last, MonitorLost):
            continue
        with failures.kept():
            if images is not None:
                definition = domain.checkpoints.get(name)
                await _remove_bitmaps(domain, images, definition, may_miss=resumed)
            moved.update(domain.checkpoints.remove(name))
            gone.append(name)
    for child in moved.intersection(domain.checkpoints):
        with failures.kept():
            await files.write(child)
    await files.remove(gone)
    if not isinstance(failures.last, MonitorLost):
        await files.drop_deleting()
    failures.raise_first()


async def _remove_bitmaps(
    domain: "QemuDomain", images: Images, definition: "CheckpointDefinition", *, may_miss: bool
) -> None:
    """One transaction for all images of all disks; images below the active one are reopened."""
    actions: list[Json] = []
    below: list[tuple[DiskNodes, int]] = []
    for entry in definition.bitmap_disks:
        disk = domain.nodes.disks.get(entry.name)
        if disk is None or disk.node is None:
            continue
        name = entry.bitmap or definition.name
        layers = bitmaps.layers_with(images, disk, name)
        if not layers and not may_miss:
            raise rules.missing_bitmap(definition, name, entry.name)
        actions += [bitmaps.remove(layer.node, name) for layer in layers]
        places = [disk.layers.index(layer) for layer in layers]
        below += [(disk, i) for i in places if images.read_only(disk.layers[i].node)]
    try:
        for disk, index in below:
            await reopen(domain, disk, index, read_only=False)
        await transaction(domain.monitor, actions)
    finally:
        for disk, index in below:
            await _close_again(domain, disk, index)


async def reopen(domain: "QemuDomain", disk: "DiskNodes", index: int, *, read_only: bool) -> None:
    """Let QEMU write to an image below the active one, or keep it from that again."""
    props = disk.format_props(index, read_only=read_only)
    await domain.monitor.execute("blockdev-reopen", {"options": [props]})


async def _close_again(domain: "QemuDomain", disk: "DiskNodes", index: int) -> None:
    """An image that stays writable does no harm."""
    try:
        await reopen(domain, disk, index, read_only=True)
    except QmpError:
        return
