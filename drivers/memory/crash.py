"""The sudden death of a domain's process, and what it leaves on the disks.

QEMU writes bitmaps into an image when it closes it, and marks those it found there as in use. So
after a kill the bitmaps of this run do not exist, and older ones are inconsistent.
"""

from typing import TYPE_CHECKING

from virtbackupd.drivers.memory import lifecycle
from virtbackupd.drivers.memory.media import chain
from virtbackupd.drivers.stops import CRASHED

if TYPE_CHECKING:
    from virtbackupd.drivers.memory.domain import MemoryDomain
    from virtbackupd.drivers.memory.image import Image


def kill(domain: "MemoryDomain") -> None:
    """What `kill -9` does to an active domain."""
    images = {target: image for target, image in domain.media.items() if image is not None}
    stored = dict(domain.stored_bitmaps)
    lifecycle.stop(domain, CRASHED)
    for target, image in images.items():
        for layer in chain(image):
            _lose_bitmaps(layer, stored.get(target))


def _lose_bitmaps(image: "Image", stored: frozenset[str] | None) -> None:
    """`stored` are those that were there when the run began; None when nobody knows."""
    for bitmap in list(image.bitmaps):
        if not bitmap.persistent or (stored is not None and bitmap.name not in stored):
            image.bitmaps.lose(bitmap.name)
        else:
            image.bitmaps.mark_inconsistent(bitmap.name)
