"""QEMU's machine protocol, as far as a test of backups talks it: one JSON object in, one out.

A command that fails is answered with QEMU's error object, not with an exception: the call that
carried it has worked. Each command is a row of a table with its arguments and their JSON types.
Commands of the control channel are known by their prefix and are others' business; they alone may
have to be waited for.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias
from uuid import UUID

from virtbackupd.drivers.enums import DomainState
from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.interface import Answer
from virtbackupd.drivers.json_commands import read_command
from virtbackupd.drivers.memory import block_nodes, control_commands, qmp_bitmaps
from virtbackupd.drivers.memory.block_nodes import Json
from virtbackupd.drivers.memory.control import UnknownCommand
from virtbackupd.drivers.memory.guest import Guest
from virtbackupd.drivers.memory.qmp_command import Command, QmpError, find_drive

PACKAGE: Final = "virtbackupd in-memory hypervisor"

HumanMonitor: TypeAlias = Callable[[Guest, str], Answer[str]]


def run(domain: Guest, text: str, human: HumanMonitor) -> Answer[str]:
    """Answer one command; `human` executes what `human-monitor-command` carries."""
    request = read_command(domain.ref.name, text, "monitor")
    try:
        result = _execute(domain, request, human)
    except (QmpError, DriverError) as error:
        return _reply(request, _failure(error))
    if isinstance(result, Awaitable):
        return _later(request, result)
    return _reply(request, {"return": result})


def is_control(text: str) -> bool:
    """Whether a command asks for something of the control channel; False when it is no JSON."""
    if control_commands.MONITOR_PREFIX not in text:
        return False
    try:
        request = json.loads(text)
    except (ValueError, RecursionError):
        return False
    name = request.get("execute") if isinstance(request, dict) else None
    return isinstance(name, str) and name.startswith(control_commands.MONITOR_PREFIX)


def execute(domain: Guest, name: str) -> object:
    """Execute a command without arguments, on behalf of its twin for humans."""
    return _COMMANDS[name].handler(domain, {})


def status_word(domain: Guest) -> str:
    """QEMU's name for the run state."""
    return _STATUS.get(DomainState(domain.state), "running")


async def _later(request: object, waiting: Awaitable[object]) -> str:
    try:
        return _reply(request, {"return": await waiting})
    except DriverError as error:
        return _reply(request, _failure(error))


def _failure(error: QmpError | DriverError) -> Json:
    if isinstance(error, QmpError):
        return {"error": {"class": error.kind, "desc": str(error)}}
    kind = _NOT_FOUND if isinstance(error, UnknownCommand) else "GenericError"
    return {"error": {"class": kind, "desc": error.message}}


def _reply(request: object, answer: Json) -> str:
    if isinstance(request, dict) and "id" in request:
        answer["id"] = request["id"]
    return json.dumps(answer)


def _execute(domain: Guest, request: object, human: HumanMonitor) -> object:
    name, arguments = _read_request(request)
    command = _COMMANDS.get(name)
    if name == _HUMAN:
        command = Command(lambda guest, given: human(guest, given["command-line"]), _LINE, {})
    if command is None and name.startswith(control_commands.MONITOR_PREFIX):
        return domain.control(name.removeprefix(control_commands.MONITOR_PREFIX), arguments)
    if command is None:
        raise QmpError(f"The command {name} has not been found", _NOT_FOUND)
    _check_arguments(command, arguments)
    return command.handler(domain, arguments)


def _read_request(request: object) -> tuple[str, Json]:
    if not isinstance(request, dict):
        raise QmpError("QMP input must be a JSON object")
    for member in request.keys() - {"execute", "arguments", "id"}:
        raise QmpError(f"QMP input member '{member}' is unexpected")
    name, arguments = request.get("execute"), request.get("arguments", {})
    if not isinstance(name, str):
        raise QmpError("QMP input member 'execute' must be a string")
    if not isinstance(arguments, dict):
        raise QmpError("QMP input member 'arguments' must be an object")
    return name, arguments


def _check_arguments(command: Command, arguments: Json) -> None:
    known = {**command.required, **command.optional}
    for name in command.required:
        if name not in arguments:
            raise QmpError(f"Parameter '{name}' is missing")
    for name, value in arguments.items():
        if name not in known:
            raise QmpError(f"Parameter '{name}' is unexpected")
        if type(value) is not known[name]:
            expected = _JSON_NAMES[known[name]]
            raise QmpError(f"Invalid parameter type for '{name}', expected: {expected}")


def _query_commands(domain: Guest, arguments: Json) -> list[Json]:
    del domain, arguments
    ours = [control_commands.MONITOR_PREFIX + name for name in control_commands.commands()]
    return [{"name": name} for name in sorted([*_COMMANDS, _HUMAN, *ours])]


def _query_version(domain: Guest, arguments: Json) -> Json:
    del arguments
    return {
        "qemu": domain.profile.qemu._asdict(),
        "package": PACKAGE,
    }


def _query_status(domain: Guest, arguments: Json) -> Json:
    del arguments
    return {"status": status_word(domain), "running": domain.state == DomainState.RUNNING}


def _query_name(domain: Guest, arguments: Json) -> Json:
    del arguments
    return {"name": domain.ref.name}


def _query_uuid(domain: Guest, arguments: Json) -> Json:
    del arguments
    return {"UUID": str(UUID(bytes=domain.ref.uuid))}


def _query_nodes(domain: Guest, arguments: Json) -> list[Json]:
    del arguments
    return [block_nodes.describe_node(domain, *found) for found in block_nodes.inserted(domain)]


def _query_block(domain: Guest, arguments: Json) -> list[Json]:
    del arguments
    return [_describe_drive(domain, index) for index in range(len(domain.definition.disks))]


def _describe_drive(domain: Guest, index: int) -> Json:
    disk = domain.definition.disks[index]
    described: Json = {
        "device": "",
        "qdev": block_nodes.device_path(disk),
        "type": "unknown",
        "removable": disk.removable,
        "locked": False,
    }
    image = domain.disk_image(disk.target)
    if image is not None:
        node = block_nodes.node_name(index)
        described["inserted"] = block_nodes.describe_node(domain, node, disk, image)
        described["io-status"] = "ok"
    return described


def _query_figures(domain: Guest, arguments: Json) -> list[Json]:
    del arguments
    return block_nodes.describe_figures(domain)


def _query_jobs(domain: Guest, arguments: Json) -> list[Json]:
    del arguments
    return block_nodes.describe_jobs(domain)


def _stop(domain: Guest, arguments: Json) -> Json:
    del arguments
    if domain.state == DomainState.RUNNING:
        domain.suspend()
    return {}


def _cont(domain: Guest, arguments: Json) -> Json:
    del arguments
    if domain.state == DomainState.PAUSED:
        domain.resume()
    return {}


def _reset(domain: Guest, arguments: Json) -> Json:
    del arguments
    domain.reset(0)
    return {}


def _power_down(domain: Guest, arguments: Json) -> Json:
    del arguments
    domain.shutdown()
    return {}


def _quit(domain: Guest, arguments: Json) -> Json:
    del arguments
    domain.destroy()
    return {}


def _set_threshold(domain: Guest, arguments: Json) -> Json:
    disk, _ = find_drive(domain, arguments["node-name"])
    if arguments["write-threshold"] < 0:
        raise QmpError("Parameter 'write-threshold' expects a number that is not negative")
    domain.counters(disk.target).threshold = arguments["write-threshold"]
    return {}


_NOT_FOUND: Final = "CommandNotFound"
_HUMAN: Final = "human-monitor-command"
_LINE: Final = {"command-line": str}
_JSON_NAMES: Final = {str: "string", int: "integer", bool: "boolean", list: "array"}
_STATUS: Final = {
    DomainState.RUNNING: "running",
    DomainState.PAUSED: "paused",
    DomainState.SHUTDOWN: "shutdown",
    DomainState.CRASHED: "guest-panicked",
    DomainState.PMSUSPENDED: "suspended",
}
_COMMANDS: Final[dict[str, Command]] = {
    **qmp_bitmaps.COMMANDS,
    "block-set-write-threshold": Command(
        _set_threshold, {"node-name": str, "write-threshold": int}, {}
    ),
    "cont": Command(_cont, {}, {}),
    "query-block": Command(_query_block, {}, {}),
    "query-block-jobs": Command(_query_jobs, {}, {}),
    "query-blockstats": Command(_query_figures, {}, {"query-nodes": bool}),
    "query-commands": Command(_query_commands, {}, {}),
    "query-name": Command(_query_name, {}, {}),
    "query-named-block-nodes": Command(_query_nodes, {}, {"flat": bool}),
    "query-status": Command(_query_status, {}, {}),
    "query-uuid": Command(_query_uuid, {}, {}),
    "query-version": Command(_query_version, {}, {}),
    "quit": Command(_quit, {}, {}),
    "stop": Command(_stop, {}, {}),
    "system_powerdown": Command(_power_down, {}, {}),
    "system_reset": Command(_reset, {}, {}),
}
