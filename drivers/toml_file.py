"""TOML files of users: text to typed entries, with file, line and key in every complaint.

What the entries mean, and what is wrong with them beyond their types, is for the modules of the
single formats to say, with the complaint made here.
"""

import re
from pathlib import Path
from typing import Any, Final, Generic, NoReturn, TypeAlias, TypeVar

import msgspec

from virtbackupd.drivers.errors import DriverError

MAX_TEXT: Final = 16 * 1024 * 1024
KeyPath: TypeAlias = tuple[str | int, ...]
"""Where an entry stands: `("domains", 0, "disks", 1, "size")`."""
T = TypeVar("T")
_Part = TypeVar("_Part")

_TOML_LINE: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_CONVERT_PATH: Final = re.compile(r" - at `\$(.*)`$")
_PATH_STEP: Final = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")
_FIELD: Final = re.compile(r"Object (contains unknown|missing required) field `([^`]*)`")
_FEW_WORDS: Final = ("Object contains unknown field", "Invalid enum value")
_HEADER: Final = re.compile(r"\s*\[{1,2}\s*([^\]]+?)\s*\]{1,2}")
_KEY: Final = re.compile(r"\s*([A-Za-z0-9_.\"' -]+?)\s*=")


class TomlFile(Generic[T]):
    """The text of a file with its entries, and complaints about them.

    A complaint is one line: FILE:LINE: KEY: what is wrong.
    """

    def __init__(self, name: str, text: str, kind: type[T], error: type[DriverError]) -> None:
        self.name = name
        self._text = text
        self._error = error
        self.entries = self.convert(self._parse(), kind)

    def fail(self, where: KeyPath, what: str) -> NoReturn:
        """Raise the format's error about the entry at `where`."""
        raise self._error(f"{self.name}:{self.line(where)}: {_dotted(where)}{what}")

    def line(self, where: KeyPath) -> int:
        return find_line(self._text, where)

    def convert(self, data: object, kind: type[_Part], where: KeyPath = ()) -> _Part:
        """What was read as `kind`, or a complaint about what stands at `where`."""
        try:
            return msgspec.convert(data, kind)
        except msgspec.ValidationError as error:
            text = str(error)
            found = _CONVERT_PATH.search(text)
            inner = _path_of(found[1] if found is not None else "")
            known = _known(text, kind, inner)
            self._fail_conversion((*where, *inner), _CONVERT_PATH.sub("", text), known)

    def _parse(self) -> dict[str, Any]:
        import tomllib  # noqa: PLC0415 - many a daemon reads no file

        try:
            return tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            text = str(error)
            found = _TOML_LINE.search(text)
            last = self._text.count("\n") + 1
            line = int(found[1]) if found is not None and found[1] else last
            reason = _TOML_LINE.sub("", text)
            raise self._error(f"{self.name}:{line}: not TOML: {reason}") from None
        except RecursionError:
            raise self._error(f"{self.name}:1: not TOML: nested too deeply") from None

    def _fail_conversion(self, where: KeyPath, text: str, known: str) -> NoReturn:
        field = _FIELD.match(text)
        if field is None:
            self.fail(where, text[:1].lower() + text[1:] + known)
        if field[1].startswith("missing"):
            self.fail(where, f"the key {field[2]!r} is missing")
        self.fail((*where, field[2]), f"unknown key{known}")


def _known(text: str, kind: object, where: KeyPath) -> str:
    """What could be there instead, where that is a matter of a few words."""
    if not text.startswith(_FEW_WORDS):
        return ""
    from virtbackupd.drivers.toml_expected import expected_at  # noqa: PLC0415 - rarely used

    words = expected_at(kind, where)
    return f"; known are: {', '.join(words)}" if words else ""


def read_text(path: Path, what: str, error: type[DriverError]) -> str:
    """The text of a file that is called `what`; `error` when it cannot be had."""
    try:
        if path.stat().st_size > MAX_TEXT:
            raise error(f"{path}: larger than {MAX_TEXT} bytes, that is no {what}")
        return path.read_text(encoding="utf-8")
    except OSError as failure:
        raise error(f"{path}: cannot read the {what}: {failure.strerror}") from None
    except UnicodeDecodeError:
        raise error(f"{path}: the {what} is not UTF-8 text") from None


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
        # A dotted key can lead past the entry.
        shared = min(len(here), len(where))
        if shared > depth and where[:shared] == here[:shared]:
            best, depth = number, shared
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
