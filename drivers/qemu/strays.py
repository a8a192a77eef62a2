"""Hanging up on the clients of QEMU's NBD server before it is told to stop.

QEMU as of Debian 12 waits for ever, and its guest with it, when a client has connected that never
finishes its handshake: a port scanner is enough. So the connections are shut down from outside,
through duplicates of QEMU's descriptors, which the kernel hands out to whoever may trace it. Where
that is not allowed, QEMU is left to itself.
"""

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.backup import BackupServer
    from virtbackupd.drivers.qemu.domain import QemuDomain

_PIDFD_GETFD: Final = 438
"""The system call's number on every architecture that QEMU is built for."""
_SNDBUFFORCE: Final = 32
"""SO_SNDBUFFORCE of socket(7), for which Python has no name."""
_MUCH: Final = 1 << 24
"""Bytes: more than four times what any socket holds."""
_PATIENCE: Final = 1.0
_PAUSE: Final = 0.002
_libc: Final = ctypes.CDLL(None, use_errno=True)


async def hang_up(
    domain: "QemuDomain", server: "BackupServer | None", listening: set[int] | None = None
) -> None:
    """Let nobody else connect, and return when QEMU has let go of all who have.

    Who calls this again for the same server gives the same set, empty at first.
    """
    run = domain.run
    if run is None or server is None:
        return
    look = partial(_shut_down, run.process.pid, server, set() if listening is None else listening)
    with trio.move_on_after(_PATIENCE):
        while await trio.to_thread.run_sync(look):  # noqa: ASYNC110 - QEMU tells nobody
            await trio.sleep(_PAUSE)


def _shut_down(pid: int, server: "BackupServer", listening: set[int]) -> bool:
    """Whether there were connections; blocks, but not for long.

    A socket that no longer listens cannot be told from a connection, so it is remembered.
    """
    connected = False
    with suppress(OSError):
        for descriptor, found in _sockets(pid):
            with closing(found), suppress(OSError):
                if _belongs(found, server) and descriptor not in listening:
                    if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        listening.add(descriptor)
                    else:
                        connected = True
                    found.shutdown(socket.SHUT_RDWR)
                    # QEMU waits for room before it notices, and on a Unix socket that is made so.
                    found.setsockopt(socket.SOL_SOCKET, _SNDBUFFORCE, _MUCH)
    return connected


def _sockets(pid: int) -> Iterator[tuple[int, socket.socket]]:
    """Duplicates of all sockets of a process; OSError when they are not for us."""
    pidfd = os.pidfd_open(pid)
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                if str(entry.readlink()).startswith("socket:"):
                    descriptor = int(entry.name)
                    yield descriptor, socket.socket(fileno=_duplicate(pidfd, descriptor))
    finally:
        os.close(pidfd)


def _duplicate(pidfd: int, descriptor: int) -> int:
    found: int = _libc.syscall(_PIDFD_GETFD, pidfd, descriptor, 0)
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return found


def _belongs(found: socket.socket, server: "BackupServer") -> bool:
    """Whether it is the server's own socket or one that it has accepted."""
    address = found.getsockname()
    if found.family == socket.AF_UNIX:
        return server.transport == "unix" and address == server.socket
    inet = found.family in (socket.AF_INET, socket.AF_INET6)
    return inet and server.transport == "tcp" and address[1] == server.port
