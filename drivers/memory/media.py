"""Real files that a starting domain finds at its disks' paths, taken over into memory.

A file is read when nothing is held for its path, or when somebody has written it anew since; it is
never written. What a running domain uses stays as it is. The reading is done in a worker thread.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import trio

from virtbackupd.drivers.errors import DriverError, InternalError, SystemFailure
from virtbackupd.drivers.interface import BlockInfo
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.images import DEFAULT_CAPACITY, Stamp, file_stamp
from virtbackupd.drivers.memory.load import MAX_DATA, Loader, read_header
from virtbackupd.drivers.node import available_memory
from virtbackupd.drivers.qcow2 import ImageFormatError

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.disk import DiskDefinition
    from virtbackupd.drivers.memory.host import Host
    from virtbackupd.drivers.memory.images import ImageRegistry

_BLOCK = 512
"""The unit of `st_blocks`, whatever the file system."""


class Taken(NamedTuple):
    """An image made from a file, and the state of that file."""

    image: Image
    stamp: Stamp | None


async def take_files(host: "Host", disks: "Iterable[DiskDefinition]") -> None:
    """Hold the contents of the files that the disks name; refuse a file that cannot be read."""
    local = [disk for disk in disks if disk.local_path is not None]
    if not local:
        return
    stamps = await trio.to_thread.run_sync(_stamps, local)
    if all(host.images.is_of(path, stamp) for path, stamp in stamps.items()):
        return
    taker = _Taker(host.images, _in_use(host))
    taken = await trio.to_thread.run_sync(taker.take, local, abandon_on_cancel=True)
    for image, stamp in taken:
        host.images.add(image, stamp)


def _in_use(host: "Host") -> frozenset[str]:
    """The paths of all images that running domains have in their drives, or below them."""
    media = (image for domain in host.domains for image in domain.media.values())
    return frozenset(layer.path for image in media for layer in chain(image))


def chain(image: Image | None) -> Iterator[Image]:
    """An image and those below it."""
    while image is not None:
        yield image
        image = image.backing


def bitmap_names(image: Image | None) -> frozenset[str]:
    """The bitmaps in all files of a disk."""
    return frozenset(name for layer in chain(image) for name in layer.bitmaps.names())


def measure(disk: "DiskDefinition") -> BlockInfo:
    """The size of the real file of a disk that nothing is held for. Blocking."""
    path = disk.local_path
    stamp = None if path is None else file_stamp(path)
    if path is None or stamp is None:
        return BlockInfo(0, DEFAULT_CAPACITY, 0)
    try:
        header = read_header(path) if disk.format == "qcow2" else None
        blocks = Path(path).stat().st_blocks
    except (OSError, ImageFormatError) as error:
        raise refusal(path, error) from None
    capacity = stamp.size if header is None else header.capacity
    return BlockInfo(blocks * _BLOCK, capacity, stamp.size)


def refusal(path: str, error: OSError | ImageFormatError) -> DriverError:
    """The error that libvirt's QEMU driver has for an image that cannot be opened."""
    if isinstance(error, OSError):
        name = error.filename or path
        return SystemFailure(f"cannot read the image {name}: {error.strerror}")
    return InternalError(f"cannot read an image: {error}")


def read_image(path: str, format: str | None, known: Mapping[str, Image]) -> Image:  # noqa: A002
    """A file with its backing files, of which some may be known. Blocking."""
    return Loader(known.get, room=room()).image(path, format)


def room() -> int:
    """How much data may be taken over: half of the memory that is free, within bounds."""
    return min(MAX_DATA, available_memory() // 2)


def _stamps(disks: "Iterable[DiskDefinition]") -> dict[str, Stamp]:
    paths = [disk.source for disk in disks] + [low.source for disk in disks for low in disk.backing]
    stamps = {path: file_stamp(path) for path in paths if path and path.startswith("/")}
    return {path: stamp for path, stamp in stamps.items() if stamp is not None}


class _Taker:
    """Reads in a thread; the registry, which it only asks, is changed by its caller later."""

    def __init__(self, images: "ImageRegistry", in_use: frozenset[str]) -> None:
        self._images = images
        self._in_use = in_use
        self._made: dict[str, Taken] = {}

    def take(self, disks: "Iterable[DiskDefinition]") -> list[Taken]:
        for disk in disks:
            self._disk(disk)
        return list(self._made.values())

    def _disk(self, disk: "DiskDefinition") -> None:
        loader = Loader(self._known, room=room())
        below: Image | None = None
        layers = [(layer.source, layer.format) for layer in reversed(disk.backing)]
        for path, format_ in [*layers, (disk.source or "", disk.format)]:
            below = self._known(path) or self._layer(loader, path, format_, below)

    def _known(self, path: str) -> Image | None:
        """What is held and still right."""
        if path in self._made:
            return self._made[path].image
        right = path in self._in_use or self._images.is_of(path, file_stamp(path))
        return self._images.get(path) if right else None

    def _layer(self, loader: Loader, path: str, format_: str, below: Image | None) -> Image | None:
        if file_stamp(path) is None:
            return None if below is None else self._blank(path, format_, below)
        try:
            image = loader.image(path, format_, below)
        except (OSError, ImageFormatError) as error:
            raise refusal(path, error) from None
        for layer in chain(image):
            if self._known(layer.path) is not layer:
                self._made[layer.path] = Taken(layer, file_stamp(layer.path))
        return image

    def _blank(self, path: str, format_: str, below: Image) -> Image:
        """A layer that has no file, on top of one that has."""
        image = Image(below.capacity, path=path, format=format_, backing=below)
        self._made[path] = Taken(image, None)
        return image
