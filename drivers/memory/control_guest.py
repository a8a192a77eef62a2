"""The control commands with which a test is the guest: it writes, zeroes, discards and reads.

They count in the statistics, in bitmaps and in running backups as any request of a guest does.
"""

import base64
import hashlib
from typing import Annotated, Final

import msgspec

from virtbackupd.drivers.errors import InvalidArgument, OperationUnsupported
from virtbackupd.drivers.memory import (
    control_bitmaps,
    control_contents,
    control_oracle,
    control_reads,
)
from virtbackupd.drivers.memory.clusters import CLUSTER, OutOfRange
from virtbackupd.drivers.memory.control import CommandTable, ControlCommand, Target
from virtbackupd.drivers.memory.control_disks import (
    DiskArguments,
    Json,
    Size,
    domain_of,
    require_disk,
    size,
)
from virtbackupd.drivers.memory.qemu_io import Drive, Request
from virtbackupd.drivers.memory.sizes import format_size

MAX_WRITE: Final = 1 << 30
"""Bytes that one command changes, so that others get their turn."""
MAX_READ: Final = 2 << 20
"""Bytes that one command shows: the monitor's answers are bounded."""


class RangeArguments(DiskArguments, frozen=True):
    """A part of a disk."""

    offset: Size
    length: Size


class WriteArguments(DiskArguments, frozen=True):
    """What to write: `data`, or `length` bytes that are all `byte`, or of the pattern of `seed`."""

    offset: Size
    data: bytes | None = None
    """In base64."""
    length: Size | None = None
    byte: Annotated[int, msgspec.Meta(ge=0, le=255)] | None = None
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] | None = None


def _write(target: Target, given: WriteArguments) -> Json:
    offset = size(given.offset, "offset")
    if (given.data is not None) + (given.byte is not None) + (given.seed is not None) != 1:
        raise InvalidArgument("give one of data, byte and seed")
    if (given.data is None) == (given.length is None):
        raise InvalidArgument("length goes with byte or seed, and only with these")
    length = len(given.data or b"") if given.length is None else size(given.length, "length")
    drive, request = _writable(target, given.disk, "write", offset, length)
    if given.data is not None:
        drive.image.write(offset, given.data)
    elif given.byte is not None:
        drive.image.fill(offset, length, given.byte)
    else:
        _write_pattern(drive, request, given.seed or 0)
    drive.note_write(request)
    return {"written": length}


def _write_pattern(drive: Drive, request: Request, seed: int) -> None:
    end = request.offset + request.length
    if request.offset % CLUSTER or (end % CLUSTER and end != drive.image.capacity):
        raise InvalidArgument(f"a range with a seed starts and ends at multiples of {CLUSTER}")
    drive.image.write_pattern(seed, request.offset, request.length)


def _zero(target: Target, given: RangeArguments) -> Json:
    offset, length = size(given.offset, "offset"), size(given.length, "length")
    drive, request = _writable(target, given.disk, "write", offset, length)
    drive.image.write_zeroes(offset, length)
    drive.note_write(request)
    return {"written": length}


def _discard(target: Target, given: RangeArguments) -> Json:
    offset, length = size(given.offset, "offset"), size(given.length, "length")
    drive, _ = _writable(target, given.disk, "discard", offset, length)
    drive.image.discard(offset, length)
    return {"discarded": length}


def _read(target: Target, given: RangeArguments) -> Json:
    offset, length = size(given.offset, "offset"), size(given.length, "length")
    if length > MAX_READ:
        raise InvalidArgument(f"length: at most {format_size(MAX_READ)} are read at once")
    drive = _drive(target, given.disk)
    _check_range(drive, offset, length)
    data = drive.image.read(offset, length)
    drive.counters.count_read(length)
    return {
        "data": base64.b64encode(data).decode("ascii"),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _drive(target: Target, name: str) -> Drive:
    domain = domain_of(target)
    domain.require_active()
    return Drive(domain, *require_disk(domain, name))


def _writable(
    target: Target, name: str, what: str, offset: int, length: int
) -> tuple[Drive, Request]:
    if length > MAX_WRITE:
        raise InvalidArgument(f"length: at most {format_size(MAX_WRITE)} are changed at once")
    drive = _drive(target, name)
    if drive.disk.read_only:
        raise OperationUnsupported(
            f"disk {drive.disk.target} of domain {drive.domain.ref.name} is read-only"
        )
    _check_range(drive, offset, length)
    return drive, Request(what, {}, offset, length)


def _check_range(drive: Drive, offset: int, length: int) -> None:
    try:
        drive.image.check_range(offset, length)
    except OutOfRange as error:
        raise InvalidArgument(f"disk {drive.disk.target}: {error}") from None


_GUEST_COMMANDS: CommandTable = {
    "guest-write": ControlCommand(
        "Write data, one byte again and again, or a pattern.",
        _write,
        WriteArguments,
        needs_domain=True,
    ),
    "guest-zero": ControlCommand(
        "Write zeroes, which take no space.", _zero, RangeArguments, needs_domain=True
    ),
    "guest-discard": ControlCommand(
        "Free the whole clusters of a range.", _discard, RangeArguments, needs_domain=True
    ),
    "guest-read": ControlCommand(
        "Read data, with its SHA-256.", _read, RangeArguments, needs_domain=True
    ),
}

COMMANDS: CommandTable = {
    **_GUEST_COMMANDS,
    **control_bitmaps.COMMANDS,
    **control_contents.COMMANDS,
    **control_oracle.COMMANDS,
    **control_reads.COMMANDS,
}
