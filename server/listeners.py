"""Sockets to accept on, Unix and TCP, and the loop that accepts.

At the limit of clients nothing is refused: accepting pauses, and who connects meanwhile waits in
the kernel's queue. Knows no frame; what becomes of a socket is the caller's business.
"""

import errno
import logging
import socket
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import trio

from virtbackupd.server.login import Scheme

log = logging.getLogger(__name__)

BACKLOG = 1000
"""`max_queued_clients` of libvirtd."""
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
"""The machine is out of something: trying again later is all that can be done."""
EXHAUSTED_PAUSE = 1.0
ABSENT = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
"""The machine has no such address: many hosts without IPv6 call `localhost` ::1 all the same."""
SOCKET_NAME = "libvirt-sock"
READ_ONLY_NAME = "libvirt-sock-ro"
ADMIN_NAME = "libvirt-admin-sock"
PRIVATE_DIRECTORY = 0o700


class ListenError(Exception):
    """An address cannot be listened on; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket and what its clients may do."""

    socket: socket.socket
    read_only: bool = False
    secure: bool = False
    """Nobody can listen in on the way: Unix sockets, later TLS."""
    path: Path | None = None
    """A file to remove in the end."""
    tls: bool = False
    scheme: Scheme = Scheme.NONE
    """How clients log in."""

    @property
    def asks(self) -> bool:
        """Whether clients have to show who they are before they are known."""
        return self.tls or self.scheme is not Scheme.NONE

    @property
    def port(self) -> int:
        """Of a TCP socket, also when the kernel picked it."""
        number: int = self.socket.getsockname()[1]
        return number

    @property
    def host(self) -> str:
        """As it stands in a URI."""
        name: str = self.socket.getsockname()[0]
        return f"[{name}]" if ":" in name else name

    def close(self) -> None:
        self.socket.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)


class Limit(Protocol):
    """How many may be in at once."""

    async def acquire(self) -> None:
        """Wait for room and take it."""

    def release(self) -> None:
        """Give it back."""


def listen_unix(directory: Path) -> list[Listener]:
    """The read-write and the read-only socket; leftovers of a dead daemon are replaced."""
    _prepare_directory(directory)
    listeners: list[Listener] = []
    try:
        for name, read_only in ((SOCKET_NAME, False), (READ_ONLY_NAME, True)):
            listeners.append(listen_path(directory / name, read_only=read_only))
    except ListenError:
        close_all(listeners)
        raise
    return listeners


def listen_tls(host: str, port: int) -> list[Listener]:
    """As `listen_tcp`, for clients who begin with TLS."""
    return [replace(each, tls=True, secure=True) for each in listen_tcp(host, port)]


def listen_tcp(host: str, port: int) -> list[Listener]:
    """One socket for each address that `host` stands for; with port 0 they share the first's.

    Addresses that this machine does not have are left out when there are others.
    """
    listeners: list[Listener] = []
    absent: OSError | None = None
    try:
        for family, *_, address in socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            place = str(address[0]), port or _port_of(listeners)
            try:
                listeners.append(_listen_address(family, place))
            except OSError as error:
                if error.errno not in ABSENT:
                    raise
                absent = error
        if absent is not None and not listeners:
            raise absent
    except OSError as error:
        close_all(listeners)
        raise ListenError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    except UnicodeError as error:
        raise ListenError(f"cannot listen on {host}:{port}: no host can be called so") from error
    return listeners


def close_all(listeners: Sequence[Listener]) -> None:
    for listener in listeners:
        listener.close()


async def accept_forever(
    listener: Listener, limit: Limit, handle: Callable[[socket.socket, Listener], None]
) -> None:
    """Hand each new socket to `handle`, which releases `limit` when the client has gone."""
    while True:
        await trio.lowlevel.wait_readable(listener.socket)
        await limit.acquire()
        try:
            accepted = _accept(listener.socket)
        except OSError as error:
            limit.release()
            await _recover(error)
        else:
            handle(accepted, listener)


def _accept(listening: socket.socket) -> socket.socket:
    accepted, _ = listening.accept()
    accepted.settimeout(0)
    if accepted.family != socket.AF_UNIX:
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return accepted


async def _recover(error: OSError) -> None:
    """A client that left before it was accepted is nothing; what we lack may come back."""
    if isinstance(error, BlockingIOError | ConnectionAbortedError):
        return
    if error.errno not in EXHAUSTED:
        raise error
    log.error("cannot accept a client: %s; trying again", error.strerror)
    await trio.sleep(EXHAUSTED_PAUSE)


def _prepare_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    except OSError as error:
        raise ListenError(
            f"cannot make the socket directory {directory}: {error.strerror}"
        ) from error


def listen_path(path: Path, *, read_only: bool = False) -> Listener:
    """A socket in the file system for this user alone; what a dead daemon left is replaced."""
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind(str(path))
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        reason = error.strerror or str(error)
        raise ListenError(f"cannot listen on {path}: {reason}") from error
    listening.settimeout(0)
    return Listener(listening, read_only=read_only, secure=True, path=path)


def _remove_stale(path: Path) -> None:
    """A socket nobody answers on was left by a daemon that died; one that answers is in use."""
    if not path.exists():
        return
    if not path.is_socket():
        raise ListenError(f"cannot listen on {path}: there is a file of that name; remove it")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)
        try:
            refused = probe.connect_ex(str(path)) == errno.ECONNREFUSED
        except OSError as error:
            raise ListenError(f"cannot listen on {path}: {error}") from error
    if not refused:
        raise ListenError(
            f"cannot listen on {path}: another daemon answers there; stop it or use --socket-dir"
        )
    path.unlink(missing_ok=True)


def _listen_address(family: int, address: tuple[str, int]) -> Listener:
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    listening.settimeout(0)
    return Listener(listening)


def _port_of(listeners: Sequence[Listener]) -> int:
    return listeners[0].port if listeners else 0
