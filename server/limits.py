"""How much clients may take, and the seats that they are let in on.

The numbers are named as in the configuration and may change while the daemon runs. Knows no client.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import trio

from virtbackupd.drivers.limits import DriverLimits, take_numbers
from virtbackupd.drivers.limits import limits as driver_limits
from virtbackupd.server.config import Settings
from virtbackupd.server.keepalive import KeepalivePolicy

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True)
class Limits:
    """Named as in the configuration; whoever works by one reads it when it matters."""

    max_clients: int = 5000
    max_client_requests: int = 5
    keepalive: KeepalivePolicy = field(default_factory=KeepalivePolicy)
    admin_max_clients: int = 5
    max_anonymous_clients: int = 0
    """Clients that have not logged in; 0 is no limit."""
    max_client_waiting_calls: int = 256
    max_client_callbacks: int = 1024
    max_client_streams: int = 64
    max_client_unread: int = 67_108_864
    client_stall_timeout: float = 30.0
    login_timeout: float = 120.0
    max_control_clients: int = 32
    max_message: int = 33_554_436
    max_queued_events: int = 65_536
    reached: Counter[str] = field(default_factory=Counter)
    """How often somebody was held back or refused, by the name of the limit."""

    def take(self, other: "Limits") -> None:
        """Let the numbers of `other` hold from now on."""
        take_numbers(self, other)


def limits_of(settings: Settings) -> Limits:
    """Those of a configuration."""
    return Limits(
        max_clients=settings.max_clients,
        max_client_requests=settings.max_client_requests,
        keepalive=KeepalivePolicy(settings.keepalive_interval, settings.keepalive_count),
        admin_max_clients=settings.admin_max_clients,
        max_anonymous_clients=settings.max_anonymous_clients,
        max_client_waiting_calls=settings.max_client_waiting_calls,
        max_client_callbacks=settings.max_client_callbacks,
        max_client_streams=settings.max_client_streams,
        max_client_unread=settings.max_client_unread,
        client_stall_timeout=settings.client_stall_timeout,
        login_timeout=settings.login_timeout,
        max_control_clients=settings.max_control_clients,
        max_message=settings.max_message,
        max_queued_events=settings.max_queued_events,
    )


def driver_limits_of(settings: Settings) -> DriverLimits:
    """Those of a configuration."""
    return DriverLimits(
        max_jobs=settings.max_jobs,
        max_nbd_clients=settings.max_nbd_clients,
        max_xml=settings.max_xml,
        max_xml_depth=settings.max_xml_depth,
    )


def take_driver_limits(settings: Settings) -> None:
    """Let those of a configuration hold from now on, in the daemon whose task this is."""
    driver_limits().take(driver_limits_of(settings))


class Seat:
    """One client's place, from before it is accepted until it has gone."""

    __slots__ = ("_admission", "_anonymous")

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self._anonymous = True

    def known(self) -> None:
        """The client has logged in."""
        if self._anonymous:
            self._anonymous = False
            self._admission.changed(anonymous=-1)

    def leave(self) -> None:
        """The client has gone."""
        self.known()
        self._admission.changed(clients=-1)


class Admission:
    """Lets clients in as long as there is room; who comes later waits in the kernel's queue."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._room: trio.Event | None = None
        self.clients = 0
        self.anonymous = 0
        self.on_change: list[Callable[[], None]] = []
        """Told when clients come and go."""

    async def acquire(self, *, login: bool = True) -> None:
        """Wait for room and take it; the seat is `seat`'s.

        Who has no `login` to make does not wait for those that have not made theirs.
        """
        await trio.lowlevel.checkpoint()
        if self._full(login=login):
            self._limits.reached[self._which()] += 1
        while self._full(login=login):
            self._room = self._room or trio.Event()
            await self._room.wait()
        self.changed(clients=1, anonymous=1)

    def door(self, *, login: bool) -> "Door":
        """The way in for the clients of one socket."""
        return Door(self, login)

    @property
    def crowded(self) -> bool:
        """Whether somebody waits for the place of a client that has not logged in yet."""
        return self._room is not None and self._too_many_anonymous()

    def release(self) -> None:
        """Give back what was acquired for nobody."""
        self.seat().leave()

    def seat(self) -> Seat:
        """For the client that was accepted with what was acquired."""
        return Seat(self)

    def reconsider(self) -> None:
        """The limits may have changed."""
        self.changed()

    def changed(self, *, clients: int = 0, anonymous: int = 0) -> None:
        """Count, and wake whoever may now come in."""
        self.clients += clients
        self.anonymous += anonymous
        if self._room is not None and not self._full(login=False):
            self._room.set()
            self._room = None
        if clients:
            for told in self.on_change:
                told()

    def _which(self) -> str:
        full = self.clients >= self._limits.max_clients
        return "max_clients" if full else "max_anonymous_clients"

    def _full(self, *, login: bool) -> bool:
        full = self.clients >= self._limits.max_clients
        return full or (login and self._too_many_anonymous())

    def _too_many_anonymous(self) -> bool:
        return 0 < self._limits.max_anonymous_clients <= self.anonymous


class Door(msgspec.Struct, frozen=True):
    """Satisfies `listeners.Limit`."""

    admission: Admission
    login: bool

    async def acquire(self) -> None:
        await self.admission.acquire(login=self.login)

    def release(self) -> None:
        self.admission.release()
