"""The settings of the daemon: defaults, then the configuration file, then the command line.

A configuration file is written like libvirtd.conf, which is a subset of TOML. Nothing else is
opened here.
"""

import os
import re
import tempfile
import tomllib
from pathlib import Path
from typing import Annotated

import msgspec

_ENTRY = re.compile(r"\s*(?P<table>\[)?\s*\"?(?P<key>[A-Za-z0-9_-]+)\"?\s*[=\]]")
LOG_LEVELS = ("debug", "info", "warning", "error")
"""From the most to the least talkative."""

_LAST_PORT = 65_535
_Positive = Annotated[int, msgspec.Meta(ge=1)]
_Count = Annotated[int, msgspec.Meta(ge=0)]
_Interval = Annotated[int, msgspec.Meta(ge=-1)]
_Level = Annotated[str, msgspec.Meta(pattern="^(" + "|".join(LOG_LEVELS) + ")$")]


class ConfigError(Exception):
    """A setting is wrong; the text says where, and what is allowed."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The keys of a configuration file; an empty path stands for the default of this user."""

    socket_dir: str = ""
    state_dir: str = ""
    tcp: list[str] = []
    drivers: dict[str, str] = msgspec.field(default_factory=lambda: {"test": "memory"})
    world: str = ""
    log_level: _Level = "info"
    max_clients: _Positive = 5000
    max_anonymous_clients: _Count = 20
    max_client_requests: _Positive = 5
    keepalive_interval: _Interval = 5
    keepalive_count: _Count = 5


def read_settings(path: Path) -> tuple[Settings, list[str]]:
    """The settings in a file, and a warning for each key that means nothing here."""
    text = _read(path)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from error
    warnings = [
        f"{path}:{line_of(text, key)}: unknown key {key!r} is ignored"
        for key in values
        if key not in Settings.__struct_fields__
    ]
    try:
        return msgspec.convert(values, Settings), warnings
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(path, text, str(error))) from error


def line_of(text: str, key: str) -> int:
    """The line on which a top-level key or table begins; 1 when it cannot be told."""
    for number, line in enumerate(text.splitlines(), 1):
        match = _ENTRY.match(line)
        if match and match["key"] == key:
            return number
    return 1


def parse_address(value: str) -> tuple[str, int]:
    """HOST:PORT, an IPv6 address in brackets; no host means every address of this machine."""
    host, colon, port = value.rpartition(":")
    if not (colon and port.isdecimal() and int(port) <= _LAST_PORT):
        raise ConfigError(f"{value!r} is not HOST:PORT with a port from 0 to {_LAST_PORT}")
    if host.startswith("[") != host.endswith("]"):
        raise ConfigError(f"{value!r} has only one of the brackets around an IPv6 address")
    return host.removeprefix("[").removesuffix("]"), int(port)


def default_socket_dir() -> Path:
    """Private to the user, and the same at each start."""
    if os.getuid() == 0:
        return Path("/run/virtbackupd")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "virtbackupd"
    return Path(tempfile.gettempdir()) / f"virtbackupd-{os.getuid()}"


def default_state_dir() -> Path:
    if os.getuid() == 0:
        return Path("/var/lib/virtbackupd")
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "virtbackupd"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start})") from error


def _explain(path: Path, text: str, complaint: str) -> str:
    """msgspec says `... - at `$.key``; users look for a line and a key."""
    reason, _, where = complaint.partition(" - at ")
    key = re.split(r"[.\[]", where.strip("`").removeprefix("$."))[0]
    return f"{path}:{line_of(text, key)}: {key}: {reason[:1].lower()}{reason[1:]}"
