"""The control command that knows what was written since a checkpoint, whatever its bitmap says."""

from typing import TYPE_CHECKING

from virtbackupd.drivers.errors import InvalidArgument
from virtbackupd.drivers.memory.bitmap import DirtyMap
from virtbackupd.drivers.memory.checkpoint import bitmap_chain
from virtbackupd.drivers.memory.clusters import spans
from virtbackupd.drivers.memory.control import CommandTable, ControlCommand, Target
from virtbackupd.drivers.memory.control_disks import (
    Json,
    PageArguments,
    domain_of,
    page,
    require_disk,
)
from virtbackupd.drivers.memory.media import chain

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.disk import DiskDefinition
    from virtbackupd.drivers.memory.domain import MemoryDomain
    from virtbackupd.drivers.memory.image import Image


class ChangedArguments(PageArguments, frozen=True, kw_only=True):
    """Since which checkpoint."""

    since: str


def _changed_ranges(target: Target, given: ChangedArguments) -> Json:
    domain = domain_of(target)
    disk, image = require_disk(domain, given.disk)
    changed = changes(domain, disk, image, given.since)
    found = spans(changed.clusters, 0, image.capacity)
    return {
        **page(((offset, length) for offset, length, dirty in found if dirty), given),
        "granularity": changed.granularity,
        "bitmap": _condition(image, given.since),
    }


def changes(domain: "MemoryDomain", disk: "DiskDefinition", image: "Image", since: str) -> DirtyMap:
    """What was written since a checkpoint was made, whatever its bitmap says."""
    known = domain.checkpoints.get(since)
    bitmap = next((d.bitmap for d in known.bitmap_disks if d.name == disk.target), None) or since
    shadows = [layer.bitmaps.shadow(bitmap) for layer in chain(image)]
    if shadows[0] is None:
        raise InvalidArgument(
            f"changes of disk {disk.target} since checkpoint {since!r} are not known: the"
            " checkpoint has recorded no changes of that disk here"
        )
    return DirtyMap.merge(shadow for shadow in shadows if shadow is not None)


def _condition(image: "Image", name: str) -> str:
    """What a backup program finds in place of what the oracle knows."""
    if bitmap_chain(image, name) is not None:
        return "valid"
    return "missing" if image.bitmaps.get(name) is None else "inconsistent"


COMMANDS: CommandTable = {
    "changed-ranges": ControlCommand(
        "Show what was written since a checkpoint, even if its bitmap is lost or broken.",
        _changed_ranges,
        ChangedArguments,
        needs_domain=True,
    ),
}
