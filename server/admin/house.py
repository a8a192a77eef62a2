"""What can be looked at and changed through the administration socket, whoever asks.

The daemon fills this in; the calls work on it. Knows no wire and no socket.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from virtbackupd.drivers.errors import InvalidArgument
from virtbackupd.drivers.events import TypedParameter
from virtbackupd.server.errors import NoClient, NoServer


class Connected(Protocol):
    """A connection, of whichever server."""

    @property
    def number(self) -> int: ...

    @property
    def since(self) -> float:
        """Seconds since 1970."""

    @property
    def transport(self) -> int:
        """0 for Unix, 1 for TCP, 2 for TLS."""

    @property
    def anonymous(self) -> bool:
        """Whether it has still to log in."""

    def facts(self) -> Sequence[TypedParameter]:
        """What is known of who is behind it."""

    def give_up(self, reason: str) -> None:
        """Close it now."""


@dataclass(slots=True)
class ClientLimits:
    """How many clients a server takes; 0 anonymous ones means no limit of their own."""

    clients: int
    anonymous: int


@dataclass(slots=True)
class Server:
    """One of the servers of the daemon."""

    name: str
    connected: Callable[[], Iterable[Connected]]
    limits: ClientLimits
    limits_changed: Callable[[ClientLimits], None]
    update_tls: Callable[[], Awaitable[None]] | None = None
    """Read certificates again; None where there is no TLS."""

    def client(self, number: int) -> Connected:
        """NoClient when it has gone, or never was there."""
        for found in self.connected():
            if found.number == number:
                return found
        raise NoClient(f"server {self.name} has no client with id {number}")

    def set_limits(self, clients: int, anonymous: int) -> None:
        """InvalidArgument when they contradict each other."""
        if anonymous > clients:
            raise InvalidArgument(
                f"{anonymous} clients cannot be unauthenticated where {clients} are allowed in all"
            )
        self.limits.clients, self.limits.anonymous = clients, anonymous
        self.limits_changed(self.limits)


@dataclass(slots=True)
class Logging:
    """The log settings in libvirt's own syntax; setting them raises InvalidArgument."""

    filters: Callable[[], str]
    outputs: Callable[[], str]
    set_filters: Callable[[str], None]
    set_outputs: Callable[[str], None]


@dataclass(slots=True)
class House:
    """Everything there is to administer."""

    lib_version: int
    logging: Logging
    set_timeout: Callable[[int], None]
    """Seconds without clients after which the daemon ends; 0 for never."""
    servers: dict[str, Server] = field(default_factory=dict)

    def server(self, name: str) -> Server:
        """NoServer when there is none of that name."""
        found = self.servers.get(name)
        if found is None:
            known = ", ".join(self.servers)
            raise NoServer(f"there is no server named {name!r}; there are: {known}")
        return found
