"""The images of a world: sizes, contents and backing images, one image for each path.

Two disks with the same path share the image; only one of them describes it. Knows entries and
images, no domain.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from virtbackupd.drivers.memory.clusters import CLUSTER
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.images import file_stamp
from virtbackupd.drivers.memory.media import chain, read_image, refusal
from virtbackupd.drivers.memory.sizes import format_size, parse_size
from virtbackupd.drivers.memory.world_file import (
    BackingEntry,
    DiskEntry,
    DomainEntry,
    KeyPath,
    RangeEntry,
    WorldFile,
)
from virtbackupd.drivers.qcow2 import ImageFormatError

DEFAULT_SIZE: Final = 1 << 30
MAX_SIZE: Final = 1 << 50
MAX_BACKING: Final = 32
"""How many images may lie below a disk's own."""
MAX_IMAGES: Final = 500_000
"""One takes about 2 KiB of memory."""
_SEED_STEP: Final = 7919
MAX_CONTENTS: Final = 16 << 30
"""How much of one disk may be described as holding data: each 64 KiB of it takes some memory."""


class WorldDisk(msgspec.Struct, frozen=True):
    """A disk of a domain; `path` and `image` are None for an empty drive."""

    target: str
    path: str | None
    image: Image | None


class DiskLoader:
    """Makes images from entries and remembers them by path."""

    def __init__(self, world: WorldFile, image_dir: Path, seed: int = 0) -> None:
        """`seed` is the world's own: another one gives every pattern other contents."""
        self.images: dict[str, Image] = {}
        self._seed = seed * _SEED_STEP
        self._data_stores: set[str] = set()
        self._world = world
        self._image_dir = image_dir

    def load(self, domain: str, entry: DiskEntry, path: str | None, where: KeyPath) -> WorldDisk:
        """The disk of an entry; `path` comes from the domain's own XML, if that names one."""
        if _is_empty(entry) and path is None:
            return WorldDisk(entry.target, None, None)
        named = path is not None or entry.path is not None
        path = path or entry.path or self.default_path(domain, entry.target, entry.format)
        if entry.path not in (None, path):
            self._world.fail((*where, "path"), f"the domain's XML says {path}")
        known = self.images.get(path)
        # Below the default path an earlier run may have left its stand-in.
        if known is None and named and entry.undescribed and file_stamp(path) is not None:
            known = self._file(path, None if entry.path is None else entry.format, where)
        elif known is None:
            known = self.images[path] = self._create(domain, entry, path, where)
        elif not entry.undescribed:
            self._world.fail(where, f"image {path} is described already: give target and path only")
        return WorldDisk(entry.target, path, known)

    def share(self, image: Image, where: KeyPath) -> None:
        """Enter an image that was made like another."""
        if image.path in self.images:
            self._world.fail(where, f"image {image.path} is described already")
        if len(self.images) >= MAX_IMAGES:
            self._world.fail(where, f"a world may have at most {MAX_IMAGES} images")
        self.images[image.path] = image

    def byte_range(
        self, image: Image, offset: str | int, length: str | int, where: KeyPath
    ) -> tuple[int, int]:
        """Both as numbers, within the image."""
        start = self.size(offset, (*where, "offset"))
        size = self.size(length, (*where, "length"))
        if start + size > image.capacity:
            end, capacity = format_size(start + size), format_size(image.capacity)
            self._world.fail(where, f"the range ends at {end}, the disk at {capacity}")
        if size > MAX_CONTENTS:
            self._world.fail(where, f"a range may hold at most {format_size(MAX_CONTENTS)}")
        return start, size

    def size(self, value: str | int, where: KeyPath) -> int:
        """A number of bytes; text may have a unit."""
        try:
            size = parse_size(str(value))
        except ValueError as error:
            self._world.fail(where, str(error))
        if size > MAX_SIZE:
            self._world.fail(where, f"{value} is more than {format_size(MAX_SIZE)}")
        return size

    def byte(self, value: int, where: KeyPath) -> int:
        if not 0 <= value <= 255:
            self._world.fail(where, f"{value} is not a byte: give 0 to 255")
        return value

    def _file(self, path: str, format_: str | None, where: KeyPath) -> Image:
        """The contents of a real file, with the files below it."""
        try:
            image = read_image(path, format_, self.images)
        except (OSError, ImageFormatError) as error:
            self._world.fail((*where, "path"), refusal(path, error).message)
        self.images.update((layer.path, layer) for layer in chain(image))
        return image

    def paths(self, entry: DomainEntry) -> Iterator[str]:
        """Where each image and data file of a domain lies, backing images included."""
        for disk in entry.disks:
            if _is_empty(disk):
                continue
            yield disk.path or self.default_path(entry.name, disk.target, disk.format)
            if disk.data_store is not None:
                yield disk.data_store.path or self.default_path(entry.name, disk.target, "raw")
            below, depth = disk.backing, 1
            while below is not None:
                name = _base(disk, depth)
                yield below.path or self.default_path(entry.name, name, below.format)
                below, depth = below.backing, depth + 1

    def default_path(self, domain: str, target: str, suffix: str) -> str:
        """Where an image lies that is given no path."""
        return str(self._image_dir / f"{domain}-{target}.{suffix}")

    def _create(self, domain: str, entry: DiskEntry, path: str, where: KeyPath) -> Image:
        below = None
        if entry.backing is not None:
            below = self._backing(domain, entry, entry.backing, (*where, "backing"))
        data = None
        if entry.data_store is not None:
            data = self._data_store(domain, entry, (*where, "data_store"))
        image = self._made(path, entry, below, entry.size, where, data)
        self._fill(image, entry.seed, entry.written, where)
        return image

    def _made(
        self,
        path: str,
        entry: DiskEntry | BackingEntry,
        below: Image | None,
        wanted: str | int | None,
        where: KeyPath,
        data_store: str | None = None,
    ) -> Image:
        """A blank image; unless it says otherwise as large as the one below."""
        default = DEFAULT_SIZE if below is None else below.capacity
        size = default if wanted is None else self.size(wanted, (*where, "size"))
        if size <= 0 or size % 512:
            self._world.fail((*where, "size"), f"{size} is not a positive multiple of 512 bytes")
        return Image(size, path=path, format=entry.format, backing=below, data_store=data_store)

    def _backing(
        self, domain: str, disk: DiskEntry, entry: BackingEntry, where: KeyPath, depth: int = 1
    ) -> Image:
        if depth > MAX_BACKING:
            self._world.fail(where, f"a disk may have at most {MAX_BACKING} images below it")
        path = entry.path or self.default_path(domain, _base(disk, depth), entry.format)
        known = self.images.get(path)
        if known is not None:
            return known
        if entry.path is not None and entry.undescribed and file_stamp(path) is not None:
            return self._file(path, entry.format, where)
        below = None
        if entry.backing is not None:
            if entry.format == "raw":
                self._world.fail((*where, "backing"), "a raw image has none below it")
            below = self._backing(domain, disk, entry.backing, (*where, "backing"), depth + 1)
        wanted = entry.size if entry.size is not None or below is not None else disk.size
        image = self.images[path] = self._made(path, entry, below, wanted, where)
        self._fill(image, entry.seed, entry.written, where)
        return image

    def _data_store(self, domain: str, entry: DiskEntry, where: KeyPath) -> str:
        if entry.format != "qcow2" or entry.backing is not None or entry.device != "disk":
            self._world.fail(
                where, "only a qcow2 disk without backing can have its data in a raw file"
            )
        path = entry.data_store.path if entry.data_store is not None else None
        path = path or self.default_path(domain, entry.target, "raw")
        self.claim_data_store(path, where)
        return path

    def claim_data_store(self, path: str, where: KeyPath) -> None:
        """Refuse a data file that is an image, or another image's, already."""
        if path in self._data_stores or path in self.images:
            self._world.fail((*where, "path"), f"{path} is in use already")
        self._data_stores.add(path)

    def _fill(
        self, image: Image, seed: int | None, written: list[RangeEntry], where: KeyPath
    ) -> None:
        if seed is not None:
            if image.capacity > MAX_CONTENTS:
                self._world.fail(
                    (*where, "seed"),
                    f"only disks up to {format_size(MAX_CONTENTS)} can be filled as a whole:"
                    " describe ranges with `written`",
                )
            image.fill_pattern(seed + self._seed, 0, image.capacity)
        for index, entry in enumerate(written):
            self._write(image, entry, (*where, "written", index))

    def _write(self, image: Image, entry: RangeEntry, where: KeyPath) -> None:
        offset, length = self.byte_range(image, entry.offset, entry.length, where)
        if (entry.byte is None) == (entry.seed is None):
            self._world.fail(where, "give either byte or seed")
        if entry.byte is not None:
            image.fill(offset, length, self.byte(entry.byte, (*where, "byte")))
        elif entry.seed is not None:
            if offset % CLUSTER or (length % CLUSTER and offset + length != image.capacity):
                self._world.fail(
                    where, "a range with a seed starts and ends at multiples of 64 KiB"
                )
            image.fill_pattern(entry.seed + self._seed, offset, length)


def _is_empty(disk: DiskEntry) -> bool:
    """Whether the entry is about a drive without a medium."""
    return disk.device != "disk" and disk.path is None and disk.size is None


def _base(disk: DiskEntry, depth: int) -> str:
    """How the image that lies so many below a disk's own is called."""
    return f"{disk.target}-{'-'.join(['base'] * depth)}"
