"""What a guest says about itself, as typed parameters with libvirt's field names.

The guest is made up, always the same: a small Linux with one interface per network card and one
file system per disk. Nobody is logged in. Changes nothing and refuses nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

from virtbackupd.drivers.definitions.disk import DiskDefinition
from virtbackupd.drivers.enums import TypedParameterType
from virtbackupd.drivers.events import TypedParameter
from virtbackupd.drivers.memory.guest import Guest

Mounts: TypeAlias = Sequence[tuple[str, DiskDefinition]]
"""Mount points with the disks below them."""

FS_TYPE: Final = "ext4"
TIME_ZONE: Final = "UTC"
OS: Final = {
    "id": "virtbackupd",
    "name": "virtbackupd guest",
    "pretty-name": "virtbackupd guest 1",
    "version": "1",
    "version-id": "1",
    "machine": "x86_64",
    "kernel-release": "6.1.0",
    "kernel-version": "#1 SMP",
}


def collect(domain: Guest, mounts: Mounts, types: int) -> list[TypedParameter]:
    """The groups named by the bits of `types`, all when 0."""
    return [
        param
        for bit, group in _GROUPS.items()
        if not types or types & bit
        for param in group(domain, mounts)
    ]


def _text(field: str, value: str) -> TypedParameter:
    return TypedParameter(field, TypedParameterType.STRING, value)


def _count(field: str, value: int) -> TypedParameter:
    return TypedParameter(field, TypedParameterType.UINT, value)


def _bytes(field: str, value: int) -> TypedParameter:
    return TypedParameter(field, TypedParameterType.ULLONG, value)


def _users(domain: Guest, mounts: Mounts) -> Iterator[TypedParameter]:
    del domain, mounts
    yield _count("user.count", 0)


def _os(domain: Guest, mounts: Mounts) -> Iterator[TypedParameter]:
    del domain, mounts
    for name, value in OS.items():
        yield _text(f"os.{name}", value)


def _time_zone(domain: Guest, mounts: Mounts) -> Iterator[TypedParameter]:
    del domain, mounts
    yield _text("timezone.name", TIME_ZONE)
    yield TypedParameter("timezone.offset", TypedParameterType.INT, 0)


def _host_name(domain: Guest, mounts: Mounts) -> Iterator[TypedParameter]:
    del mounts
    yield _text("hostname", domain.ref.name)


def _file_systems(domain: Guest, mounts: Mounts) -> Iterator[TypedParameter]:
    yield _count("fs.count", len(mounts))
    for index, (mountpoint, disk) in enumerate(mounts):
        prefix = f"fs.{index}."
        yield _text(prefix + "name", disk.target)
        yield _text(prefix + "mountpoint", mountpoint)
        yield _text(prefix + "fstype", FS_TYPE)
        image = domain.disk_image(disk.target)
        if image is not None:
            yield _bytes(prefix + "total-bytes", image.capacity)
            yield _bytes(prefix + "used-bytes", image.allocation)
        yield _count(prefix + "disk.count", 1)
        yield _text(prefix + "disk.0.alias", disk.target)
        yield _text(prefix + "disk.0.device", f"/dev/{disk.target}")


def _disks(domain: Guest, mounts: Mounts) -> Iterator[TypedParameter]:
    del mounts
    disks = [disk for disk in domain.definition.disks if not disk.empty]
    yield _count("disk.count", len(disks))
    for index, disk in enumerate(disks):
        prefix = f"disk.{index}."
        yield _text(prefix + "name", f"/dev/{disk.target}")
        yield TypedParameter(prefix + "partition", TypedParameterType.BOOLEAN, 0)
        yield _text(prefix + "alias", disk.target)


def _interfaces(domain: Guest, mounts: Mounts) -> Iterator[TypedParameter]:
    del mounts
    cards = domain.definition.interfaces
    yield _count("if.count", len(cards))
    for index, card in enumerate(cards):
        yield _text(f"if.{index}.name", f"eth{index}")
        if card.mac is not None:
            yield _text(f"if.{index}.hwaddr", card.mac)
        yield _count(f"if.{index}.addr.count", 0)


# virDomainGuestInfoTypes
_GROUPS: Final[dict[int, Callable[[Guest, Mounts], Iterator[TypedParameter]]]] = {
    1: _users,
    2: _os,
    4: _time_zone,
    8: _host_name,
    16: _file_systems,
    32: _disks,
    64: _interfaces,
}
ALL: Final = sum(_GROUPS)
