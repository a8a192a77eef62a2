"""`virDomainQemuMonitorCommand`: what a user wants to say to QEMU, in JSON or as a line for humans.

A disk may be named by its target, as everywhere else: lines that take a disk get the name by which
QEMU knows it. Everything else goes through as it is.
"""

import json
import shlex
from typing import TYPE_CHECKING, Any, Final

from virtbackupd.drivers.errors import InternalError, InvalidArgument, UnsupportedFlags
from virtbackupd.drivers.json_commands import read_command

if TYPE_CHECKING:
    from virtbackupd.drivers.qemu.domain import QemuDomain
    from virtbackupd.drivers.qemu.run import Run

HMP: Final = 1
"""VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP: the command is a line for humans."""
DEADLINE: Final = 120.0
"""Seconds; `qemu-io` may write much."""
_QEMU_IO: Final = "qemu-io"


async def command(domain: "QemuDomain", cmd: str, flags: int) -> str:
    """Answer in the form in which the command was given."""
    if unknown := flags & ~HMP:
        raise UnsupportedFlags(f"unsupported flags 0x{unknown:x} in virDomainQemuMonitorCommand")
    if "\0" in cmd:
        raise InvalidArgument(f"the monitor command for domain {domain.ref.name} holds a NUL byte")
    run = domain.require_run()
    if flags & HMP:
        return await _say(run, await _with_device(domain, cmd))
    answer = await run.monitor.execute_raw(await _translated(domain, _message(domain, cmd)))
    return json.dumps(answer)


async def _say(run: "Run", line: str) -> str:
    text = await run.monitor.execute(
        "human-monitor-command", {"command-line": line}, timeout=DEADLINE
    )
    return str(text)


def _message(domain: "QemuDomain", text: str) -> dict[str, Any]:
    message = read_command(domain.ref.name, text, "monitor")
    if not isinstance(message, dict):
        raise InternalError('a monitor command is an object like {"execute": "query-status"}')
    return message


async def _translated(domain: "QemuDomain", message: dict[str, Any]) -> dict[str, Any]:
    """A line for humans inside a JSON command is read as one."""
    arguments = message.get("arguments")
    if message.get("execute") != "human-monitor-command" or not isinstance(arguments, dict):
        return message
    line = arguments.get("command-line")
    if not isinstance(line, str):
        return message
    changed = {**arguments, "command-line": await _with_device(domain, line)}
    return {**message, "arguments": changed}


async def _with_device(domain: "QemuDomain", line: str) -> str:
    """`qemu-io TARGET "…"` becomes `qemu-io -d DEVICE "…"`, which writes as the guest does."""
    try:
        words = shlex.split(line)
    except ValueError:
        return line
    if len(words) != 3 or words[0] != _QEMU_IO or not domain.disk_nodes(words[1]):
        return line
    device = await _device_path(domain, words[1])
    return line if device is None else f'{_QEMU_IO} -d {device} "{words[2]}"'


async def _device_path(domain: "QemuDomain", target: str) -> str | None:
    """The object that has a disk open, by the node that it has open."""
    node = domain.disk_nodes(target)[0]
    disk = domain.definition.find_disk(target)
    for device in await domain.monitor.execute("query-block"):
        inserted = device.get("inserted")
        if inserted is not None and _means(inserted, node, disk.source if disk else None):
            found: str | None = device.get("qdev")
            return found
    return None


def _means(inserted: dict[str, Any], node: str, path: str | None) -> bool:
    """During a backup a filter of QEMU's, without a name of ours, stands above the node."""
    name = str(inserted.get("node-name"))
    return name == node or (name.startswith("#block") and inserted.get("file") == path)
