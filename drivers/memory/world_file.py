"""World files: TOML text to typed entries, with file, line and key in every complaint.

The entries say what was written, nothing more; whether paths clash or checkpoints make sense is for
`world` to find out, with the complaint made here. The format is described in docs/world.md.
"""

import re
import tomllib
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, TypeAlias

import msgspec

from virtbackupd.drivers.errors import DriverError

MAX_TEXT: Final = 16 * 1024 * 1024
KeyPath: TypeAlias = tuple[str | int, ...]
"""Where an entry stands: `("domains", 0, "disks", 1, "size")`."""

_TOML_LINE: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_CONVERT_PATH: Final = re.compile(r" - at `\$(.*)`$")
_PATH_STEP: Final = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")
_FIELD: Final = re.compile(r"Object (contains unknown|missing required) field `([^`]*)`")
_HEADER: Final = re.compile(r"\s*\[{1,2}\s*([^\]]+?)\s*\]{1,2}")
_KEY: Final = re.compile(r"\s*([A-Za-z0-9_.\"' -]+?)\s*=")


class WorldError(DriverError):
    """A world file cannot be used; the message is one line: FILE:LINE: KEY: what is wrong."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every table of the file has in common: no unknown key is passed over."""


class RangeEntry(Entry, frozen=True):
    """A stretch of a disk that holds one byte value or a pattern."""

    offset: str | int
    length: str | int
    byte: int | None = None
    seed: int | None = None


class BackingEntry(Entry, frozen=True):
    """The image below a disk's own."""

    path: str | None = None
    size: str | int | None = None
    format: Literal["qcow2", "raw"] = "qcow2"
    seed: int | None = None
    written: list[RangeEntry] = []

    @property
    def undescribed(self) -> bool:
        """Whether nothing is said about size and contents."""
        return (self.size, self.seed, self.written) == (None, None, [])


class DiskEntry(Entry, frozen=True):
    """One disk; without path and size a CD-ROM or floppy drive is empty."""

    target: str
    path: str | None = None
    size: str | int | None = None
    format: Literal["qcow2", "raw"] = "qcow2"
    device: Literal["disk", "cdrom", "floppy"] = "disk"
    bus: str | None = None
    read_only: bool = False
    seed: int | None = None
    written: list[RangeEntry] = []
    backing: BackingEntry | None = None

    @property
    def undescribed(self) -> bool:
        """Whether nothing is said about size and contents."""
        return (self.size, self.seed, self.backing, self.written) == (None, None, None, [])


class WriteEntry(Entry, frozen=True):
    """What the guest wrote after a checkpoint."""

    disk: str
    offset: str | int
    length: str | int
    byte: int


class CheckpointEntry(Entry, frozen=True):
    """One checkpoint; the parent is the one before it unless named."""

    name: str
    parent: str | None = None
    description: str | None = None
    created: int | None = None
    disks: list[str] | None = None
    written: list[WriteEntry] = []


class DomainEntry(Entry, frozen=True):
    """One domain; `xml` is its whole definition, otherwise one is made from the other keys."""

    name: str
    uuid: str | None = None
    state: Literal["running", "paused", "shutoff"] = "running"
    autostart: bool = False
    memory: str | int | None = None
    vcpus: int | None = None
    agent: bool | None = None
    xml: str | None = None
    disks: list[DiskEntry] = []
    checkpoints: list[CheckpointEntry] = []


class BackupEntry(Entry, frozen=True):
    """How backups behave."""

    rate: str | int = 0


class WorldEntry(Entry, frozen=True):
    """The whole file."""

    domains: list[DomainEntry] = []
    backup: BackupEntry = BackupEntry()


class WorldFile:
    """The text of a world with its entries, and complaints about them."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self._text = text
        self.entries = self._convert(self._parse())

    def fail(self, where: KeyPath, what: str) -> NoReturn:
        """Raise WorldError about the entry at `where`."""
        raise WorldError(f"{self.name}:{find_line(self._text, where)}: {_dotted(where)}{what}")

    def _parse(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            text = str(error)
            found = _TOML_LINE.search(text)
            last = self._text.count("\n") + 1
            line = int(found[1]) if found is not None and found[1] else last
            reason = _TOML_LINE.sub("", text)
            raise WorldError(f"{self.name}:{line}: not TOML: {reason}") from None
        except RecursionError:
            raise WorldError(f"{self.name}:1: not TOML: nested too deeply") from None

    def _convert(self, data: dict[str, Any]) -> WorldEntry:
        try:
            return msgspec.convert(data, WorldEntry)
        except msgspec.ValidationError as error:
            text = str(error)
            found = _CONVERT_PATH.search(text)
            where = _path_of(found[1] if found is not None else "")
            self._fail_conversion(where, _CONVERT_PATH.sub("", text))

    def _fail_conversion(self, where: KeyPath, text: str) -> NoReturn:
        field = _FIELD.match(text)
        if field is None:
            self.fail(where, text[:1].lower() + text[1:])
        if field[1].startswith("missing"):
            self.fail(where, f"the key {field[2]!r} is missing")
        self.fail((*where, field[2]), "unknown key")


def read_world_file(path: Path) -> WorldFile:
    """Read and check a file; WorldError when that fails."""
    try:
        if path.stat().st_size > MAX_TEXT:
            raise WorldError(f"{path}: larger than {MAX_TEXT} bytes, that is no world file")
        return WorldFile(str(path), path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WorldError(f"{path}: cannot read the world file: {error.strerror}") from None
    except UnicodeDecodeError:
        raise WorldError(f"{path}: the world file is not UTF-8 text") from None


def find_line(text: str, where: KeyPath) -> int:
    """The line of the entry, or of the nearest table around it."""
    best, depth = 1, 0
    table: KeyPath = ()
    counts: dict[KeyPath, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.fullmatch(line.partition("#")[0].rstrip())
        if header is not None:
            table = _table_path(header[1], counts, is_array=line.lstrip().startswith("[["))
        key = None if header is not None else _KEY.match(line)
        here = (*table, *_names(key[1])) if key is not None else table
        if len(here) > depth and where[: len(here)] == here:
            best, depth = number, len(here)
    return best


def _table_path(header: str, counts: dict[KeyPath, int], *, is_array: bool) -> KeyPath:
    """The path of a table; `counts` holds the last index of each array met so far."""
    path: KeyPath = ()
    names = _names(header)
    for position, name in enumerate(names):
        path = (*path, name)
        if is_array and position == len(names) - 1:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def _names(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]


def _path_of(text: str) -> KeyPath:
    """`.domains[0].disks` as a key path."""
    return tuple(int(index) if index else name for name, index in _PATH_STEP.findall(text))


def _dotted(where: KeyPath) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where)
    return f"{text.removeprefix('.')}: " if text else ""
