"""From settings to a running daemon: folders, sockets, drivers, and what is printed when ready.

Every reason not to start becomes a `StartError` with one clear line. Knows no option and no frame.
"""

import logging
import os
import resource
import socket
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote

import trio

from virtbackupd.drivers import load_driver
from virtbackupd.drivers.errors import DriverError
from virtbackupd.server.config import (
    ConfigError,
    Settings,
    default_socket_dir,
    default_state_dir,
    parse_address,
)
from virtbackupd.server.daemon import DaemonConfig, DriverChoice, Limits, run
from virtbackupd.server.keepalive import KeepalivePolicy
from virtbackupd.server.listeners import (
    PRIVATE_DIRECTORY,
    Listener,
    ListenError,
    close_all,
    listen_tcp,
    listen_unix,
)
from virtbackupd.server.session import default_uri

log = logging.getLogger(__name__)


class StartError(Exception):
    """The daemon cannot start; the text names what is in the way."""


def start(settings: Settings) -> None:
    """Returns after an orderly stop."""
    listeners: list[Listener] = []
    try:
        config = _prepare(settings, listeners)
        _allow_many_files()
        trio.run(
            run, config, partial(_announce, config), restrict_keyboard_interrupt_to_checkpoints=True
        )
    except (ListenError, ConfigError) as error:
        raise StartError(str(error)) from error
    except (DriverError, ExceptionGroup) as error:
        refusal = _lone(error)
        if not isinstance(refusal, DriverError):
            raise
        raise StartError(refusal.message) from error
    finally:
        close_all(listeners)


def _lone(error: Exception) -> Exception:
    """A driver that refuses to open may do so from within a nursery of its own."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _allow_many_files() -> None:
    """Every client is a descriptor, and the usual soft limit is far below `max_clients`."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _prepare(settings: Settings, listeners: list[Listener]) -> DaemonConfig:
    """Sockets are put into `listeners` as they are opened, for whoever has to close them."""
    drivers = _choose_drivers(settings)
    world = _readable(settings.world) if settings.world else None
    state_dir = _private_directory(Path(settings.state_dir or default_state_dir()))
    listeners += listen_unix(Path(settings.socket_dir or default_socket_dir()))
    for address in settings.tcp:
        listeners += listen_tcp(*parse_address(address))
    keepalive = KeepalivePolicy(settings.keepalive_interval, settings.keepalive_count)
    limits = Limits(settings.max_clients, settings.max_client_requests, keepalive)
    return DaemonConfig(listeners, drivers, state_dir, world, limits)


def _choose_drivers(settings: Settings) -> list[DriverChoice]:
    return [
        DriverChoice(scheme, name, load_driver(name)) for scheme, name in settings.drivers.items()
    ]


def _readable(name: str) -> Path:
    path = Path(name)
    try:
        path.open("rb").close()
    except OSError as error:
        raise StartError(f"cannot read {path}: {error.strerror}") from error
    return path


def _private_directory(path: Path) -> Path:
    try:
        path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"cannot make the state directory {path}: {error.strerror}") from error
    return path


def _announce(config: DaemonConfig) -> None:
    """For people to paste and for programs that wait for the first word."""
    uris = [uri for choice in config.drivers for uri in _uris(choice.scheme, config.listeners)]
    lines = [
        f"ready: {len(config.listeners)} sockets accept",
        *(f"  {note:<11}{uri}" for note, uri in uris),
        f"try: virsh -c '{uris[0][1]}' list --all",
    ]
    _say("\n".join(lines))


def _say(text: str) -> None:
    """A daemon serves on when nobody takes what it prints, and leaves nothing to be flushed."""
    try:
        print(text, flush=True)
    except OSError as error:
        log.warning("cannot print the URIs: %s", error.strerror)
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _uris(scheme: str, listeners: Sequence[Listener]) -> list[tuple[str, str]]:
    path = default_uri(scheme).removeprefix(f"{scheme}://")
    return [_uri(scheme, path, listener) for listener in listeners]


def _uri(scheme: str, path: str, listener: Listener) -> tuple[str, str]:
    if listener.socket.family == socket.AF_UNIX:
        note = "read-only" if listener.read_only else "read-write"
        return note, f"{scheme}+unix://{path}?socket={quote(str(listener.path))}"
    return "tcp", f"{scheme}+tcp://{listener.host}:{listener.port}{path}"
