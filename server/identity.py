"""Who a client is, as far as its socket, its certificate and its login tell.

Made when a client is accepted; a login replaces it by one that says more. Decides nothing.
"""

import grp
import os
import pwd
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Protocol

_CREDENTIALS = struct.Struct("iII")
"""`struct ucred` of unix(7): process, user, group."""
_SO_PEERGROUPS = 59
"""From Linux's asm-generic/socket.h; Python has no name for it."""
_GROUPS_SIZE = 1024
"""The most that Python reads of a socket option; a quarter of it groups."""
_START_TIME = 19
"""Field 22 of proc_pid_stat(5), counted from the first one behind the name of the command."""
_REMEMBERED = 256


class Transport(Enum):
    """What a client came in by."""

    UNIX = "unix"
    TCP = "tcp"
    TLS = "tls"


@dataclass(frozen=True, slots=True)
class Identity:
    """What is not known is None, or empty."""

    transport: Transport = Transport.UNIX
    read_only: bool = False
    """Came in by the read-only socket."""
    pid: int | None = None
    start_time: int | None = None
    """When the process began, in ticks since boot: tells it from a later one of the same number."""
    uid: int | None = None
    gid: int | None = None
    gids: frozenset[int] = frozenset()
    """All groups of the process, `gid` among them."""
    address: str = ""
    """Host and port of a network client."""
    dn: str | None = None
    """The subject of the client's certificate as `tls_allowed_dn_list` has it."""
    sasl_name: str | None = None

    def certified(self, dn: str | None) -> "Identity":
        """The same peer, whose certificate is known by now."""
        return replace(self, dn=dn)

    def logged_in(self, name: str) -> "Identity":
        """The same peer, after a login by SASL."""
        return replace(self, sasl_name=name)

    @property
    def user(self) -> str | None:
        return None if self.uid is None else user_name(self.uid)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups that have one."""
        names = (group_name(gid) for gid in self.gids)
        return tuple(name for name in names if name is not None)


class _Named(Protocol):
    def __getitem__(self, index: int, /) -> object: ...


@lru_cache(_REMEMBERED)
def user_name(uid: int) -> str | None:
    """None when the user database has no such user."""
    return _name(pwd.getpwuid, uid)


@lru_cache(_REMEMBERED)
def group_name(gid: int) -> str | None:
    """None when the group database has no such group."""
    return _name(grp.getgrgid, gid)


async def forget_names(_settings: object) -> None:
    """For a reload of the configuration: the databases may have changed as well."""
    user_name.cache_clear()
    group_name.cache_clear()


def _name(look_up: Callable[[int], _Named], number: int) -> str | None:
    try:
        return str(look_up(number)[0])
    except KeyError:
        return None


def of_unix(sock: socket.socket, *, read_only: bool = False) -> Identity:
    """The process that connected, with what it had then."""
    size = _CREDENTIALS.size
    pid, uid, gid = _CREDENTIALS.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    gids = frozenset([gid, *_peer_groups(sock, uid, gid)])
    return Identity(Transport.UNIX, read_only, pid, _start_time(pid), uid, gid, gids)


def of_network(sock: socket.socket, transport: Transport = Transport.TCP) -> Identity:
    """OSError when the peer has left already."""
    host, port = sock.getpeername()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Identity(transport, address=address)


def _peer_groups(sock: socket.socket, uid: int, gid: int) -> list[int]:
    try:
        data = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_SIZE)
    except OSError:
        # More groups than there is room for, or a kernel before 4.13: ask the database.
        name = user_name(uid)
        return [] if name is None else os.getgrouplist(name, gid)
    return [number for (number,) in struct.iter_unpack("I", data)]


def _start_time(pid: int) -> int | None:
    """None when the process is not to be seen: gone, or in another PID namespace."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name, in brackets, may hold blanks and brackets.
    return int(text.rpartition(")")[2].split()[_START_TIME])
