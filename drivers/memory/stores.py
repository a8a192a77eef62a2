"""Claiming the files that a backup writes, with libvirt's refusals for what is in the way.

Blocking, for a worker thread. Each claim says whether the file was created here, because only such
files may be removed again.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from virtbackupd.drivers.backup_rules import file_exists, require_present
from virtbackupd.drivers.errors import (
    ConfigUnsupported,
    DriverError,
    OperationFailed,
    SystemFailure,
)
from virtbackupd.drivers.memory.targets import create_empty_qcow2, create_target, reuse_target
from virtbackupd.drivers.memory.writers import Qcow2Writer, Writer
from virtbackupd.drivers.qcow2 import ImageFormatError

if TYPE_CHECKING:
    from virtbackupd.drivers.memory.running import Source

FORMATS = ("qcow2", "raw")
"""What a push can write."""


class Store(NamedTuple):
    """A claimed scratch file or target."""

    path: str
    created: bool
    writer: Writer | None = None

    def discard(self) -> None:
        """Close it and remove what was created."""
        if self.writer is not None:
            self.writer.close()
        self.remove()

    def remove(self) -> None:
        if self.created:
            Path(self.path).unlink(missing_ok=True)


def claim_scratch(source: "Source", *, reuse: bool) -> Store:
    """A file that marks the space; what would be in it is kept in memory."""
    path, image = source.entry.store_path or "", source.image
    if reuse or source.entry.type == "block":
        require_present(path)
        return Store(path, created=False)
    try:
        create_empty_qcow2(path, image.capacity, image.path, image.format)
    except (OSError, ImageFormatError) as error:
        raise _refusal(path, error) from None
    return Store(path, created=True)


def claim_target(source: "Source", *, reuse: bool) -> Store:
    """A file that is open for writing."""
    entry = source.entry
    path = entry.store_path or ""
    if entry.driver_type not in FORMATS:
        raise OperationFailed(
            f"disk {entry.name} cannot be written in format {entry.driver_type!r}, "
            f"choose one of {', '.join(FORMATS)}"
        )
    if entry.secret is not None:
        raise ConfigUnsupported(
            f"the target of disk {entry.name} cannot be encrypted by the in-memory hypervisor:"
            " leave <encryption> out"
        )
    try:
        return _claimed_target(source, path, reuse=reuse)
    except (OSError, ImageFormatError) as error:
        raise _refusal(path, error) from None


def _claimed_target(source: "Source", path: str, *, reuse: bool) -> Store:
    format_, capacity = source.entry.driver_type, source.image.capacity
    if reuse or (source.entry.type == "block" and format_ == "raw"):
        require_present(path)
        keep = source.since is not None
        return Store(path, created=False, writer=reuse_target(path, format_, capacity, keep=keep))
    backing = (source.image.path, source.image.format) if source.since is not None else (None, None)
    if source.entry.type == "block":
        return Store(path, created=False, writer=_formatted(path, capacity, *backing))
    writer = create_target(
        path, format_, capacity, backing_file=backing[0], backing_format=backing[1]
    )
    return Store(path, created=True, writer=writer)


def _formatted(
    path: str, capacity: int, backing_file: str | None, backing_format: str | None
) -> Writer:
    """A device that is there already, as a qcow2 image."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return Qcow2Writer(
            descriptor, capacity, backing_file=backing_file, backing_format=backing_format
        )
    except (OSError, ValueError):
        os.close(descriptor)
        raise


def _refusal(path: str, error: OSError | ImageFormatError) -> DriverError:
    if isinstance(error, FileExistsError):
        return file_exists(path)
    if isinstance(error, OSError):
        return SystemFailure(f"cannot create {path}: {error.strerror}")
    return OperationFailed(f"cannot write to {path}: {error}")
