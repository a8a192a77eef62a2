"""The control commands that compare contents: of disks, at any named instant, and of images."""

import hashlib
from collections.abc import Awaitable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
import trio

from virtbackupd.drivers.errors import InvalidArgument
from virtbackupd.drivers.memory.control import Arguments, CommandTable, ControlCommand, Target
from virtbackupd.drivers.memory.control_disks import (
    DiskArguments,
    Json,
    Size,
    domain_of,
    require_disk,
    size,
)
from virtbackupd.drivers.memory.disk_marks import DiskMarks
from virtbackupd.drivers.memory.images import file_stamp
from virtbackupd.drivers.memory.media import read_image, refusal
from virtbackupd.drivers.memory.still import SECTOR, Still, differences
from virtbackupd.drivers.qcow2 import ImageFormatError

if TYPE_CHECKING:
    from virtbackupd.drivers.memory.domain import MemoryDomain
    from virtbackupd.drivers.memory.image import Image

MAX_DIFFERENCES: Final = 10_000
_PIECE: Final = 4 << 20

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class MarkArguments(Arguments, frozen=True):
    """A name for an instant: of all disks, or of those in `disks`."""

    name: _Name
    disks: list[str] | None = None
    at: Literal["now", "next-backup"] = "now"


class NameArguments(Arguments, frozen=True):
    """The name of a mark."""

    name: _Name


class CompareArguments(DiskArguments, frozen=True, kw_only=True):
    """An image file, and the disk as it is now or at a mark."""

    path: str
    format: Literal["raw", "qcow2"] | None = None
    mark: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=0, le=MAX_DIFFERENCES)] = 1000


class ChecksumArguments(DiskArguments, frozen=True, kw_only=True):
    """A part of a disk, all of it by default, as it is now or at a mark."""

    offset: Size = 0
    length: Size | None = None
    mark: str | None = None


def _mark(target: Target, given: MarkArguments) -> Json:
    domain = domain_of(target)
    names = given.disks
    if names is None:
        names = [disk.target for disk in domain.definition.disks if not disk.empty]
    targets = [require_disk(domain, name)[0].target for name in names]
    if domain.marks is None:
        domain.marks = DiskMarks()
    keep = domain.marks.take if given.at == "now" else domain.marks.await_backup
    keep(domain, given.name, targets)
    return {"disks": targets}


def _marks(target: Target, _: Arguments) -> Json:
    marks = domain_of(target).marks
    if marks is None:
        return {"marks": [], "awaited": []}
    return {"marks": marks.names(), "awaited": marks.awaited()}


def _drop_mark(target: Target, given: NameArguments) -> Json:
    domain = domain_of(target)
    _marks_of(domain).drop(domain, given.name)
    return {}


def _marks_of(domain: "MemoryDomain") -> DiskMarks:
    return domain.marks if domain.marks is not None else DiskMarks()


def _still(target: Target, disk: str, mark: str | None) -> Still:
    domain = domain_of(target)
    found, image = require_disk(domain, disk)
    if mark is None:
        return Still(image)
    return _marks_of(domain).get(domain, mark, found.target)


def _compare(target: Target, given: CompareArguments) -> Awaitable[Json]:
    if not Path(given.path).is_absolute():
        raise InvalidArgument(f"path: {given.path!r} has to begin with a /")
    still = _still(target, given.disk, given.mark)

    def compare() -> Json:
        return _compared(still, given)

    return trio.to_thread.run_sync(compare, abandon_on_cancel=True)


def _compared(still: Still, given: CompareArguments) -> Json:
    image = _load(given)
    found = differences(still, image)
    shown = islice(found, given.limit)
    return {
        "identical": not found,
        "bytes": sum(end - start for start, end in found),
        "count": len(found),
        "differences": [{"offset": start, "length": end - start} for start, end in shown],
        "granularity": SECTOR,
        "size": {"disk": still.capacity, "image": image.capacity},
    }


def _load(given: CompareArguments) -> "Image":
    if file_stamp(given.path) is None:
        raise InvalidArgument(f"path: {given.path} is no file with contents")
    try:
        return read_image(given.path, given.format, {})
    except (OSError, ImageFormatError) as error:
        raise refusal(given.path, error) from None


def _checksum(target: Target, given: ChecksumArguments) -> Awaitable[Json]:
    still = _still(target, given.disk, given.mark)
    offset = size(given.offset, "offset")
    rest = max(0, still.capacity - offset)
    length = rest if given.length is None else size(given.length, "length")
    if length > rest or offset > still.capacity:
        raise InvalidArgument(f"the disk ends at byte {still.capacity}")

    def checksum() -> Json:
        digest = hashlib.sha256()
        for piece in _pieces(still, offset, length):
            digest.update(piece)
        return {"sha256": digest.hexdigest(), "bytes": length}

    return trio.to_thread.run_sync(checksum, abandon_on_cancel=True)


def _pieces(still: Still, offset: int, length: int) -> Iterator[bytes | memoryview]:
    for start in range(offset, offset + length, _PIECE):
        yield from still.read_slices(start, min(_PIECE, offset + length - start))


COMMANDS: CommandTable = {
    "checksum": ControlCommand(
        "Compute the SHA-256 of a disk as a raw image.",
        _checksum,
        ChecksumArguments,
        needs_domain=True,
        waits=True,
    ),
    "compare": ControlCommand(
        "Compare an image file, such as a restored one, with a disk.",
        _compare,
        CompareArguments,
        needs_domain=True,
        waits=True,
    ),
    "disk-mark": ControlCommand(
        "Keep disks as they are now, or as the next backup will see them, to compare later.",
        _mark,
        MarkArguments,
        needs_domain=True,
    ),
    "disk-marks": ControlCommand("List the marks.", _marks, needs_domain=True),
    "disk-mark-drop": ControlCommand(
        "Forget a mark.", _drop_mark, NameArguments, needs_domain=True
    ),
}
