"""Which disk a caller means, and what a disk has counted in libvirt's words: for every driver."""

import string
from typing import Final, Protocol

from virtbackupd.drivers.definitions.disk import DiskDefinition
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.enums import TypedParameterType
from virtbackupd.drivers.errors import InvalidArgument
from virtbackupd.drivers.events import TypedParameter
from virtbackupd.drivers.interface import BlockStats

REQUEST_FIELDS: Final = (
    "rd.reqs",
    "rd.bytes",
    "rd.times",
    "wr.reqs",
    "wr.bytes",
    "wr.times",
    "fl.reqs",
    "fl.times",
)
"""How the statistics of a domain name what a disk has counted, in libvirt's order."""
_LLONG: Final = int(TypedParameterType.LLONG)


def place_of(letters: str) -> int:
    """Of a disk named by small letters: `a` is 0, `z` 25, `aa` 26."""
    place = 0
    for letter in letters:
        place = place * 26 + string.ascii_lowercase.index(letter) + 1
    return place - 1


class Counted(Protocol):
    """What the guest has asked of a disk."""

    @property
    def read_requests(self) -> int: ...

    @property
    def read_bytes(self) -> int: ...

    @property
    def write_requests(self) -> int: ...

    @property
    def write_bytes(self) -> int: ...

    @property
    def flush_requests(self) -> int: ...


def require_disk(definition: DomainDefinition, name: str) -> DiskDefinition:
    """The disk with that target or source path; InvalidArgument names the disks there are."""
    disk = definition.find_disk(name)
    if disk is None:
        known = ", ".join(disk.target for disk in definition.disks) or "none"
        raise InvalidArgument(f"domain {definition.name} has no disk {name!r}; its disks: {known}")
    return disk


def block_stats(total: Counted) -> BlockStats:
    return BlockStats(
        total.read_requests, total.read_bytes, total.write_requests, total.write_bytes, errors=-1
    )


def block_stats_params(
    total: Counted, *, read_times: int = 0, write_times: int = 0, flush_times: int = 0
) -> list[TypedParameter]:
    """The same figures as typed parameters; times in nanoseconds."""
    figures = {
        "wr_bytes": total.write_bytes,
        "wr_operations": total.write_requests,
        "rd_bytes": total.read_bytes,
        "rd_operations": total.read_requests,
        "flush_operations": total.flush_requests,
        "wr_total_times": write_times,
        "rd_total_times": read_times,
        "flush_total_times": flush_times,
    }
    return [TypedParameter(field, _LLONG, value) for field, value in figures.items()]
