"""The settings of the daemon, their defaults, and what addresses and folders mean.

The keys of libvirtd.conf are in a module of their own. Nothing is opened here.
"""

import os
import socket
import tempfile
from pathlib import Path
from typing import Annotated

import msgspec

from virtbackupd.server.keys import (
    About,
    Allowed,
    Count,
    Flag,
    LogFormat,
    PathText,
    Positive,
    Text,
    Texts,
)
from virtbackupd.server.libvirtd_keys import LibvirtdKeys

_LAST_PORT = 65_535
_PLACES = "Places and drivers"
_LIMITS = "Limits"
_TEST = "Test harness"
_NET = "Network"
_LOG = "Logging"
_LIFE = "Life of the daemon"


class ConfigError(Exception):
    """A setting is wrong; the text says where, and what is allowed."""


class Settings(LibvirtdKeys, frozen=True, kw_only=True):
    """The keys of a configuration file; an empty path stands for the default of this user."""

    # Places and drivers
    socket_dir: Annotated[
        PathText,
        About(
            _PLACES,
            "Folder of the Unix sockets.",
            default="`virtbackupd` in `$XDG_RUNTIME_DIR`; for root `/run/virtbackupd`",
            ours=True,
            option="--socket-dir",
        ),
    ] = ""
    state_dir: Annotated[
        PathText,
        About(
            _PLACES,
            "Folder of what outlives the daemon.",
            default="`virtbackupd` in `$XDG_STATE_HOME`; for root `/var/lib/virtbackupd`",
            ours=True,
            option="--state-dir",
        ),
    ] = ""
    drivers: Annotated[
        dict[str, str],
        Allowed('a table of URI scheme and driver name, such as { qemu = "memory" }'),
        About(
            _PLACES,
            "Which driver answers which URI scheme; the first answers an empty URI. Settings of a"
            " driver are in a table of its name, such as `[qemu]`.",
            ours=True,
            option="--driver",
        ),
    ] = msgspec.field(default_factory=lambda: {"test": "memory"})
    world: Annotated[
        PathText,
        About(
            _PLACES,
            "File with what the in-memory hypervisor starts with.",
            default="one domain, `test`",
            ours=True,
            option="--world",
        ),
    ] = ""

    # Rights
    access_rules: Annotated[
        PathText,
        About(
            "Who may come in",
            "File of rules on who may do what on which domains; who is in none may do nothing.",
            default="no rules: whoever comes in may do everything",
            ours=True,
            option="--access-rules",
        ),
    ] = ""

    # Network
    listen: Annotated[
        Flag,
        About(
            _NET,
            "Whether `listen_tls` and `listen_tcp` count, as with libvirtd's option of that name.",
            ours=True,
            option="--listen",
        ),
    ] = False
    tcp: Annotated[
        Texts,
        About(
            _NET,
            "Further addresses, HOST:PORT, for clients without encryption; port 0 picks one.",
            ours=True,
            option="--tcp",
        ),
    ] = msgspec.field(default_factory=list)
    tls: Annotated[
        Texts,
        About(
            _NET,
            "Further addresses, HOST:PORT, for TLS clients; port 0 picks one.",
            ours=True,
            option="--tls",
        ),
    ] = msgspec.field(default_factory=list)

    # Who may come in
    sasl_users: Annotated[
        PathText,
        About(
            "Who may come in",
            "File of those who may log in by SASL; `virtbackupd user` keeps it.",
            default="`/etc/virtbackupd/users`; for others than root `virtbackupd/users` in"
            " `$XDG_CONFIG_HOME`",
            ours=True,
        ),
    ] = ""

    # Logging
    log_format: Annotated[
        LogFormat,
        About(_LOG, "How lines to files and standard error are written.", ours=True),
    ] = "text"

    # Limits
    max_client_waiting_calls: Annotated[
        Positive,
        About(
            _LIMITS,
            "Calls of one connection kept beyond `max_client_requests`; then it is not read.",
            ours=True,
        ),
    ] = 256
    max_client_callbacks: Annotated[
        Positive, About(_LIMITS, "Event callbacks of one connection.", ours=True)
    ] = 1024
    max_client_streams: Annotated[
        Positive, About(_LIMITS, "Open streams of one connection.", ours=True)
    ] = 64
    max_client_unread: Annotated[
        Positive,
        About(
            _LIMITS,
            "Bytes that may wait for a client that does not read; then it is dropped.",
            ours=True,
        ),
    ] = 67_108_864
    client_stall_timeout: Annotated[
        Positive,
        About(
            _LIMITS,
            "Seconds that a client with bytes waiting may take none, or that it may leave a message"
            " unfinished; then it is dropped.",
            ours=True,
        ),
    ] = 30
    max_message: Annotated[
        Annotated[
            int, msgspec.Meta(ge=65_536, le=33_554_436), Allowed("65536 to 33554436, libvirt's own")
        ],
        About(_LIMITS, "Bytes of one message of a client that has logged in.", ours=True),
    ] = 33_554_436
    max_queued_events: Annotated[
        Positive,
        About(
            _LIMITS,
            "Events between their publishing and their delivery; more are dropped and counted.",
            ours=True,
        ),
    ] = 65_536
    login_timeout: Annotated[
        Positive,
        About(
            _LIMITS,
            "Seconds from being accepted to having logged in; then a client is dropped.",
            ours=True,
        ),
    ] = 120
    max_control_clients: Annotated[
        Positive, About(_LIMITS, "Connections to the control endpoint at once.", ours=True)
    ] = 32
    max_jobs: Annotated[
        Count, About(_LIMITS, "Backups that run at once; 0 is no limit.", ours=True)
    ] = 0
    max_xml: Annotated[
        Annotated[int, msgspec.Meta(ge=1024, le=4_194_304), Allowed("1024 to 4194304")],
        About(_LIMITS, "Bytes of an XML document; libvirt's own limit is the highest.", ours=True),
    ] = 4_194_304
    max_xml_depth: Annotated[
        Annotated[int, msgspec.Meta(ge=8, le=64), Allowed("8 to 64")],
        About(_LIMITS, "Elements inside each other in an XML document.", ours=True),
    ] = 64
    max_nbd_clients: Annotated[
        Positive,
        About(_LIMITS, "Connections to one NBD server of the in-memory hypervisor.", ours=True),
    ] = 100

    # Metrics
    metrics: Annotated[
        Text,
        Allowed('"PORT", "HOST:PORT" or "unix:PATH"'),
        About(
            "Metrics",
            "Where metrics are shown to Prometheus; a port alone is one of 127.0.0.1, and an"
            " address that other machines reach is refused.",
            default="nowhere",
            ours=True,
            option="--metrics",
        ),
    ] = ""

    # Life of the daemon
    timeout: Annotated[
        Count,
        About(
            _LIFE,
            "Seconds without client and running domain after which the daemon ends; 0 is never.",
            ours=True,
            option="--timeout",
        ),
    ] = 0

    # Test harness
    env_file: Annotated[
        PathText,
        About(
            _TEST,
            "File for shell scripts that says where the daemon answers; it is there as long as the"
            " daemon is ready.",
            default="none",
            ours=True,
            option="--env-file",
        ),
    ] = ""
    advertise: Annotated[
        Text,
        About(
            _TEST,
            "Name or address by which others reach this machine. Pull backups of memory that ask"
            " for every address, or for this one, listen on all and show this one.",
            default="none",
            ours=True,
            option="--advertise",
        ),
    ] = ""
    control: Annotated[
        Text,
        Allowed('"PORT", "HOST:PORT" or "unix:PATH"'),
        About(
            _TEST,
            "Where the control endpoint listens; a port alone is one of 127.0.0.1.",
            default="nowhere",
            ours=True,
            option="--control",
        ),
    ] = ""
    control_anywhere: Annotated[
        Flag,
        About(
            _TEST,
            "Whether the control endpoint, which has no passwords, may listen where other machines"
            " reach it.",
            ours=True,
            option="--control-anywhere",
        ),
    ] = False
    clock: Annotated[
        Text,
        Allowed('"real", "stopped" or a time'),
        About(_TEST, "What time the daemon goes by.", ours=True, option="--clock"),
    ] = "real"
    profile: Annotated[
        Text,
        About(
            _TEST,
            "The release of libvirt that the in-memory hypervisor pretends to be.",
            ours=True,
            option="--profile",
        ),
    ] = "newest"
    faults: Annotated[
        PathText,
        About(
            _TEST,
            "File with rules of what is to go wrong.",
            default="none",
            ours=True,
            option="--faults",
        ),
    ] = ""
    transcript: Annotated[
        PathText,
        About(
            _TEST,
            "File that each call and event is written to.",
            default="none",
            ours=True,
            option="--transcript",
        ),
    ] = ""


def parse_address(value: str) -> tuple[str, int]:
    """HOST:PORT, an IPv6 address in brackets; no host means every address of this machine."""
    host, colon, port = value.rpartition(":")
    if not (colon and port.isdecimal() and int(port) <= _LAST_PORT):
        raise ConfigError(f"{value!r} is not HOST:PORT with a port from 0 to {_LAST_PORT}")
    if host.startswith("[") != host.endswith("]"):
        raise ConfigError(f"{value!r} has only one of the brackets around an IPv6 address")
    return host.removeprefix("[").removesuffix("]"), int(port)


def port_number(port: str) -> int:
    """A number, or the name of a service of this machine."""
    try:
        number = int(port) if port.isdecimal() else socket.getservbyname(port, "tcp")
    except OSError:
        raise ConfigError(f"there is no service {port!r} on this machine; give a number") from None
    if number > _LAST_PORT:
        raise ConfigError(f"port {port} is not from 0 to {_LAST_PORT}")
    return number


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
