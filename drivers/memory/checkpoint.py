"""The checkpoint calls on a domain in memory, by the rules of libvirt's QEMU driver.

Documents and the tree have modules of their own; what is decided here is which bitmaps come and go
with a checkpoint. Each call does all or nothing, except for deleting several at once.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from virtbackupd.drivers import checkpoint_rules as rules
from virtbackupd.drivers.checkpoint_rules import Failures
from virtbackupd.drivers.definitions.checkpoint import (
    CheckpointDefinition,
)
from virtbackupd.drivers.enums import (
    CheckpointCreate,
    CheckpointDelete,
    CheckpointXml,
)
from virtbackupd.drivers.errors import (
    InternalError,
)
from virtbackupd.drivers.flags import (
    CHECKPOINT_CREATE,
    CHECKPOINT_XML,
)
from virtbackupd.drivers.memory import fault_effects
from virtbackupd.drivers.memory.bitmap import Bitmap, BitmapExists, DirtyMap
from virtbackupd.drivers.memory.image import Image

if TYPE_CHECKING:
    from virtbackupd.drivers.memory.domain import MemoryDomain


def create_xml(domain: "MemoryDomain", xml: str, flags: int) -> str:
    """Create, or redefine what is known from elsewhere; returns the name."""
    CHECKPOINT_CREATE.check(flags)
    if flags & CheckpointCreate.REDEFINE:
        return _redefine(domain, xml, validate=bool(flags & CheckpointCreate.REDEFINE_VALIDATE))
    definition = rules.parse_new(domain, xml, domain.host.clock.time())
    commit(domain, rules.prepare(domain, definition))
    return definition.name


def commit(domain: "MemoryDomain", definition: CheckpointDefinition) -> None:
    """Begin the bitmaps and enter the checkpoint."""
    name = definition.name
    domain.checkpoints.check_new(name)
    added: list[Image] = []

    def take_back() -> None:
        for image in added:
            image.bitmaps.remove(name)

    for disk in definition.bitmap_disks:
        image = domain.disk_image(disk.name)
        if image is not None:
            _begin_bitmap(image, name, take_back)
            added.append(image)
    domain.checkpoints.add(name, definition)


def _begin_bitmap(image: Image, name: str, take_back: Callable[[], None]) -> None:
    try:
        image.bitmaps.add(name)
    except BitmapExists:
        take_back()
        raise InternalError(
            f"image {image.path} has a bitmap {name!r} already, from a checkpoint that is not known"
            " here: redefine that checkpoint, or choose another name"
        ) from None


def _redefine(domain: "MemoryDomain", xml: str, *, validate: bool) -> str:
    definition = rules.parse_redefined(domain, xml)
    if validate:
        domain.require_active()
        for target in rules.targets_to_validate(domain, definition):
            require_chain(domain.disk_image(target), definition.name, target)
    domain.checkpoints.redefine(definition.name, definition, definition.parent)
    return definition.name


def get_xml_desc(domain: "MemoryDomain", name: str, flags: int) -> str:
    """The document as of now: the parent is the tree's, sizes are counted for this answer."""
    CHECKPOINT_XML.check(flags)
    definition = domain.checkpoints.get(name)
    sizes = None
    if flags & CheckpointXml.SIZE:
        domain.require_active()
        sizes = dict(_sizes(domain, definition))
    return rules.describe(domain, name, flags, sizes)


def _sizes(domain: "MemoryDomain", definition: CheckpointDefinition) -> Iterator[tuple[str, int]]:
    """Dirty bytes by disk; a disk whose bitmaps are not all right is passed over."""
    for disk in definition.bitmap_disks:
        chain = bitmap_chain(domain.disk_image(disk.name), definition.name)
        if chain is not None:
            yield disk.name, DirtyMap.merge(chain).count


def delete(domain: "MemoryDomain", name: str, flags: int) -> None:
    """Delete a checkpoint, its descendants, or both."""
    doomed, failures = rules.doomed(domain, name, flags), Failures()
    metadata_only = bool(flags & CheckpointDelete.METADATA_ONLY)
    for each in doomed.descendants:
        with failures.kept():
            _discard(domain, each, metadata_only=metadata_only)
    failures.raise_first()
    for each in doomed.last:
        _discard(domain, each, metadata_only=metadata_only)


def _discard(domain: "MemoryDomain", name: str, *, metadata_only: bool) -> None:
    if not metadata_only:
        bitmaps = list(_bitmaps_of(domain, domain.checkpoints.get(name)))
        if domain.host.faults.active:
            fault_effects.delete_half(domain, bitmaps)
        for image, bitmap in bitmaps:
            image.bitmaps.remove(bitmap)
    domain.checkpoints.remove(name)


def _bitmaps_of(
    domain: "MemoryDomain", definition: CheckpointDefinition
) -> Iterator[tuple[Image, str]]:
    """All bitmaps of a checkpoint in all chains; disks the domain has no more are passed over."""
    for disk in definition.bitmap_disks:
        image = domain.disk_image(disk.name)
        name = disk.bitmap or definition.name
        if image is None:
            continue
        found = [layer for layer in _layers(image) if name in layer.bitmaps]
        if not found:
            raise rules.missing_bitmap(definition, name, disk.name)
        yield from ((layer, name) for layer in found)


def bitmap_chain(image: Image | None, name: str) -> list[Bitmap] | None:
    """The bitmaps that together hold all changes since the checkpoint; None if one is not usable.

    They must be on the active image and on consecutive images below it.
    """
    chain: list[Bitmap] = []
    below = False
    for layer in _layers(image):
        bitmap = layer.bitmaps.get(name)
        if bitmap is None:
            below = True
            continue
        if below or bitmap.inconsistent or not (bitmap.recording and bitmap.persistent):
            return None
        chain.append(bitmap)
    if image is None or image.bitmaps.get(name) is None:
        return None
    return chain


def require_chain(image: Image | None, name: str, target: str) -> list[Bitmap]:
    """The chain, or CheckpointInconsistent."""
    chain = bitmap_chain(image, name)
    if chain is None:
        raise rules.broken_chain(name, target)
    return chain


def _layers(image: Image | None) -> Iterator[Image]:
    while image is not None:
        yield image
        image = image.backing
