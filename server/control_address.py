"""Where the endpoints for this machine listen: only where no other reaches them, unless asked.

Knows no request; the endpoints themselves are loaded by whoever serves them.
"""

import socket
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from virtbackupd.server.config import ConfigError, parse_address
from virtbackupd.server.listeners import Listener, close_all, listen_path, listen_tcp

UNIX: Final = "unix:"
"""What a path has before it."""


def listen_control(address: str, *, anywhere: bool) -> list[Listener]:
    """The sockets of PORT, HOST:PORT or unix:PATH for control; none for an empty address.

    ConfigError when others could reach them and `anywhere` does not allow it; ListenError.
    """
    listeners = _listen(address)
    if not anywhere and not all(map(_is_ours_alone, listeners)):
        close_all(listeners)
        raise ConfigError(
            f"the control endpoint has no passwords, and others reach {address!r}: listen on"
            " localhost, or ask for it with --control-anywhere"
        )
    return listeners


def listen_metrics(address: str) -> list[Listener]:
    """The same for metrics, which nobody else is ever shown."""
    listeners = _listen(address)
    if not all(map(_is_ours_alone, listeners)):
        close_all(listeners)
        raise ConfigError(
            f"metrics have no passwords, and others reach {address!r}: listen on localhost, and"
            " let a proxy that asks for a password pass them on"
        )
    return listeners


def control_uris(listeners: Sequence[Listener]) -> list[str]:
    """How each socket is reached."""
    return [_uri(listener) for listener in listeners]


def _listen(address: str) -> list[Listener]:
    if not address:
        return []
    if address.startswith(UNIX):
        return [listen_path(Path(address.removeprefix(UNIX)))]
    return listen_tcp(*_host_and_port(address))


def _host_and_port(address: str) -> tuple[str, int]:
    """A port alone is one of this machine's own address; ConfigError."""
    return parse_address(f"127.0.0.1:{address}" if address.isdecimal() else address)


def _is_ours_alone(listener: Listener) -> bool:
    if listener.path is not None:
        return True
    return ip_address(listener.host.strip("[]").partition("%")[0]).is_loopback


def _uri(listener: Listener) -> str:
    if listener.socket.family == socket.AF_UNIX:
        return f"{UNIX}{listener.path}"
    return f"http://{listener.host}:{listener.port}"
