"""What the guest agent's answers mean in libvirt's names: typed parameters from JSON.

A guest's answer is not trusted to have the right shape; what is missing is left out.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from virtbackupd.drivers.enums import TypedParameterType
from virtbackupd.drivers.events import TypedParameter

_OS_FIELDS: Final = {
    "id": "id",
    "name": "name",
    "pretty-name": "pretty-name",
    "version": "version",
    "version-id": "version-id",
    "machine": "machine",
    "variant": "variant",
    "variant-id": "variant-id",
    "kernel-release": "kernel-release",
    "kernel-version": "kernel-version",
}


class Group(NamedTuple):
    """One bit of `virDomainGuestInfoTypes` and where its answer comes from."""

    bit: int
    command: str
    read: Callable[[Any], list[TypedParameter]]


def _text(field: str, value: object) -> TypedParameter:
    return TypedParameter(field, TypedParameterType.STRING, str(value))


def _count(field: str, value: int) -> TypedParameter:
    return TypedParameter(field, TypedParameterType.UINT, value)


def _dicts(answer: object) -> list[dict[str, Any]]:
    found = answer if isinstance(answer, list) else []
    return [item for item in found if isinstance(item, dict)]


def _users(answer: object) -> list[TypedParameter]:
    users = _dicts(answer)
    params = [_count("user.count", len(users))]
    for index, user in enumerate(users):
        params.append(_text(f"user.{index}.name", user.get("user", "")))
        if isinstance(login := user.get("login-time"), int | float):
            when = TypedParameter(
                f"user.{index}.login-time", TypedParameterType.ULLONG, int(login * 1000)
            )
            params.append(when)
    return params


def _os(answer: object) -> list[TypedParameter]:
    known = answer if isinstance(answer, dict) else {}
    return [_text(f"os.{ours}", known[key]) for key, ours in _OS_FIELDS.items() if key in known]


def _time_zone(answer: object) -> list[TypedParameter]:
    known = answer if isinstance(answer, dict) else {}
    params = []
    if "zone" in known:
        params.append(_text("timezone.name", known["zone"]))
    if isinstance(offset := known.get("offset"), int):
        params.append(TypedParameter("timezone.offset", TypedParameterType.INT, offset))
    return params


def _host_name(answer: object) -> list[TypedParameter]:
    known = answer if isinstance(answer, dict) else {}
    return [_text("hostname", known["host-name"])] if "host-name" in known else []


def _file_systems(answer: object) -> list[TypedParameter]:
    found = _dicts(answer)
    params = [_count("fs.count", len(found))]
    for index, system in enumerate(found):
        params += _file_system(f"fs.{index}", system)
    return params


def _file_system(prefix: str, system: dict[str, Any]) -> Iterator[TypedParameter]:
    for key, field in (("mountpoint", "mountpoint"), ("name", "name"), ("type", "fstype")):
        if key in system:
            yield _text(f"{prefix}.{field}", system[key])
    for key in ("total-bytes", "used-bytes"):
        if isinstance(value := system.get(key), int):
            yield TypedParameter(f"{prefix}.{key}", TypedParameterType.ULLONG, value)
    disks = _dicts(system.get("disk"))
    yield _count(f"{prefix}.disk.count", len(disks))
    for index, disk in enumerate(disks):
        for key, field in (("serial", "serial"), ("dev", "device")):
            if key in disk:
                yield _text(f"{prefix}.disk.{index}.{field}", disk[key])


GROUPS: Final = (
    Group(1, "guest-get-users", _users),
    Group(2, "guest-get-osinfo", _os),
    Group(4, "guest-get-timezone", _time_zone),
    Group(8, "guest-get-host-name", _host_name),
    Group(16, "guest-get-fsinfo", _file_systems),
)
ALL: Final = sum(group.bit for group in GROUPS)
