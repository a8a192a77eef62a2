"""The monitor's `qemu-io DISK "COMMAND"`: the guest's way to its disks, in the words of that tool.

Understands what a test of backups needs: read, write, discard, flush, length, map. Figures of speed
are always zero, so that equal scripts give equal output. A command that is refused returns its
complaint as text, as the tool does. Knows contents and counters, but no state of a domain.
"""

import getopt
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from virtbackupd.drivers.definitions.disk import DiskDefinition
from virtbackupd.drivers.events import DomainBlockThreshold
from virtbackupd.drivers.memory.clusters import Extent, OutOfRange
from virtbackupd.drivers.memory.guest import DiskCounters, Guest
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.sizes import format_size, parse_size

DEFAULT_PATTERN: Final = 0xCD
MAX_REQUEST: Final = 2**31 - 512
"""The tool's own bound for one request, in bytes."""
MAX_DUMP: Final = 64 * 1024
"""How many bytes `read -v` prints at most; the rest would not fit an answer."""
_STEP: Final = 4 * 1024 * 1024
_ROW: Final = 16


class Complaint(Exception):
    """What is wrong with a command, in one line."""


class Request(NamedTuple):
    """A command line taken apart."""

    command: str
    flags: dict[str, str]
    offset: int
    length: int

    @property
    def pattern(self) -> int | None:
        """The byte of `-P`."""
        text = self.flags.get("-P")
        return None if text is None else _pattern_byte(text)


class Drive(msgspec.Struct, frozen=True):
    """A disk of a running guest with its medium."""

    domain: Guest
    disk: DiskDefinition
    image: Image

    @property
    def counters(self) -> DiskCounters:
        return self.domain.counters(self.disk.target)

    def note_write(self, request: Request) -> None:
        """Count a write and publish the threshold it passed, once."""
        counters = self.counters
        counters.count_write(request.length)
        threshold, end = counters.threshold, request.offset + request.length
        if threshold and end > threshold:
            counters.threshold = 0
            target, path = self.disk.target, self.disk.source
            self.domain.events.publish(
                DomainBlockThreshold(self.domain.ref, target, path, threshold, end - threshold)
            )


class _Command(NamedTuple):
    """How a command is called: its options as `getopt` has them, and its operands."""

    handler: Callable[[Drive, Request], str]
    options: str
    operands: str
    about: str

    def usage(self, name: str) -> str:
        return " ".join(filter(None, (name, self.operands, "--", self.about)))


def run(domain: Guest, disk: DiskDefinition, line: str) -> str:
    """Execute one command line on a disk; every line of the answer ends with a line feed."""
    try:
        return _run(domain, disk, line.split())
    except Complaint as complaint:
        return f"{complaint}\n"


def _run(domain: Guest, disk: DiskDefinition, words: list[str]) -> str:
    if not words:
        return ""
    name = _ALIASES.get(words[0], words[0])
    if name == "help":
        return "".join(f"{command.usage(known)}\n" for known, command in _COMMANDS.items())
    command = _COMMANDS.get(name)
    if command is None:
        raise Complaint(f'command "{name}" not found')
    request = _parse(name, command, words[1:])
    image = domain.disk_image(disk.target)
    if image is None:
        raise Complaint(f"{name} failed: No medium found")
    try:
        return command.handler(Drive(domain, disk, image), request)
    except OutOfRange:
        raise Complaint(f"{name} failed: Input/output error") from None


def _parse(name: str, command: _Command, words: list[str]) -> Request:
    wanted = len(command.operands.split())
    if len(words) < wanted:
        raise Complaint(
            f"bad argument count {len(words)} to {name}, expected at least {wanted} arguments"
        )
    try:
        options, operands = getopt.gnu_getopt(words, command.options)
    except getopt.GetoptError as error:
        raise Complaint(f"{name}: {error.msg}\n{command.usage(name)}") from None
    if len(operands) != wanted:
        raise Complaint(command.usage(name))
    offset, length = [_size(text) for text in operands] or (0, 0)
    if length > MAX_REQUEST:
        raise Complaint(f"length cannot exceed {MAX_REQUEST}, given {operands[1]}")
    return Request(name, dict(options), offset, length)


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError:
        raise Complaint(
            f"Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- {text}"
        ) from None


def _pattern_byte(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value <= 255:
        raise Complaint(f"{text} is not a valid pattern byte")
    return value


def _write(drive: Drive, request: Request) -> str:
    flags, pattern = request.flags, request.pattern
    if "-z" in flags and pattern is not None:
        raise Complaint("Only one of -z, -P, and -s can be specified at the same time")
    for flag in ("-u", "-n"):
        if flag in flags and "-z" not in flags:
            raise Complaint(f"{flag} requires -z to be specified")
    _require_writable(drive, request)
    if "-z" in flags:
        drive.image.write_zeroes(request.offset, request.length)
    else:
        value = DEFAULT_PATTERN if pattern is None else pattern
        drive.image.fill(request.offset, request.length, value)
    drive.note_write(request)
    return _report("wrote", request)


def _discard(drive: Drive, request: Request) -> str:
    _require_writable(drive, request)
    drive.image.discard(request.offset, request.length)
    return _report("discard", request)


def _read(drive: Drive, request: Request) -> str:
    drive.image.check_range(request.offset, request.length)
    answer = _verify(drive, request)
    if "-v" in request.flags:
        answer += "".join(_dump(drive, request))
    drive.counters.count_read(request.length)
    return answer + _report("read", request)


def _flush(drive: Drive, request: Request) -> str:
    del request
    drive.counters.flush_requests += 1
    return ""


def _length(drive: Drive, request: Request) -> str:
    del request
    return f"{format_size(drive.image.capacity)}\n"


def _map(drive: Drive, request: Request) -> str:
    del request
    extents = drive.image.extents(0, drive.image.capacity)
    return "".join(_map_line(extent) for extent in extents)


def _map_line(extent: Extent) -> str:
    state = "    allocated" if extent.allocated else "not allocated"
    size, offset = format_size(extent.length), format_size(extent.offset)
    return f"{size} (0x{extent.length:x}) bytes {state} at offset {offset} (0x{extent.offset:x})\n"


def _require_writable(drive: Drive, request: Request) -> None:
    if drive.disk.read_only:
        raise Complaint(f"{request.command} failed: Operation not permitted")


def _verify(drive: Drive, request: Request) -> str:
    """The complaint about contents that differ from `-P`, over the part that `-s` and `-l` name."""
    pattern = request.pattern
    skip = _size(request.flags.get("-s", "0"))
    length = _size(request.flags.get("-l", str(max(request.length - skip, 0))))
    if pattern is None:
        if {"-s", "-l"} & request.flags.keys():
            raise Complaint("-s and -l need a pattern given with -P")
        return ""
    if skip + length > request.length:
        raise Complaint("pattern verification range exceeds end of read data")
    if _holds(drive.image, request.offset + skip, length, pattern):
        return ""
    return f"Pattern verification failed at offset {request.offset + skip}, {length} bytes\n"


def _holds(image: Image, offset: int, length: int, pattern: int) -> bool:
    expected = bytes([pattern]) * min(length, _STEP)
    for start in range(offset, offset + length, _STEP):
        size = min(_STEP, offset + length - start)
        if image.read(start, size) != expected[:size]:
            return False
    return True


def _dump(drive: Drive, request: Request) -> Iterator[str]:
    data = drive.image.read(request.offset, min(request.length, MAX_DUMP))
    for start in range(0, len(data), _ROW):
        row = data[start : start + _ROW]
        digits = "".join(f"{byte:02x} " for byte in row).ljust(3 * _ROW)
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{request.offset + start:08x}:  {digits} {text}\n"
    if request.length > len(data):
        yield f"({request.length - len(data)} more bytes not shown)\n"


def _report(verb: str, request: Request) -> str:
    if "-q" in request.flags:
        return ""
    size = request.length
    if "-C" in request.flags:
        return f"{size},1,0:00:00.00,0.000,0.000\n"
    return (
        f"{verb} {size}/{size} bytes at offset {request.offset}\n"
        f"{format_size(size)}, 1 ops; 00.00 sec (0 bytes/sec and 0.0000 ops/sec)\n"
    )


_COMMANDS: Final = {
    "read": _Command(_read, "CqvaP:s:l:", "off len", "read, and compare with -P BYTE if given"),
    "write": _Command(
        _write, "CqzunfpP:", "off len", "write -P BYTE (default 0xcd), or zeroes: -z"
    ),
    "discard": _Command(_discard, "Cq", "off len", "free a range"),
    "flush": _Command(_flush, "", "", "write back what is cached"),
    "length": _Command(_length, "", "", "print the size of the disk"),
    "map": _Command(_map, "", "", "print which ranges hold data"),
}
_ALIASES: Final = {"r": "read", "w": "write", "d": "discard", "f": "flush", "l": "length"}
