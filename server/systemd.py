"""What systemd tells a service and wants to be told: passed sockets, readiness, the watchdog.

sd_listen_fds(3) and sd_notify(3), without a library: an environment variable each, and datagrams.
Knows no client and no driver.
"""

import logging
import os
import socket
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final, NamedTuple

import trio

log = logging.getLogger(__name__)

FIRST_SOCKET: Final = 3
"""SD_LISTEN_FDS_START."""
READ_WRITE: Final = "rw"
READ_ONLY: Final = "ro"
ADMIN: Final = "admin"
TCP: Final = "tcp"
TLS: Final = "tls"

_SUFFIXES: Final = {"-ro": READ_ONLY, "-admin": ADMIN, "-tcp": TCP, "-tls": TLS}
_SEND_DEADLINE: Final = 1.0
_BEATS: Final = 3
"""Signs of life in each interval of the watchdog."""


class Passed(NamedTuple):
    """A socket that systemd listens on for us; `kind` is one of the names above."""

    socket: socket.socket
    kind: str


def passed_sockets(environment: MutableMapping[str, str], tls_port: int) -> list[Passed]:
    """The sockets meant for this process; the variables are taken, so that no child sees them.

    A name like `virtbackupd-ro.socket` says what a socket is for, else its address does.
    """
    count = environment.pop("LISTEN_FDS", "")
    owner = environment.pop("LISTEN_PID", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if not count.isdecimal() or owner != str(os.getpid()):
        return []
    found: list[Passed] = []
    for number in range(int(count)):
        passed = socket.socket(fileno=FIRST_SOCKET + number)
        passed.set_inheritable(False)
        passed.settimeout(0)
        name = names[number] if number < len(names) else ""
        found.append(Passed(passed, _kind(passed, name, tls_port)))
    return found


def _kind(passed: socket.socket, name: str, tls_port: int) -> str:
    """By the name of the unit, else by the name of the file or the port."""
    network = passed.family != socket.AF_UNIX
    if name.endswith(".socket"):
        return _by_suffix(name.removesuffix(".socket"), TCP if network else READ_WRITE)
    if network:
        return TLS if passed.getsockname()[1] == tls_port else TCP
    path = os.fsdecode(passed.getsockname())
    return ADMIN if "admin" in Path(path).name else _by_suffix(path, READ_WRITE)


def _by_suffix(name: str, otherwise: str) -> str:
    found = (kind for suffix, kind in _SUFFIXES.items() if name.endswith(suffix))
    return next(found, otherwise)


class Notifier:
    """Tells systemd how the service is; without systemd nothing is told."""

    def __init__(self, environment: MutableMapping[str, str] | None = None) -> None:
        """The variables are taken, so that no child speaks for us."""
        given = environment if environment is not None else {}
        self._address = given.pop("NOTIFY_SOCKET", "")
        microseconds = given.pop("WATCHDOG_USEC", "")
        meant = given.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog = int(microseconds) / 1e6 if meant and microseconds.isdecimal() else 0.0
        """Seconds of silence after which systemd ends the service; 0 is never."""

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """Until the next `ready`; with the time at which it began, as `notify-reload` wants it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1\nSTATUS=Stopping")

    def status(self, text: str) -> None:
        self._send(f"STATUS={text}")

    async def beat(self) -> None:
        """Say for ever that the event loop turns, if anybody wants to know."""
        while self.watchdog:
            self._send("WATCHDOG=1")
            await trio.sleep(self.watchdog / _BEATS)

    def _send(self, text: str) -> None:
        if not self._address:
            return
        # A leading @ stands for the NUL of an abstract address.
        address = self._address.replace("@", "\0", 1) if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.settimeout(_SEND_DEADLINE)
                out.sendto(text.encode(), address)
        except OSError as error:
            log.warning("cannot notify systemd at %s: %s", self._address, error.strerror)
