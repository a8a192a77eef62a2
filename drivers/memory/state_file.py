"""The file with the state of a world: an index and the contents of clusters, each with a checksum.

A file is refused whole, with one line, before more memory is taken than it can rightly need. It may
hold the values of secrets, so only its owner may read it. Blocking; meant for start-up or a worker
thread.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import msgspec

from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.memory.clusters import CLUSTER
from virtbackupd.drivers.memory.media import room
from virtbackupd.drivers.memory.sizes import format_size
from virtbackupd.drivers.memory.state_contents import unpacked
from virtbackupd.drivers.memory.state_reader import read_state
from virtbackupd.drivers.memory.state_records import SavedWorld
from virtbackupd.drivers.memory.state_writer import write_state
from virtbackupd.drivers.memory.world_file import WorldError
from virtbackupd.drivers.memory.world_state import MAGIC, WorldState
from virtbackupd.drivers.store import write_pieces_now

VERSION: Final = 2
"""Of the format that is written."""
READABLE: Final = (1, 2)
"""Version 1 has neither the clock nor faults nor what was read; other versions are refused."""
MAX_INDEX: Final = 1 << 30
"""Bytes of an index once it is unpacked."""
_HEADER: Final = struct.Struct("<8sIIQQI")
_LEVEL: Final = 1


class _Header(NamedTuple):
    """The first bytes of a file."""

    magic: bytes
    version: int
    index_checksum: int
    packed_size: int
    """Of the index, which follows; behind it are the clusters up to the end."""
    index_size: int
    stored_checksum: int


def save_state(path: Path, state: WorldState, image_dir: str) -> int:
    """Put a file there in one step and return its size; SystemFailure when that cannot be."""
    pieces = list(_pieces(state, image_dir))
    write_pieces_now(path, pieces)
    return sum(map(len, pieces))


def load_state(path: Path, image_dir: str) -> WorldState:
    """Read a file that `save_state` wrote; WorldError names the file and what is wrong with it."""
    try:
        with path.open("rb") as file:
            return _read(file, path.stat().st_size, image_dir)
    except OSError as error:
        raise WorldError(f"{path}: cannot read the saved world: {error.strerror}") from None
    except (DriverError, ValueError, zlib.error, struct.error) as error:
        raise WorldError(f"{path}: this saved world cannot be used: {_reason(error)}") from None


def _pieces(state: WorldState, image_dir: str) -> Iterator[bytes]:
    written = write_state(state, image_dir)
    index = msgspec.msgpack.encode(written.world)
    packed = zlib.compress(index, _LEVEL)
    checksum = 0
    for content in written.stored:
        checksum = zlib.crc32(content, checksum)
    header = _Header(MAGIC, VERSION, zlib.crc32(packed), len(packed), len(index), checksum)
    yield _HEADER.pack(*header)
    yield packed
    yield from written.stored


def _read(file: BinaryIO, size: int, image_dir: str) -> WorldState:
    header = _Header._make(_HEADER.unpack(file.read(_HEADER.size)))
    if header.version not in READABLE:
        known = ", ".join(map(str, READABLE))
        raise ValueError(f"it is of version {header.version}, known are {known}")
    stored_size = size - _HEADER.size - header.packed_size
    if stored_size < 0:
        raise ValueError("it ends too early")
    world = msgspec.msgpack.decode(_index(file, header), type=SavedWorld)
    stored = _stored(file, unpacked(world.blobs, "I"), stored_size, header.stored_checksum)
    return read_state(world, stored, image_dir)


def _index(file: BinaryIO, header: _Header) -> bytes:
    _require_room(header.index_size + header.packed_size)
    if header.index_size > MAX_INDEX:
        raise ValueError(f"its index is larger than {format_size(MAX_INDEX)}")
    packed = file.read(header.packed_size)
    if zlib.crc32(packed) != header.index_checksum:
        raise ValueError("its index is damaged")
    index = zlib.decompressobj().decompress(packed, header.index_size + 1)
    if len(index) != header.index_size:
        raise ValueError("its index has another size than it says")
    return index


def _stored(file: BinaryIO, lengths: Sequence[int], size: int, expected: int) -> list[bytes]:
    if sum(lengths) != size or max(lengths, default=0) > CLUSTER:
        raise ValueError("its contents have another size than its index says")
    _require_room(len(lengths) * CLUSTER)
    stored, checksum = [], 0
    for length in lengths:
        content = file.read(length)
        checksum = zlib.crc32(content, checksum)
        stored.append(content.ljust(CLUSTER, b"\0"))
    if checksum != expected:
        raise ValueError("its contents are damaged")
    return stored


def _require_room(size: int) -> None:
    if size > (limit := room()):
        raise ValueError(
            f"it holds {format_size(size)}, but only {format_size(limit)} of memory are free for it"
        )


def _reason(error: Exception) -> str:
    if isinstance(error, struct.error):
        return "it ends too early"
    text = error.message if isinstance(error, DriverError) else str(error)
    # A damaged name may be quoted, with line feeds in it.
    return " ".join(text.split())
