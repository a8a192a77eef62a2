"""Opening the files that a backup writes: new ones, and ones somebody has prepared.

Blocking. What is wrong with a prepared file raises ImageFormatError, what the system refuses
OSError; a file created here is removed again when it cannot be used.
"""

import os
from pathlib import Path

from virtbackupd.drivers.memory.clusters import CLUSTER, ZERO_CLUSTER, Cluster
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.load import load_layer, read_header
from virtbackupd.drivers.memory.writers import Qcow2Writer, RawWriter, Writer
from virtbackupd.drivers.qcow2 import Header, ImageFormatError


def create_target(
    path: str,
    format: str,  # noqa: A002 - libvirt's own word
    capacity: int,
    *,
    backing_file: str | None = None,
    backing_format: str | None = None,
) -> Writer:
    """Create a file that must not exist yet, for its owner only."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if format == "raw":
            return RawWriter(descriptor, capacity)
        return Qcow2Writer(
            descriptor, capacity, backing_file=backing_file, backing_format=backing_format
        )
    except (OSError, ValueError):
        os.close(descriptor)
        Path(path).unlink()
        raise


def reuse_target(path: str, format: str, capacity: int, *, keep: bool) -> Writer:  # noqa: A002
    """Write into a file somebody has prepared; with `keep`, over what it holds already.

    A qcow2 file is laid out anew and stays on top of the backing file that its header names.
    """
    if format == "raw":
        return _reuse_raw(path, capacity)
    return _reuse_qcow2(path, capacity, keep=keep)


def create_empty_qcow2(
    path: str, capacity: int, backing_file: str | None = None, backing_format: str | None = None
) -> None:
    """Create a qcow2 file without contents; it must not exist yet."""
    writer = create_target(
        path, "qcow2", capacity, backing_file=backing_file, backing_format=backing_format
    )
    try:
        writer.finish()
    finally:
        writer.close()


def _reuse_raw(path: str, capacity: int) -> Writer:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    size = os.lseek(descriptor, 0, os.SEEK_END)
    if size != capacity:
        os.close(descriptor)
        raise _wrong_size(path, size, capacity)
    return RawWriter(descriptor, capacity, fresh=False)


def _reuse_qcow2(path: str, capacity: int, *, keep: bool) -> Writer:
    header = read_header(path)
    if header is None:
        raise ImageFormatError(f"{path} is not a qcow2 image; prepare it with qemu-img create")
    if header.capacity != capacity:
        raise _wrong_size(path, header.capacity, capacity)
    kept = _contents(path, header) if keep else {}
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    backing = header.backing_file, header.backing_format
    return Qcow2Writer(
        descriptor, capacity, backing_file=backing[0], backing_format=backing[1], kept=kept
    )


def _contents(path: str, header: Header) -> dict[int, Cluster | None]:
    """What the file itself holds; recorded zeroes matter only above a backing file."""
    nothing = Image(header.capacity, path="") if header.backing_file else None
    layer = dict(load_layer(path, header, nothing).own_clusters())
    if layer and 1 << header.cluster_bits < CLUSTER:
        raise ImageFormatError(f"{path} has contents in clusters smaller than {CLUSTER} bytes")
    return {i: None if data is ZERO_CLUSTER else data for i, data in sorted(layer.items())}


def _wrong_size(path: str, size: int, capacity: int) -> ImageFormatError:
    return ImageFormatError(
        f"{path} holds a disk of {size} bytes, but {capacity} bytes are to be written"
    )
