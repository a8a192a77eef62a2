"""Where the NBD server of a pull backup listens, and what its clients are told about that.

The two differ in a container, whose own address means nothing outside: there the name that reaches
it is given with `--advertise`. Knows no disk and no bytes of NBD.
"""

import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import trio

from virtbackupd.drivers.errors import InternalError
from virtbackupd.drivers.memory.nbd import NbdAddress, TcpAddress, UnixAddress, open_listeners

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.backup import BackupServer

_EVERYWHERE: Final = ("", "0.0.0.0", "::")  # noqa: S104 - the caller's own words
"""What a document may say for every address of the machine."""


async def listen(server: "BackupServer", advertised: str) -> Sequence[trio.SocketListener]:
    """Listen where the document says, or on every address for the name that is advertised.

    InternalError names the address that cannot be used.
    """
    address = address_of(server, advertised)
    try:
        return _on_one_port(address, await open_listeners(address))
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InternalError(
            f"the NBD server cannot listen on {_spelt(address)}: {reason}"
        ) from None


def announced(
    server: "BackupServer", listeners: Sequence[trio.SocketListener], advertised: str
) -> "BackupServer":
    """The server as `virDomainBackupGetXMLDesc` shows it: an address that a client can use."""
    if server.transport == "unix":
        return server
    port: int = listeners[0].socket.getsockname()[1]
    if advertised and (server.name or "") in _EVERYWHERE:
        return replace(server, name=advertised, port=port)
    return replace(server, port=port)


def address_of(server: "BackupServer", advertised: str) -> NbdAddress:
    """Nobody can listen on the advertised name itself: it is of the world outside."""
    if server.transport == "unix":
        return UnixAddress(server.socket or "")
    name = server.name or ""
    return TcpAddress("" if name == advertised else name, server.port)


def _on_one_port(
    address: NbdAddress, listeners: list[trio.SocketListener]
) -> Sequence[trio.SocketListener]:
    """Where the system picks, it picks one for each family: keep one, IPv4's if any."""
    if isinstance(address, UnixAddress) or address.port:
        return listeners
    listeners.sort(key=lambda listener: listener.socket.family != socket.AF_INET)
    for listener in listeners[1:]:
        listener.socket.close()
    return listeners[:1]


def _spelt(address: NbdAddress) -> str:
    if isinstance(address, UnixAddress):
        return address.path
    return f"{address.host}:{address.port}"
