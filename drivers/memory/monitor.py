"""The monitor of a domain: JSON commands go to `qmp`, lines for humans are read here.

Lines follow QEMU's: a command, its arguments, quotes around those with spaces. Answers of the
monitor end their lines with CR LF; those of `qemu-io` are that tool's own. A line that makes no
sense is answered with text, as QEMU does. Knows no client.
"""

import json
import shlex
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple
from uuid import UUID

from virtbackupd.drivers.errors import DriverError, InvalidArgument, UnsupportedFlags
from virtbackupd.drivers.interface import Answer
from virtbackupd.drivers.memory import block_nodes, qemu_io, qmp
from virtbackupd.drivers.memory.guest import Guest, require_active
from virtbackupd.drivers.memory.sizes import format_size

_CONTROL: Final = "x-virtbackupd"
HMP: Final = 1
"""VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP: the command is a line for humans."""


class _Line(NamedTuple):
    """A command for humans; `most` is the number of words it takes at most."""

    handler: Callable[[Guest, list[str]], Answer[str]]
    most: int
    about: str


def run(domain: Guest, cmd: str, flags: int) -> Answer[str]:
    """Answer `virDomainQemuMonitorCommand`."""
    if unknown := flags & ~HMP:
        raise UnsupportedFlags(f"unsupported flags 0x{unknown:x} in virDomainQemuMonitorCommand")
    if "\0" in cmd:
        raise InvalidArgument(f"the monitor command for domain {domain.ref.name} holds a NUL byte")
    if not (domain.active or _is_control(cmd, flags)):
        require_active(domain)
    if flags & HMP:
        return run_line(domain, cmd)
    return qmp.run(domain, cmd, run_line)


def _is_control(cmd: str, flags: int) -> bool:
    """Those commands are ours to answer and need no QEMU."""
    if flags & HMP:
        return cmd.split(maxsplit=1)[:1] == [_CONTROL]
    return qmp.is_control(cmd)


def run_line(domain: Guest, line: str) -> Answer[str]:
    """Execute one line for humans and return what it prints."""
    try:
        words = shlex.split(line)
    except ValueError:
        return _text(f"unterminated string in: {line}")
    if not words:
        return ""
    try:
        return _dispatch(domain, words)
    except DriverError as error:
        return _text(f"Error: {error.message}")


def _dispatch(domain: Guest, words: list[str]) -> Answer[str]:
    name, rest = words[0], words[1:]
    if name == "info" and rest:
        name, rest = f"info {rest[0]}", rest[1:]
    line = _LINES.get(name)
    if line is None:
        return _text(f"unknown command: '{name}'")
    if len(rest) > line.most:
        return _text(
            f"{name}: extraneous characters at the end of line",
            'Try "help" for more information',
        )
    return line.handler(domain, rest)


def _qemu_io(domain: Guest, words: list[str]) -> str:
    words = [word for word in words if word != "-d"]
    if len(words) != 2:
        return _text('qemu-io: a disk and one quoted command expected: qemu-io vda "read 0 64k"')
    disk = block_nodes.find_disk(domain, words[0])
    if disk is None:
        return _text(f"Error: Cannot find device='' nor node-name='{words[0]}'")
    return qemu_io.run(domain, disk, words[1])


def _info_block(domain: Guest, words: list[str]) -> str:
    verbose = "-v" in words
    wanted = [word for word in words if not word.startswith("-")]
    chosen = [block_nodes.find_disk(domain, word) for word in wanted]
    if None in chosen:
        return _text(f"Device '{wanted[chosen.index(None)]}' not found")
    lines: list[str] = []
    for index, disk in enumerate(domain.definition.disks):
        if not chosen or disk in chosen:
            lines += _describe_drive(domain, index, verbose=verbose)
            lines.append("")
    return _text(*lines[:-1])


def _describe_drive(domain: Guest, index: int, *, verbose: bool) -> list[str]:
    disk = domain.definition.disks[index]
    image = domain.disk_image(disk.target)
    attached = f"    Attached to:      {block_nodes.device_path(disk)}"
    if image is None:
        return [f"{disk.target}: [not inserted]", attached]
    mode = ", read-only" if disk.read_only else ""
    lines = [
        f"{block_nodes.node_name(index)}: {image.path} ({image.format}{mode})",
        attached,
        "    Cache mode:       writeback",
    ]
    if image.backing is not None:
        lines.append(f"    Backing file:     {image.backing.path}")
    if verbose:
        lines.append(f"    Virtual size:     {format_size(image.capacity)}")
        lines.append(f"    Disk size:        {format_size(image.allocation)}")
    return lines


def _info_status(domain: Guest, words: list[str]) -> str:
    del words
    return _text(f"VM status: {qmp.status_word(domain)}")


def _info_block_jobs(domain: Guest, words: list[str]) -> str:
    del words
    jobs = block_nodes.describe_jobs(domain)
    if not jobs:
        return _text("No active jobs")
    return _text(
        *(
            f"Type {job['type']}, device {job['device']}: Completed {job['offset']} of"
            f" {job['len']} bytes, speed limit {job['speed']} bytes/s"
            for job in jobs
        )
    )


def _info_block_figures(domain: Guest, words: list[str]) -> str:
    del words
    return _text(
        *(
            f"{drive['node-name']}: " + " ".join(f"{k}={v}" for k, v in drive["stats"].items())
            for drive in block_nodes.describe_figures(domain)
        )
    )


def _info_version(domain: Guest, words: list[str]) -> str:
    del words
    return _text(f"{domain.profile.qemu} {qmp.PACKAGE}")


def _info_name(domain: Guest, words: list[str]) -> str:
    del words
    return _text(domain.ref.name)


def _info_uuid(domain: Guest, words: list[str]) -> str:
    del words
    return _text(str(UUID(bytes=domain.ref.uuid)))


def _control(domain: Guest, words: list[str]) -> Answer[str]:
    if not words:
        return _text("x-virtbackupd: a control command expected: x-virtbackupd clock, say")
    result = domain.control(words[0], dict(map(_argument, words[1:])))
    return _shown_later(result) if isinstance(result, Awaitable) else _shown(result)


def _argument(word: str) -> tuple[str, object]:
    """KEY=VALUE; what is not JSON is text, so that names need no quotes."""
    key, sign, value = word.partition("=")
    if not sign:
        raise InvalidArgument(f"{word!r} is not an argument: write KEY=VALUE")
    try:
        return key, json.loads(value)
    except (ValueError, RecursionError):
        return key, value


async def _shown_later(waiting: Awaitable[object]) -> str:
    try:
        return _shown(await waiting)
    except DriverError as error:
        return _text(f"Error: {error.message}")


def _shown(result: object) -> str:
    return _text(json.dumps(result))


def _json_twin(command: str) -> Callable[[Guest, list[str]], str]:
    """A line whose JSON command has the same name and answers nothing."""

    def handler(domain: Guest, words: list[str]) -> str:
        del words
        qmp.execute(domain, command)
        return ""

    return handler


def _help(domain: Guest, words: list[str]) -> str:
    del domain, words
    return _text(*(f"{name} -- {line.about}" for name, line in _LINES.items()))


def _text(*lines: str) -> str:
    return "".join(f"{line}\r\n" for line in lines)


_LINES: Final[dict[str, _Line]] = {
    "cont": _Line(_json_twin("cont"), 0, "resume the guest"),
    "help": _Line(_help, 1, "list the commands"),
    "info": _Line(_help, 0, "list the commands"),
    "info block": _Line(_info_block, 3, "[-n] [-v] [DISK]: the disks and their images"),
    "info block-jobs": _Line(_info_block_jobs, 0, "the block jobs that run"),
    "info blockstats": _Line(_info_block_figures, 0, "what the guest read and wrote"),
    "info name": _Line(_info_name, 0, "the name of the domain"),
    "info status": _Line(_info_status, 0, "whether the guest runs"),
    "info uuid": _Line(_info_uuid, 0, "the UUID of the domain"),
    "info version": _Line(_info_version, 0, "the version of the hypervisor"),
    "qemu-io": _Line(_qemu_io, 3, '[-d] DISK "COMMAND": read and write as the guest does'),
    "quit": _Line(_json_twin("quit"), 0, "stop the guest at once"),
    "stop": _Line(_json_twin("stop"), 0, "pause the guest"),
    "system_powerdown": _Line(_json_twin("system_powerdown"), 0, "press the power button"),
    "system_reset": _Line(_json_twin("system_reset"), 0, "press the reset button"),
    _CONTROL: _Line(_control, 50, "COMMAND [KEY=VALUE...]: arrange what is to be tested"),
}
