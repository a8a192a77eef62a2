"""From a configuration file and options to settings: what holds, where from, and what is wrong.

A file is written in TOML, as libvirtd.conf nearly always is; one that is not is read as libvirt
reads it. Options win over it, and it wins over the defaults. Knows no single key.
"""

import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from virtbackupd.server.config import ConfigError, Settings
from virtbackupd.server.keys import Key, table

_TABLE = re.compile(r"\s*\[+\s*\"?(?P<key>[A-Za-z0-9_-]+)\"?\s*\]")
_ENTRY = re.compile(r"\s*\"?(?P<key>[A-Za-z0-9_-]+)\"?\s*=")

_SHOWN = 80
"""Characters of a refused value that are repeated to the user."""
OPTION = "option"
"""Where a setting comes from that is not in the file."""


class Loaded(msgspec.Struct, frozen=True):
    """Settings, where those that are no defaults come from, and what there is to say about it."""

    settings: Settings
    sources: Mapping[str, str]
    """By key: `FILE:LINE` or `OPTION`."""
    warnings: Sequence[str] = ()
    """Of keys that mean nothing here."""
    remarks: Sequence[str] = ()
    """Of keys that are taken and change nothing."""
    tables: Mapping[str, Mapping[str, object]] = msgspec.field(default_factory=dict)
    """Settings of drivers, by the driver's name; checked by the driver."""


def keys() -> tuple[Key, ...]:
    """All keys with what is known about them."""
    return table(Settings)


def load_settings(path: Path | None = None, options: Mapping[str, object] | None = None) -> Loaded:
    """What holds: options by the name of their key, over the file, over the defaults."""
    given = options or {}
    if path is None:
        return Loaded(_with_options({}, given), dict.fromkeys(given, OPTION))
    file = _File(path, _read(path))
    settings = file.settings()
    if given:
        settings = _with_options(file.values, given)
    tables = file.tables(settings.drivers.values())
    return Loaded(
        settings,
        {**file.sources(), **dict.fromkeys(given, OPTION)},
        file.warnings(tables),
        file.remarks(),
        tables,
    )


def _with_options(values: Mapping[str, object], given: Mapping[str, object]) -> Settings:
    try:
        return msgspec.convert({**values, **given}, Settings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"an option is wrong: {error}") from error


class _File:
    """The text of a file and what it says."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text
        self._known = {key.name: key for key in keys()}
        self._lines: dict[str, int] = {}
        """Where keys begin, if that is known without looking."""
        self.values = self._parse()

    def _parse(self) -> dict[str, object]:
        import tomllib  # noqa: PLC0415 - many a daemon has no file

        try:
            return tomllib.loads(self._text)
        except (ValueError, RecursionError) as error:
            # Of numbers and lists without end it says nothing else.
            complaint = f"{self._path}: {error}"
        return self._parse_as_libvirt(complaint)

    def _parse_as_libvirt(self, complaint: str) -> dict[str, object]:
        """ConfigError with the complaint, which is about TOML, when libvirt would not read it."""
        from virtbackupd.server import libvirt_syntax  # noqa: PLC0415 - rarely needed

        try:
            found = libvirt_syntax.read_settings(self._text)
        except libvirt_syntax.SyntaxFault:
            raise ConfigError(complaint) from None
        for key, _, line in found:
            if key in self._lines:
                raise ConfigError(
                    f"{self._path}:{line}: {key} is set on line {self._lines[key]} already; remove"
                    " one of them"
                )
            self._lines[key] = line
        return {setting.key: setting.value for setting in found}

    def settings(self) -> Settings:
        try:
            settings = msgspec.convert(self.values, Settings)
        except msgspec.ValidationError as error:
            raise ConfigError(self._explain(str(error))) from error
        for key in self._known.values():
            if key.check is not None and key.name in self.values:
                self._check(key, key.check, getattr(settings, key.name))
        return settings

    def _check(self, key: Key, check: Callable[[str], None], value: str) -> None:
        try:
            check(value)
        except ValueError as error:
            raise ConfigError(self._refusal(key, f" ({error})")) from error

    def sources(self) -> dict[str, str]:
        return {key: self._place(key) for key in self.values if key in self._known}

    def tables(self, drivers: Iterable[str]) -> dict[str, Mapping[str, object]]:
        return {
            name: found
            for name in drivers
            if name not in self._known and isinstance(found := self.values.get(name), dict)
        }

    def warnings(self, tables: Container[str]) -> list[str]:
        return [
            f"{self._place(key)}: unknown key {key!r} is ignored"
            for key in self.values
            if key not in self._known and key not in tables
        ]

    def remarks(self) -> list[str]:
        return [
            f"{self._place(key.name)}: {key.name} has no effect: {key.about.no_effect}"
            for key in self._known.values()
            if key.about.no_effect and key.name in self.values
        ]

    def _place(self, key: str) -> str:
        return f"{self._path}:{self._lines.get(key) or line_of(self._text, key)}"

    def _explain(self, complaint: str) -> str:
        """msgspec says `... - at `$.key``; users look for a line, a key and what is allowed."""
        _, _, where = complaint.partition(" - at ")
        name = re.split(r"[.\[]", where.strip("`").removeprefix("$."))[0]
        return self._refusal(self._known[name])

    def _refusal(self, key: Key, reason: str = "") -> str:
        name, place = key.name, self._place(key.name)
        value = "the value" if key.about.secret else repr(self.values[name])[:_SHOWN]
        return f"{place}: {name}: {value} is not allowed{reason}; give {key.allowed}"


def line_of(text: str, key: str) -> int:
    """The line on which a top-level key or table begins; 1 when it cannot be told."""
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        header = _TABLE.match(line)
        inside = inside or header is not None
        match = header or (None if inside else _ENTRY.match(line))
        if match and match["key"] == key:
            return number
    return 1


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start})") from error
