"""The qcow2 header and the arithmetic of its tables, version 3 with what older files may hold.

Pure layout: no file is opened here. Field names are those of the format's specification.
"""

from struct import Struct
from typing import NamedTuple

CLUSTER_SIZE = 65536
"""Bytes of a cluster in the files we write: the default of QEMU's tools."""
MAGIC = b"QFI\xfb"
HEADER_V2 = Struct(">4sIQIIQIIQQIIQ")
HEADER_V3 = Struct(">QQQII")
EXTENSION = Struct(">II")
BACKING_FORMAT = 0xE2792ACA
"""The header extension that names the format of the backing file."""
DATA_FILE = 0x44415441
"""The header extension that names the file with the guest's data."""
DATA_FILE_FEATURE = 1 << 2
"""Incompatible feature: the data are in another file."""
RAW_DATA_FILE_FEATURE = 1 << 1
"""Autoclear feature: that file can be read as a raw image."""

COPIED = 1 << 63
COMPRESSED = 1 << 62
ZERO_FLAG = 1
OFFSET_MASK = 0x00FFFFFFFFFFFE00

L2_ENTRIES = CLUSTER_SIZE // 8
REFCOUNTS_PER_BLOCK = CLUSTER_SIZE // 2
"""With refcounts of 16 bits."""
TOLERATED_FEATURES = 0b11
"""Incompatible features a reader may ignore: the dirty and the corrupt mark."""
MAX_BACKING_NAME = 1023
_MAX_L1_BYTES = 32 << 20


class ImageFormatError(ValueError):
    """A file is not the image it should be, or uses a feature that is not handled here."""


class Header(NamedTuple):
    """What a reader needs of a qcow2 header."""

    version: int
    capacity: int
    cluster_bits: int
    l1_size: int
    l1_offset: int
    backing_file: str | None = None
    backing_format: str | None = None


class TableLayout(NamedTuple):
    """Where the tables behind the data lie, in clusters."""

    l1: int
    refcount_blocks: int
    refcount_table: int
    end: int

    @property
    def refcount_table_clusters(self) -> int:
        """The length of the refcount table."""
        return self.end - self.refcount_table

    @property
    def refcount_block_count(self) -> int:
        """The number of refcount blocks."""
        return self.refcount_table - self.refcount_blocks


def l1_entries(capacity: int) -> int:
    """How many L2 tables a disk of that size needs at most."""
    return -(-capacity // (CLUSTER_SIZE * L2_ENTRIES))


def plan_tables(start: int, capacity: int) -> TableLayout:
    """Lay out L1 table, refcount blocks and refcount table from cluster `start` on.

    The refcounts count their own clusters too, so the plan grows until it fits.
    """
    blocks_at = start + max(1, _clusters(l1_entries(capacity) * 8))
    blocks = table = 0
    while True:
        end = blocks_at + blocks + table
        wanted = -(-end // REFCOUNTS_PER_BLOCK)
        if (wanted, _clusters(wanted * 8)) == (blocks, table):
            return TableLayout(start, blocks_at, blocks_at + blocks, end)
        blocks, table = wanted, _clusters(wanted * 8)


def build_header(
    capacity: int,
    layout: TableLayout,
    backing_file: str | None,
    backing_format: str | None,
    data_file: str | None = None,
) -> bytes:
    """The header of a file with our layout; `data_file` is a raw file with the guest's data."""
    name = (backing_file or "").encode()
    if len(name) > MAX_BACKING_NAME:
        raise ImageFormatError(f"the backing file name {backing_file} is longer than 1023 bytes")
    size = HEADER_V2.size + HEADER_V3.size
    extensions = _extensions(backing_format if name else None, data_file)
    name_offset = size + len(extensions) if name else 0
    l1 = (l1_entries(capacity), layout.l1 * CLUSTER_SIZE)
    refcounts = (layout.refcount_table * CLUSTER_SIZE, layout.refcount_table_clusters)
    fixed = HEADER_V2.pack(MAGIC, 3, name_offset, len(name), 16, capacity, 0, *l1, *refcounts, 0, 0)
    features = (DATA_FILE_FEATURE, 0, RAW_DATA_FILE_FEATURE) if data_file else (0, 0, 0)
    return fixed + HEADER_V3.pack(*features, 4, size) + extensions + name


def empty_image(
    capacity: int,
    backing_file: str | None = None,
    backing_format: str | None = None,
    data_file: str | None = None,
) -> list[tuple[int, bytes]]:
    """All that a new image without contents holds, by offset; what is between reads as zero.

    The last piece ends where the file does.
    """
    layout = plan_tables(1, capacity)
    header = build_header(capacity, layout, backing_file, backing_format, data_file)
    blocks = range(layout.refcount_blocks, layout.refcount_table)
    pieces = [(0, header)]
    for number, block in enumerate(blocks):
        used = min(layout.end - number * REFCOUNTS_PER_BLOCK, REFCOUNTS_PER_BLOCK)
        pieces.append((block * CLUSTER_SIZE, b"\0\1" * used))
    table = b"".join((block * CLUSTER_SIZE).to_bytes(8, "big") for block in blocks)
    size = layout.refcount_table_clusters * CLUSTER_SIZE
    pieces.append((layout.refcount_table * CLUSTER_SIZE, table.ljust(size, b"\0")))
    return pieces


def parse_header(data: bytes, path: str) -> Header:
    """Read the first cluster of a file, or raise ImageFormatError."""
    if len(data) < HEADER_V2.size or not data.startswith(MAGIC):
        raise ImageFormatError(f"{path} is not a qcow2 image")
    _, version, name_at, name_size, bits, capacity, crypt, l1_size, l1_offset, *_ = (
        HEADER_V2.unpack_from(data)
    )
    header_size = _check_features(data, version, path)
    if crypt or not 9 <= bits <= 21 or l1_size * 8 > _MAX_L1_BYTES:
        raise ImageFormatError(f"{path} is encrypted or its header is damaged")
    name = data[name_at : name_at + name_size].decode(errors="surrogateescape")
    backing_format = _find_backing_format(data, header_size)
    return Header(version, capacity, bits, l1_size, l1_offset, name or None, backing_format)


def find_capacity(data: bytes) -> int | None:
    """The size that a guest sees, from the start of any qcow2 file; None for another one."""
    if len(data) < HEADER_V2.size or not data.startswith(MAGIC):
        return None
    return int(HEADER_V2.unpack_from(data)[5])


def find_backing(data: bytes) -> tuple[str, str | None] | None:
    """Name and format of the backing file, from the start of any qcow2 file; None without one."""
    if len(data) < HEADER_V2.size or not data.startswith(MAGIC):
        return None
    _, version, name_at, name_size, *_ = HEADER_V2.unpack_from(data)
    if not name_at or not 0 < name_size <= MAX_BACKING_NAME:
        return None
    header_size = HEADER_V2.size
    if version > 2 and len(data) >= HEADER_V2.size + HEADER_V3.size:
        header_size = HEADER_V3.unpack_from(data, HEADER_V2.size)[-1]
    name = data[name_at : name_at + name_size].decode(errors="surrogateescape")
    return name, _find_backing_format(data, header_size)


def _clusters(size: int) -> int:
    return -(-size // CLUSTER_SIZE)


def _extensions(backing_format: str | None, data_file: str | None) -> bytes:
    named = ((BACKING_FORMAT, backing_format), (DATA_FILE, data_file))
    return b"".join(_extension(*each) for each in named) + EXTENSION.pack(0, 0)


def _extension(kind: int, text: str | None) -> bytes:
    if text is None:
        return b""
    value = text.encode()
    return EXTENSION.pack(kind, len(value)) + value + bytes(-len(value) % 8)


def _check_features(data: bytes, version: int, path: str) -> int:
    """The length of the header, once it is known that nothing in it stands in the way."""
    if version == 2:
        return HEADER_V2.size
    if version != 3 or len(data) < HEADER_V2.size + HEADER_V3.size:
        raise ImageFormatError(f"{path} is qcow2 version {version}; only 2 and 3 are known")
    incompatible, _, _, _, length = HEADER_V3.unpack_from(data, HEADER_V2.size)
    unknown = incompatible & ~TOLERATED_FEATURES
    if unknown:
        raise ImageFormatError(f"{path} uses qcow2 features {unknown:#x} that are not supported")
    return int(length)


def _find_backing_format(data: bytes, position: int) -> str | None:
    while position + EXTENSION.size <= len(data):
        kind, length = EXTENSION.unpack_from(data, position)
        position += EXTENSION.size
        if kind == 0:
            return None
        if kind == BACKING_FORMAT:
            return data[position : position + length].decode(errors="replace")
        position += -(-length // 8) * 8
    return None
