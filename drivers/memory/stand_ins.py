"""Files that stand where a world's images seem to lie, for tools that look at a disk's path.

Backup programs ask `qemu-img info` about the source, and an incremental image names it as its
backing file. A stand-in tells format, size and backing file; contents are in memory alone.
Blocking. Only files below the driver's own folder are made, or replaced.
"""

from collections.abc import Iterable
from pathlib import Path

from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.targets import create_target


def place_stand_ins(images: Iterable[Image], folder: Path) -> None:
    """Make a file for each image that seems to lie in `folder`."""
    for image in images:
        path = Path(image.path)
        if path.parent == folder:
            path.unlink(missing_ok=True)
            _place(image)


def _place(image: Image) -> None:
    below = image.backing
    writer = create_target(
        image.path,
        image.format,
        image.capacity,
        backing_file=below.path if below is not None else None,
        backing_format=below.format if below is not None else None,
    )
    try:
        writer.finish()
    finally:
        writer.close()
