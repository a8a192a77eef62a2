"""Files that stand where a world's images seem to lie, for tools that look at a disk's path.

Backup programs ask `qemu-img info` about the source, and an incremental image names it as its
backing file. A stand-in tells format, size, backing file and data file; contents are in memory
alone. Only files below the driver's own folder are made, or replaced. In a large world each is made
when somebody asks for the first time where the disk lies.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from virtbackupd.drivers.errors import SystemFailure
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.images import OWN_FILE, Stamp, file_stamp
from virtbackupd.drivers.qcow2 import empty_image

if TYPE_CHECKING:
    from virtbackupd.drivers.memory.images import ImageRegistry

AT_ONCE: Final = 200
"""How many are made before the hypervisor starts; making one takes about 0.1 ms."""
_AGE: Final = 1_000_000_000
"""Nanoseconds by which a new one seems to be older than it is."""


class StandIns:
    """Those that are not there yet."""

    def __init__(self) -> None:
        self.pending: dict[str, Image] = {}
        """By path; their images are stamped `OWN_FILE` until the file is there."""

    def expect(self, images: Iterable[Image]) -> None:
        self.pending.update((image.path, image) for image in images)

    def make(self, registry: "ImageRegistry", wanted: Iterable[Image | None]) -> None:
        """Make the files of these images and of those below them, if they are still missing.

        Blocks, for less time than handing a domain's few small files to a thread would take.
        """
        for image in wanted:
            layer = image
            while layer is not None:
                if layer.path in self.pending:
                    self._make(registry, layer)
                layer = layer.backing

    def _make(self, registry: "ImageRegistry", image: Image) -> None:
        try:
            _place(image)
        except OSError as error:
            raise SystemFailure(f"cannot make {image.path}: {error.strerror}") from error
        del self.pending[image.path]
        registry.stamped(image.path, file_stamp(image.path))


def place_stand_ins(images: Iterable[Image], folder: Path) -> dict[str, Stamp | None]:
    """Make a file for each image that seems to lie in `folder`, unless they are too many; blocking.

    Returns the stamps of all images, `OWN_FILE` for those whose file is still to be made.
    """
    images, prefix = tuple(images), f"{folder}/"
    own = [image for image in images if _lies_in(prefix, image.path)]
    late = own if len(own) > AT_ONCE else []
    stamps: dict[str, Stamp | None] = dict.fromkeys((image.path for image in late), OWN_FILE)
    if not late:
        for image in own:
            _place(image)
    return stamps | {
        image.path: file_stamp(image.path) for image in images if image.path not in stamps
    }


def _lies_in(prefix: str, path: str) -> bool:
    return path.startswith(prefix) and "/" not in path[len(prefix) :]


def _place(image: Image) -> None:
    below, data = image.backing, image.data_store
    if image.format == "raw":
        _write(Path(image.path), image.capacity, ())
        return
    path, format_ = (None, None) if below is None else (below.path, below.format)
    pieces = empty_image(image.capacity, path, format_, data)
    offset, last = pieces[-1]
    _write(Path(image.path), offset + len(last), pieces)
    if data is not None and _lies_in(f"{Path(image.path).parent}/", data):
        _write(Path(data), image.capacity, ())


def _write(path: Path, size: int, pieces: Iterable[tuple[int, bytes]]) -> None:
    """Put a new file there; what the pieces leave out, and their trailing zeroes, are holes."""
    path.unlink(missing_ok=True)
    with path.open("xb", buffering=0) as file:
        path.chmod(0o600)
        for offset, piece in pieces:
            file.seek(offset)
            file.write(piece.rstrip(b"\0"))
        file.truncate(size)
        # Kernels stamp what is written within a few milliseconds alike, and give a file that takes
        # the place of another the same number: whatever is written from now on has to look newer.
        before = time.time_ns() - _AGE
        os.utime(file.fileno(), ns=(before, before))
