"""One domain of a server for tests: what its guest does, and what the oracle knows of its disks.

Every method is one control command. Sizes and offsets are bytes.
"""

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from virtbackupd.testing.server import Server


READ_AT_ONCE: Final = 1 << 20
"""Bytes that are asked for with one command."""


class Range(msgspec.Struct, frozen=True, order=True):
    """A part of a disk."""

    offset: int
    length: int


class NbdReads(msgspec.Struct, frozen=True):
    """What NBD clients have read of exports; ranges that touch are one."""

    count: int
    """Requests."""
    bytes: int
    """In all of them, also where they overlap."""
    ranges: list[Range]


class Comparison(msgspec.Struct, frozen=True):
    """How an image differs from a disk; true when it does not."""

    identical: bool
    bytes: int
    """In all differences."""
    differences: list[Range]
    """The first of them."""

    def __bool__(self) -> bool:
        return self.identical


class Domain:
    """A handle: whether there is such a domain shows when it is used."""

    def __init__(self, server: "Server", name: str) -> None:
        self._server = server
        self.name = name

    def control(self, command: str, /, **arguments: object) -> object:
        """Any control command, on this domain; those of docs/control.md."""
        return self._server.control(command, self.name, **arguments)

    # The guest
    def write(self, disk: str, offset: int, data: bytes) -> None:
        """As the guest would: bitmaps count it."""
        self.control("guest-write", disk=disk, offset=offset, data=_text(data))

    def write_pattern(self, disk: str, offset: int, length: int, seed: int) -> None:
        """Whole clusters of 64 KiB, no two of which are alike; the same for the same seed."""
        self.control("guest-write", disk=disk, offset=offset, length=length, seed=seed)

    def read(self, disk: str, offset: int, length: int) -> bytes:
        return b"".join(
            self._read(disk, begin, min(READ_AT_ONCE, offset + length - begin))
            for begin in range(offset, offset + length, READ_AT_ONCE)
        )

    def _read(self, disk: str, offset: int, length: int) -> bytes:
        found = self.control("guest-read", disk=disk, offset=offset, length=length)
        return base64.b64decode(msgspec.convert(found, _Contents).data)

    def zero(self, disk: str, offset: int, length: int) -> None:
        self.control("guest-zero", disk=disk, offset=offset, length=length)

    def discard(self, disk: str, offset: int, length: int) -> None:
        self.control("guest-discard", disk=disk, offset=offset, length=length)

    # The oracle
    def changed_ranges(self, disk: str, since: str) -> list[Range]:
        """What changed since a checkpoint, also when its bitmap is lost."""
        return self._ranges("changed-ranges", disk=disk, since=since)

    def mark(self, name: str, *disks: str, next_backup: bool = False) -> None:
        """Keep disks, all by default, as they are now or as the next backup will see them."""
        at = "next-backup" if next_backup else "now"
        self.control("disk-mark", name=name, at=at, **_given(disks=list(disks) or None))

    def compare(
        self,
        disk: str,
        image: Path | str,
        *,
        mark: str | None = None,
        format: str | None = None,  # noqa: A002 - the name of the argument
    ) -> Comparison:
        """A restored image, raw or qcow2, beside the disk as it is now or at a mark."""
        path = str(Path(image).absolute())
        given = _given(disk=disk, path=path, mark=mark, format=format)
        return msgspec.convert(self.control("compare", **given), Comparison)

    def nbd_reads(self, disk: str) -> NbdReads:
        """What backup clients have read of a disk since it was last cleared."""
        found = msgspec.convert(self.control("nbd-reads", disk=disk, limit=1), _Page)
        return NbdReads(found.count, found.bytes, self._ranges("nbd-reads", disk=disk))

    def reads_outside_changes(self, disk: str, since: str | None = None) -> list[Range]:
        """What backup clients have read although it had not changed since a checkpoint.

        By default the one that the last incremental backup started from.
        """
        return self._ranges("reads-outside-changes", disk=disk, **_given(since=since))

    def clear_nbd_reads(self) -> None:
        self.control("nbd-reads-clear")

    def _ranges(self, command: str, **arguments: object) -> list[Range]:
        """All pages of an answer."""
        found: list[Range] = []
        start: int | None = 0
        while start is not None:
            answer = self.control(command, start=start, **arguments)
            page = msgspec.convert(answer, _Page)
            found += page.ranges
            start = page.next
        return found

    # The backup job
    def job_progress(self, *, percent: float, disk: str | None = None) -> None:
        """Let a push come so far and wait there; the next push if none runs."""
        self.control("job-progress", percent=percent, **_given(disk=disk))

    def job_complete(self) -> None:
        """Let the push that runs copy all that is left at once."""
        self.control("job-complete")

    def job_fail(self, disk: str, error: str = "Input/output error") -> None:
        self.control("job-fail", disk=disk, error=error)


class _Contents(msgspec.Struct, frozen=True):
    """The part of an answer that holds the bytes."""

    data: str


class _Page(msgspec.Struct, frozen=True):
    """An answer with ranges, and where to go on when there are more."""

    ranges: list[Range]
    next: int | None
    bytes: int = 0
    count: int = 0


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _given(**arguments: object) -> dict[str, object]:
    """Those that are not None."""
    return {name: value for name, value in arguments.items() if value is not None}
