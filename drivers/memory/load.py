"""Reading raw and qcow2 files, with their backing chains, into images in memory.

Blocking and meant for start-up or a worker thread. A damaged file raises ImageFormatError, never
anything stranger. Bitmaps and internal snapshots in a file are passed over.
"""

import os
import zlib
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from sys import byteorder
from typing import BinaryIO, Final

from virtbackupd.drivers.memory.clusters import CLUSTER
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.sizes import format_size
from virtbackupd.drivers.qcow2 import (
    COMPRESSED,
    MAGIC,
    OFFSET_MASK,
    ZERO_FLAG,
    Header,
    ImageFormatError,
    parse_header,
)

MAX_DATA: Final = 16 << 30
"""How much data one disk may bring along, its backing files included: it is all held in memory."""
_MAX_CHAIN = 200
_FORMATS = ("raw", "qcow2", None)


def read_header(path: str) -> Header | None:
    """The qcow2 header of a file; None when it is raw."""
    with Path(path).open("rb") as file:
        first = file.read(CLUSTER)
    return parse_header(first, path) if first.startswith(MAGIC) else None


def load_layer(path: str, header: Header, backing: Image | None) -> Image:
    """Load one qcow2 file on top of an image that is there already."""
    return Loader().layer(path, header, backing)


def _unknown(_path: str) -> Image | None:
    return None


class Loader:
    """Loads one disk, and counts how much of memory that takes."""

    def __init__(
        self, known: Callable[[str], Image | None] = _unknown, *, room: int = MAX_DATA
    ) -> None:
        self._known = known
        self._room = self._limit = room

    def image(
        self,
        path: str,
        format: str | None = None,  # noqa: A002
        backing: Image | None = None,
        *,
        depth: int = 0,
    ) -> Image:
        """A file on `backing`, or on what its header names: a known image, or again a file.

        Without a format, the file's first bytes tell it.
        """
        if depth > _MAX_CHAIN:
            raise ImageFormatError(f"{path} has a backing chain of more than {_MAX_CHAIN} files")
        if format not in _FORMATS:
            raise ImageFormatError(
                f"{path} cannot be read in format {format!r}: convert it to qcow2 or raw"
            )
        header = None if format == "raw" else read_header(path)
        if header is None and format == "qcow2":
            raise ImageFormatError(f"{path} is not a qcow2 image")
        if header is None:
            return self._raw(path)
        return self.layer(path, header, backing or self._below(path, header, depth))

    def layer(self, path: str, header: Header, backing: Image | None) -> Image:
        """One qcow2 file on top of an image that is there already."""
        image = Image(header.capacity, path=path, format="qcow2", backing=backing)
        for offset, content in _own_clusters(path, header):
            room = min(1 << header.cluster_bits, header.capacity - offset)
            if room <= 0:
                continue
            if content is None:
                image.write_zeroes(offset, room)
            else:
                self._store(image, offset, memoryview(content)[:room])
        return image

    def _raw(self, path: str) -> Image:
        with Path(path).open("rb") as file:
            capacity = file.seek(0, os.SEEK_END)
            image = Image(capacity, path=path, format="raw")
            for start, end in _data_ranges(file.fileno(), capacity):
                for offset, content in _pieces(file, start, end):
                    self._store(image, offset, content)
        return image

    def _below(self, path: str, header: Header, depth: int) -> Image | None:
        if header.backing_file is None:
            return None
        below = str(Path(path).parent / header.backing_file.removeprefix("file:"))
        known = self._known(below)
        return known or self.image(below, header.backing_format, depth=depth + 1)

    def _store(self, image: Image, offset: int, content: bytes | memoryview) -> None:
        before = image.allocation
        image.write(offset, content)
        self._room -= image.allocation - before
        if self._room < 0:
            raise ImageFormatError(
                f"{image.path} brings more than the {format_size(self._limit)} of data that can be"
                " held in memory: use a smaller image"
            )


def _own_clusters(path: str, header: Header) -> Iterator[tuple[int, bytes | None]]:
    """What a qcow2 file itself holds: (offset, content), with None for a recorded zero."""
    with Path(path).open("rb") as file:
        for number, table_at in enumerate(_read_table(file, header.l1_offset, header.l1_size)):
            if table_at & OFFSET_MASK:
                yield from _l2_clusters(file, header, number, table_at & OFFSET_MASK)


def _data_ranges(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError:
            return
        position = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start // CLUSTER * CLUSTER, position


def _pieces(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """The clusters of a range that hold anything but zeroes."""
    file.seek(start)
    for offset in range(start, end, CLUSTER):
        content = file.read(CLUSTER)
        if content.rstrip(b"\0"):
            yield offset, content


def _read_exactly(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    data = file.read(length)
    if len(data) != length:
        raise ImageFormatError(f"{file.name} ends before offset {offset + length}")
    return data


def _read_table(file: BinaryIO, offset: int, entries: int) -> "array[int]":
    table = array("Q", _read_exactly(file, offset, entries * 8))
    if byteorder == "little":
        table.byteswap()
    return table


def _l2_clusters(
    file: BinaryIO, header: Header, number: int, table_at: int
) -> Iterator[tuple[int, bytes | None]]:
    entries = 1 << (header.cluster_bits - 3)
    for slot, entry in enumerate(_read_table(file, table_at, entries)):
        if entry:
            offset = (number * entries + slot) << header.cluster_bits
            yield offset, _content(file, header, entry)


def _content(file: BinaryIO, header: Header, entry: int) -> bytes | None:
    if entry & COMPRESSED:
        return _inflate(file, header, entry)
    if entry & ZERO_FLAG and header.version >= 3:
        return None
    size, offset = 1 << header.cluster_bits, entry & OFFSET_MASK
    file.seek(offset)
    # The last cluster of a file need not be written to its end.
    return file.read(size).ljust(size, b"\0")


def _inflate(file: BinaryIO, header: Header, entry: int) -> bytes:
    """A compressed cluster; its entry holds the offset and the number of further sectors."""
    shift = 62 - (header.cluster_bits - 8)
    offset = entry & ((1 << shift) - 1)
    sectors = (entry & (COMPRESSED - 1)) >> shift
    file.seek(offset)
    packed = file.read((sectors + 1) * 512 - offset % 512)
    size = 1 << header.cluster_bits
    try:
        return zlib.decompressobj(-12).decompress(packed, size).ljust(size, b"\0")
    except zlib.error as error:
        raise ImageFormatError(f"{file.name} holds a damaged cluster at {offset}") from error
