"""From settings to a running daemon: folders, sockets, drivers, and what is printed when ready.

Every reason not to start becomes a `StartError` with one clear line. Knows no option and no frame.
"""

import gc
import logging
import os
import resource
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import trio

from virtbackupd.drivers import load_driver
from virtbackupd.drivers.clock import clock_from
from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.faults.engine import Faults
from virtbackupd.drivers.host_uuid import HostUuid
from virtbackupd.drivers.profiles import find_profile
from virtbackupd.protocol import schema
from virtbackupd.server import transcript_file
from virtbackupd.server.config import (
    ConfigError,
    Settings,
    default_socket_dir,
    default_state_dir,
    parse_address,
    port_number,
)
from virtbackupd.server.control_address import control_uris, listen_control, listen_metrics
from virtbackupd.server.daemon import DaemonConfig, DriverChoice, run
from virtbackupd.server.faulted import ProcedureNames
from virtbackupd.server.identity import forget_names
from virtbackupd.server.limits import driver_limits_of, limits_of
from virtbackupd.server.listeners import (
    ADMIN_NAME,
    PRIVATE_DIRECTORY,
    Listener,
    ListenError,
    close_all,
    listen_path,
    listen_tcp,
    listen_tls,
    listen_unix,
)
from virtbackupd.server.logs import Logs, check_audit
from virtbackupd.server.reloading import Hook, Reloading, tell_later
from virtbackupd.server.security import (
    open_logins,
    open_tls,
    reload_logins,
    reload_tls,
    with_schemes,
)
from virtbackupd.server.session import default_uri
from virtbackupd.server.socket_access import find_group, grant, grant_path, reload_access
from virtbackupd.server.systemd import ADMIN, READ_ONLY, TLS, Notifier, Passed, passed_sockets
from virtbackupd.server.transcript import Transcript

if TYPE_CHECKING:
    from virtbackupd.server.access.control import AccessDriver
    from virtbackupd.server.env_file import EnvFile

log = logging.getLogger(__name__)


_READ_WRITE = "read-write"


class StartError(Exception):
    """The daemon cannot start; the text names what is in the way."""


def start(
    settings: Settings,
    tables: Mapping[str, Mapping[str, object]] | None = None,
    *,
    logs: Logs | None = None,
    reloading: Reloading | None = None,
) -> None:
    """Returns after an orderly stop. `tables` are settings of drivers, by the driver's name."""
    opened: list[Listener] = []
    env_file = _env_file(settings)
    # Drivers and the interface text stay as well; the daemon turns it on again once it is ready.
    gc.disable()
    try:
        config = replace(
            _prepare(settings, opened),
            tables=tables or {},
            notifier=Notifier(os.environ),
            timeout=settings.timeout,
            logs=logs,
            reloading=reloading,
        )
        if reloading is not None and config.tls is not None:
            reloading.hooks.append(reload_tls(config.tls))
        if reloading is not None:
            reloading.hooks += [
                *_reload_access(config),
                reload_access(config.listeners, config.admin, settings),
                tell_later(settings),
            ]
        if env_file is not None:
            _prepare_env_file(env_file)
        _allow_many_files()
        trio.run(
            run,
            config,
            partial(_announce, config, env_file),
            restrict_keyboard_interrupt_to_checkpoints=True,
        )
    except (ListenError, ConfigError) as error:
        raise StartError(str(error)) from error
    except (DriverError, ExceptionGroup) as error:
        refusal = _lone(error)
        if not isinstance(refusal, DriverError):
            raise
        raise StartError(refusal.message) from error
    finally:
        gc.enable()
        close_all(opened)
        if env_file is not None:
            env_file.remove()


def examine(settings: Settings) -> None:
    """What can be told of a start without opening anything. StartError."""
    try:
        check_audit(settings)
        _choose_drivers(settings)
        clock_from(settings.clock)
        find_profile(settings.profile)
        for port in (settings.tls_port, settings.tcp_port):
            port_number(port)
        for address in (*settings.tcp, *settings.tls):
            parse_address(address)
        find_group(settings.unix_sock_group)
        _access(settings)
        _faults(settings)
        if settings.world:
            _readable(settings.world)
    except ConfigError as error:
        raise StartError(str(error)) from error
    except DriverError as error:
        raise StartError(error.message) from error


def _env_file(settings: Settings) -> "EnvFile | None":
    if not settings.env_file:
        return None
    from virtbackupd.server.env_file import EnvFile  # noqa: PLC0415 - rarely used

    return EnvFile(Path(settings.env_file))


def _prepare_env_file(env_file: "EnvFile") -> None:
    try:
        env_file.prepare()
    except OSError as error:
        raise StartError(f"cannot write {env_file.path}: {error.strerror}") from error


def _lone(error: Exception) -> Exception:
    """A driver that refuses to open may do so from within a nursery of its own."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _allow_many_files() -> None:
    """Every client is a descriptor, and the usual soft limit is far below `max_clients`."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _prepare(settings: Settings, opened: list[Listener]) -> DaemonConfig:
    """Sockets are put into `opened` as they are opened, for whoever has to close them."""
    drivers = _choose_drivers(settings)
    clock, profile = clock_from(settings.clock), find_profile(settings.profile)
    world = _readable(settings.world) if settings.world else None
    state_dir = _private_directory(Path(settings.state_dir or default_state_dir()))
    passed = passed_sockets(os.environ, port_number(settings.tls_port))
    _listen(settings, [each for each in passed if each.kind != ADMIN], opened)
    listeners = with_schemes(opened, settings)
    control = listen_control(settings.control, anywhere=bool(settings.control_anywhere))
    opened += control
    metrics = listen_metrics(settings.metrics)
    opened += metrics
    admin = _admin_socket(settings, passed)
    opened += [admin] if admin else []
    return DaemonConfig(
        listeners,
        drivers,
        state_dir,
        world,
        limits_of(settings),
        driver_limits=driver_limits_of(settings),
        host_uuid=HostUuid(settings.host_uuid, settings.host_uuid_source),
        clock=clock,
        profile=profile,
        faults=_faults(settings),
        advertise=settings.advertise,
        transcript=Transcript(clock) if settings.transcript else None,
        transcript_file=_writable(settings.transcript) if settings.transcript else None,
        control=control,
        control_anywhere=bool(settings.control_anywhere),
        metrics=metrics,
        admin=admin,
        access=_access(settings),
        authentication=open_logins(listeners, settings),
        tls=open_tls(listeners, settings),
    )


def _access(settings: Settings) -> "Sequence[AccessDriver]":
    """The code for rights is only there where rights are asked for."""
    if not settings.access_rules and "polkit" not in settings.access_drivers:
        return ()
    from virtbackupd.server.access.choosing import access_drivers  # noqa: PLC0415 - rarely used

    return access_drivers(settings)


def _reload_access(config: DaemonConfig) -> list[Hook]:
    found = [reload_logins(config.authentication), forget_names]
    if config.access:
        from virtbackupd.server.access.choosing import reload_rules  # noqa: PLC0415 - rarely used

        found.append(reload_rules(config.access))
    return found


def _admin_socket(settings: Settings, passed: Sequence[Passed]) -> Listener | None:
    """What systemd passes, or else our own; none where systemd passes others only."""
    if passed:
        return next((_adopted(each) for each in passed if each.kind == ADMIN), None)
    path = _socket_dir(settings) / ADMIN_NAME
    listener = listen_path(path)
    try:
        grant_path(path, settings.unix_sock_admin_perms)
        listener.socket.listen(settings.admin_max_queued_clients)
    except ListenError:
        listener.close()
        raise
    return listener


def _socket_dir(settings: Settings) -> Path:
    return Path(settings.socket_dir or settings.unix_sock_dir or default_socket_dir())


def _listen(settings: Settings, passed: Sequence[Passed], listeners: list[Listener]) -> None:
    """On the sockets that systemd passes, or else on those of the configuration."""
    if passed:
        listeners += [_adopted(each) for each in passed]
    else:
        listeners += listen_unix(_socket_dir(settings))
        grant(listeners, settings)
        if settings.listen and settings.listen_tcp:
            listeners += listen_tcp(settings.listen_addr, port_number(settings.tcp_port))
        if settings.listen and settings.listen_tls:
            listeners += listen_tls(settings.listen_addr, port_number(settings.tls_port))
    for address in settings.tcp:
        listeners += listen_tcp(*parse_address(address))
    for address in settings.tls:
        listeners += listen_tls(*parse_address(address))
    for listener in listeners:
        listener.socket.listen(settings.max_queued_clients)


def _adopted(passed: Passed) -> Listener:
    unix, tls = passed.socket.family == socket.AF_UNIX, passed.kind == TLS
    return Listener(passed.socket, read_only=passed.kind == READ_ONLY, secure=unix or tls, tls=tls)


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


def _faults(settings: Settings) -> Faults:
    faults = Faults()
    faults.procedures = ProcedureNames(schema.load())
    if settings.faults:
        faults.load_file(Path(settings.faults))
    return faults


def _writable(name: str) -> Path:
    path = Path(name)
    try:
        transcript_file.check(path)
    except OSError as error:
        raise StartError(f"cannot write {path}: {error.strerror}") from error
    return path


def _private_directory(path: Path) -> Path:
    try:
        path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"cannot make the state directory {path}: {error.strerror}") from error
    return path


def _announce(config: DaemonConfig, env_file: "EnvFile | None") -> None:
    """For people to paste and for programs that wait for the first word, or for the file."""
    uris = [uri for choice in config.drivers for uri in _uris(choice.scheme, config.listeners)]
    lines = [
        f"ready: {len(config.listeners)} sockets accept",
        *(f"  {note:<11}{uri}" for note, uri in uris),
        *(f"  {'control':<11}{uri}" for uri in control_uris(config.control)),
        *(f"  {'metrics':<11}{uri}" for uri in control_uris(config.metrics)),
        f"try: virsh -c '{_first_to_try(uris)}' list --all",
    ]
    if env_file is not None:
        _write_env_file(env_file, config, uris)
    _say("\n".join(lines))


def _write_env_file(
    env_file: "EnvFile", config: DaemonConfig, uris: Sequence[tuple[str, str]]
) -> None:
    from virtbackupd.server.env_file import variables  # noqa: PLC0415 - rarely used

    endpoints = {
        "VIRTBACKUPD_CONTROL_URL": config.control,
        "VIRTBACKUPD_METRICS_URL": config.metrics,
    }
    env_file.write(variables(uris, endpoints, config.advertise))


def _first_to_try(uris: Sequence[tuple[str, str]]) -> str:
    """systemd may pass the read-only socket first."""
    return next((uri for note, uri in uris if note == _READ_WRITE), uris[0][1])


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
        note = "read-only" if listener.read_only else _READ_WRITE
        place = Path(os.fsdecode(listener.socket.getsockname())).absolute()
        return note, f"{scheme}+unix://{path}?socket={quote(str(place))}"
    transport = "tls" if listener.tls else "tcp"
    return transport, f"{scheme}+{transport}://{listener.host}:{listener.port}{path}"
