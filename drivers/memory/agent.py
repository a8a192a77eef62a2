"""The guest agent: what a well-behaved Linux guest inside the domain would answer.

Its file systems are the domain's disks: the first is mounted on `/`, each other on `/mnt/TARGET`.
While they are frozen the agent refuses everything but its own state and thawing, as the real one
does. Knows no client.
"""

import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

from virtbackupd.drivers.definitions.disk import DiskDefinition
from virtbackupd.drivers.enums import DomainState
from virtbackupd.drivers.errors import (
    ArgumentUnsupported,
    InternalError,
    InvalidArgument,
    OperationInvalid,
)
from virtbackupd.drivers.events import TypedParameter
from virtbackupd.drivers.flags import check_none
from virtbackupd.drivers.json_commands import read_agent_command
from virtbackupd.drivers.memory import guest_info as details
from virtbackupd.drivers.memory.guest import Guest, require_active

Json: TypeAlias = dict[str, Any]

AGENT_VERSION: Final = "9.2.0"
MIN_TIMEOUT: Final = -2
"""VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK; nothing here ever takes time."""


class FileSystem(NamedTuple):
    """One mounted file system of the guest."""

    mountpoint: str
    disk: DiskDefinition


def fsfreeze(domain: Guest, mountpoints: list[str], flags: int) -> int:
    """Freeze the named mount points, all when none is named; returns how many were frozen."""
    check_none(flags, "virDomainFSFreeze")
    require_agent(domain)
    return _freeze(domain, mountpoints)


def fsthaw(domain: Guest, mountpoints: list[str], flags: int) -> int:
    """Thaw everything; libvirt takes no choice of mount points here."""
    check_none(flags, "virDomainFSThaw")
    if mountpoints:
        raise ArgumentUnsupported("thawing chosen mount points is not supported: name none")
    require_agent(domain)
    return _thaw(domain)


def guest_info(domain: Guest, types: int, flags: int) -> list[TypedParameter]:
    """The groups named by `virDomainGuestInfoTypes` bits, all when 0."""
    check_none(flags, "virDomainGetGuestInfo")
    if unknown := types & ~details.ALL:
        raise InvalidArgument(f"unsupported guest information types 0x{unknown:x}")
    require_agent(domain)
    require_thawed(domain, "guest-get-osinfo")
    mounts = [(system.mountpoint, system.disk) for system in file_systems(domain)]
    return details.collect(domain, mounts, types)


def get_time(domain: Guest, flags: int) -> tuple[int, int]:
    """The guest's clock, which runs with the daemon's."""
    check_none(flags, "virDomainGetTime")
    require_agent(domain)
    return divmod(_now(domain), 1_000_000_000)


def command(domain: Guest, cmd: str, timeout: int, flags: int) -> str:
    """Execute one JSON command of the agent."""
    check_none(flags, "virDomainQemuAgentCommand")
    if timeout < MIN_TIMEOUT:
        raise InvalidArgument(f"an agent timeout of {timeout} is below the minimum {MIN_TIMEOUT}")
    require_agent(domain)
    name, arguments = _read_command(domain, cmd)
    handler = _COMMANDS.get(name)
    if handler is None:
        raise _failure(name, "the guest agent does not know it")
    if name not in _WHILE_FROZEN:
        require_thawed(domain, name)
    return json.dumps({"return": handler(domain, arguments)})


def require_agent(domain: Guest) -> None:
    """Refuse unless the guest runs and has an agent's channel."""
    require_active(domain)
    if domain.state != DomainState.RUNNING:
        raise OperationInvalid(f"domain {domain.ref.name} is paused, so its agent cannot answer")
    if not domain.definition.has_guest_agent:
        raise ArgumentUnsupported(
            f"domain {domain.ref.name} has no QEMU guest agent configured: add a channel named"
            " org.qemu.guest_agent.0"
        )


def file_systems(domain: Guest) -> list[FileSystem]:
    """What is mounted, in the order of the disks."""
    disks = [disk for disk in domain.definition.disks if not disk.removable and not disk.empty]
    return [
        FileSystem("/" if index == 0 else f"/mnt/{disk.target}", disk)
        for index, disk in enumerate(disks)
    ]


def _freeze(domain: Guest, mountpoints: list[str]) -> int:
    require_thawed(domain, "guest-fsfreeze-freeze")
    mounted = [system.mountpoint for system in file_systems(domain)]
    chosen = [point for point in mounted if not mountpoints or point in mountpoints]
    domain.frozen.update(chosen)
    return len(chosen)


def _thaw(domain: Guest) -> int:
    count = len(domain.frozen)
    domain.frozen.clear()
    return count


def require_thawed(domain: Guest, name: str) -> None:
    """Refuse the agent's command `name` while anything is frozen."""
    if domain.frozen:
        raise _failure(name, "file systems are frozen, thaw them first")


def _failure(name: str, reason: str) -> InternalError:
    return InternalError(f"unable to execute QEMU agent command {name!r}: {reason}")


def _read_command(domain: Guest, text: str) -> tuple[str, Json]:
    request = read_agent_command(domain.ref.name, text)
    arguments = request.get("arguments", {})
    if not isinstance(arguments, dict):
        raise _failure(request["execute"], "its arguments are not an object")
    return request["execute"], arguments


def _ping(domain: Guest, arguments: Json) -> Json:
    del domain, arguments
    return {}


def _sync(domain: Guest, arguments: Json) -> int:
    del domain
    number = arguments.get("id")
    if type(number) is not int:
        raise _failure("guest-sync", "it needs an integer id")
    return number


def _info(domain: Guest, arguments: Json) -> Json:
    del domain, arguments
    commands = [
        {"name": name, "enabled": True, "success-response": name != "guest-shutdown"}
        for name in sorted(_COMMANDS)
    ]
    return {"version": AGENT_VERSION, "supported_commands": commands}


def _freeze_status(domain: Guest, arguments: Json) -> str:
    del arguments
    return "frozen" if domain.frozen else "thawed"


def _freeze_all(domain: Guest, arguments: Json) -> int:
    del arguments
    return _freeze(domain, [])


def _freeze_list(domain: Guest, arguments: Json) -> int:
    mountpoints = arguments.get("mountpoints", [])
    if not isinstance(mountpoints, list):
        raise _failure("guest-fsfreeze-freeze-list", "mountpoints is not an array")
    return _freeze(domain, [str(point) for point in mountpoints])


def _thaw_all(domain: Guest, arguments: Json) -> int:
    del arguments
    return _thaw(domain)


def _time(domain: Guest, arguments: Json) -> int:
    del arguments
    return _now(domain)


def _now(domain: Guest) -> int:
    """Nanoseconds since 1970, as fine as a number of seconds can say it."""
    return round(domain.clock.time() * 1_000_000) * 1_000


def _os(domain: Guest, arguments: Json) -> Json:
    del domain, arguments
    return dict(details.OS)


def _host_name(domain: Guest, arguments: Json) -> Json:
    del arguments
    return {"host-name": domain.ref.name}


def _time_zone(domain: Guest, arguments: Json) -> Json:
    del domain, arguments
    return {"zone": details.TIME_ZONE, "offset": 0}


def _mounts(domain: Guest, arguments: Json) -> list[Json]:
    del arguments
    return [
        {"name": system.disk.target, "mountpoint": system.mountpoint, "type": details.FS_TYPE}
        for system in file_systems(domain)
    ]


def _shutdown(domain: Guest, arguments: Json) -> Json:
    if arguments.get("mode", "powerdown") == "reboot":
        domain.reset(0)
    else:
        domain.shutdown()
    return {}


_WHILE_FROZEN: Final = frozenset(
    {
        "guest-fsfreeze-status",
        "guest-fsfreeze-thaw",
        "guest-info",
        "guest-ping",
        "guest-sync",
        "guest-sync-delimited",
    }
)
_COMMANDS: Final[dict[str, Callable[[Guest, Json], object]]] = {
    "guest-fsfreeze-freeze": _freeze_all,
    "guest-fsfreeze-freeze-list": _freeze_list,
    "guest-fsfreeze-status": _freeze_status,
    "guest-fsfreeze-thaw": _thaw_all,
    "guest-get-fsinfo": _mounts,
    "guest-get-host-name": _host_name,
    "guest-get-osinfo": _os,
    "guest-get-time": _time,
    "guest-get-timezone": _time_zone,
    "guest-info": _info,
    "guest-ping": _ping,
    "guest-shutdown": _shutdown,
    "guest-sync": _sync,
    "guest-sync-delimited": _sync,
}
