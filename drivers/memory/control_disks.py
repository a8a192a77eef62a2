"""What the control commands on disks share: finding the disk, sizes as text, ranges in pages."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from virtbackupd.drivers.errors import InvalidArgument
from virtbackupd.drivers.memory.block_nodes import find_disk
from virtbackupd.drivers.memory.control import Arguments
from virtbackupd.drivers.memory.sizes import parse_size

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.disk import DiskDefinition
    from virtbackupd.drivers.memory.control import Target
    from virtbackupd.drivers.memory.domain import MemoryDomain
    from virtbackupd.drivers.memory.image import Image

Json = dict[str, object]

RANGES: Final = 50_000
"""Ranges in one answer: what the monitor's answers, which are bounded, have room for."""

Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | str
"""Bytes, or text such as `64k` or `1 GiB`."""


class DiskArguments(Arguments, frozen=True):
    """Which disk, by its target or any other name that the monitor knows."""

    disk: str


class PageArguments(DiskArguments, frozen=True):
    """Which of many ranges: at most `limit` of those that begin at `start` or behind."""

    start: Size = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=RANGES)] = RANGES


def domain_of(target: "Target") -> "MemoryDomain":
    """The domain of a command that needs one."""
    if target.domain is None:
        raise InvalidArgument("a disk is of a domain: name one")
    return target.domain


def require_disk(domain: "MemoryDomain", name: str) -> "tuple[DiskDefinition, Image]":
    """The disk with its medium; InvalidArgument names those that there are."""
    disk = find_disk(domain, name)
    if disk is None:
        known = ", ".join(disk.target for disk in domain.definition.disks) or "none"
        raise InvalidArgument(
            f"domain {domain.ref.name} has no disk {name!r}; its disks are: {known}"
        )
    image = domain.disk_image(disk.target)
    if image is None:
        raise InvalidArgument(f"drive {disk.target} of domain {domain.ref.name} has no medium")
    return disk, image


def size(given: Size, what: str) -> int:
    """In bytes; `what` is the argument that a refusal names."""
    if isinstance(given, int):
        return given
    try:
        return parse_size(given)
    except ValueError as error:
        raise InvalidArgument(f"{what}: {error}") from None


def page(ranges: Iterable[tuple[int, int]], given: PageArguments) -> Json:
    """Ranges (offset, length) as an answer shows them, with where to go on if there are more."""
    start, total, following = size(given.start, "start"), 0, None
    shown: list[Json] = []
    for offset, length in ranges:
        total += length
        if offset < start:
            continue
        if len(shown) < given.limit:
            shown.append({"offset": offset, "length": length})
        elif following is None:
            following = offset
    return {"bytes": total, "ranges": shown, "next": following}
