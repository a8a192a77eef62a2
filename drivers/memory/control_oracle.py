"""The control command that knows what was written since a checkpoint, whatever its bitmap says."""

from itertools import chain
from typing import TYPE_CHECKING

from virtbackupd.drivers.errors import InvalidArgument
from virtbackupd.drivers.memory import media
from virtbackupd.drivers.memory.bitmap import DirtyMap
from virtbackupd.drivers.memory.checkpoint import bitmap_chain
from virtbackupd.drivers.memory.clusters import CLUSTER, spans
from virtbackupd.drivers.memory.control import CommandTable, ControlCommand, Target
from virtbackupd.drivers.memory.control_disks import (
    Json,
    PageArguments,
    domain_of,
    page,
    require_disk,
)
from virtbackupd.drivers.memory.ranges import joined

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from virtbackupd.drivers.definitions.disk import DiskDefinition
    from virtbackupd.drivers.memory.bitmap import Bitmap
    from virtbackupd.drivers.memory.domain import MemoryDomain
    from virtbackupd.drivers.memory.image import Image


class ChangedArguments(PageArguments, frozen=True, kw_only=True):
    """Since which checkpoint."""

    since: str
    exact: bool = False
    """Whether in bytes, if they are known, in place of clusters as bitmaps count."""


def _changed_ranges(target: Target, given: ChangedArguments) -> Json:
    domain = domain_of(target)
    disk, image = require_disk(domain, given.disk)
    shadows = _shadows(domain, disk, image, given.since)
    known = _bytes(shadows, image.capacity) if given.exact else None
    return {
        **page(_clusters(shadows, image.capacity) if known is None else known, given),
        "granularity": CLUSTER if known is None else 1,
        "bitmap": _condition(image, given.since),
    }


def _clusters(shadows: "Iterable[Bitmap]", capacity: int) -> "Iterator[tuple[int, int]]":
    for offset, length, dirty in spans(DirtyMap.merge(shadows).clusters, 0, capacity):
        if dirty:
            yield offset, length


def _bytes(shadows: "Iterable[Bitmap]", capacity: int) -> list[tuple[int, int]] | None:
    """None when a layer was written in more places than it has kept."""
    known = [shadow.ranges() for shadow in shadows]
    found = sorted(chain.from_iterable(ranges for ranges in known if ranges is not None))
    if None in known:
        return None
    # Zeroing to the end of a disk goes on to the end of its last cluster, and so does a cut.
    return [(start, min(end, capacity) - start) for start, end in joined(found) if start < capacity]


def changes(domain: "MemoryDomain", disk: "DiskDefinition", image: "Image", since: str) -> DirtyMap:
    """What was written since a checkpoint was made, whatever its bitmap says."""
    return DirtyMap.merge(_shadows(domain, disk, image, since))


def _shadows(
    domain: "MemoryDomain", disk: "DiskDefinition", image: "Image", since: str
) -> "list[Bitmap]":
    """What every layer of the disk has recorded since then."""
    known = domain.checkpoints.get(since)
    bitmap = next((d.bitmap for d in known.bitmap_disks if d.name == disk.target), None) or since
    shadows = [layer.bitmaps.shadow(bitmap) for layer in media.chain(image)]
    if shadows[0] is None:
        raise InvalidArgument(
            f"changes of disk {disk.target} since checkpoint {since!r} are not known: the"
            " checkpoint has recorded no changes of that disk here"
        )
    return [shadow for shadow in shadows if shadow is not None]


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
