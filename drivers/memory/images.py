"""Which image lies at which path: disks that name the same path share it, as on a real host.

Images outlive the domains that use them. An image remembers which state of the real file at its
path it is about, so that a file which somebody has written anew can be told. Knows no domain state
and opens no file.
"""

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from virtbackupd.drivers.definitions.disk import DiskDefinition
from virtbackupd.drivers.memory.image import Image

DEFAULT_CAPACITY = 1 << 30
"""Of an image that nobody has described."""


class Stamp(NamedTuple):
    """A state of a file: whoever writes to it makes another."""

    inode: int
    size: int
    changed: int


def file_stamp(path: str) -> Stamp | None:
    """Of a regular file with contents; None for anything else, such as a pipe. Blocking."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        return None
    return Stamp(status.st_ino, status.st_size, status.st_mtime_ns)


OWN_FILE: Final = Stamp(-1, -1, -1)
"""Of an image whose file the hypervisor makes itself, whenever it does: no state of it matters."""


class RegistryState(NamedTuple):
    """What lay where at an instant."""

    images: dict[str, Image]
    stamps: dict[str, Stamp]


class ImageRegistry:
    """Images by path, or by `protocol/name` for what is not local."""

    def __init__(self) -> None:
        self._images: dict[str, Image] = {}
        self._stamps: dict[str, Stamp] = {}

    def add(self, image: Image, stamp: Stamp | None = None) -> None:
        """Put an image in its place, whatever was there before."""
        self._images[image.path] = image
        self._stamps.pop(image.path, None)
        if stamp is not None:
            self._stamps[image.path] = stamp

    def __iter__(self) -> Iterator[Image]:
        return iter(self._images.values())

    def state(self) -> RegistryState:
        """Which image lies where as of now; what the images hold is not part of it."""
        return RegistryState(dict(self._images), dict(self._stamps))

    def restore(self, state: RegistryState) -> None:
        """Have these images in these places, and no other."""
        self._images, self._stamps = dict(state.images), dict(state.stamps)

    def stamped(self, path: str, stamp: Stamp | None) -> None:
        """From now on the image there is about that state of its file."""
        if path in self._images and stamp is not None:
            self._stamps[path] = stamp

    def get(self, source: str) -> Image | None:
        return self._images.get(source)

    def is_of(self, source: str, stamp: Stamp | None) -> bool:
        """Whether the image there is that of the file as it is now; without a file it always is."""
        return stamp is None or self._stamps.get(source) in (stamp, OWN_FILE)

    def of_disk(self, disk: DiskDefinition) -> Image | None:
        """The medium of a disk, blank when nobody has described it; None for an empty drive."""
        if disk.source is None:
            return None
        found = self._images.get(disk.source)
        return found if found is not None else self._made(disk, disk.source)

    def _made(self, disk: DiskDefinition, source: str) -> Image:
        below: Image | None = None
        for layer in reversed(disk.backing):
            below = self._layer(layer.source, layer.format, below)
        return self._layer(source, disk.format, below)

    def _layer(self, source: str, format: str, backing: Image | None) -> Image:  # noqa: A002
        found = self._images.get(source)
        if found is None:
            capacity = backing.capacity if backing is not None else DEFAULT_CAPACITY
            found = Image(capacity, path=source, format=format, backing=backing)
            self.add(found)
        return found
