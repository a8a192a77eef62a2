"""What one client has: its rights, its open driver, its callbacks, streams and domains to destroy.

A session knows no socket. What it needs of the connection is the `Link`, so that handlers can be
driven without one.
"""

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

import trio

from virtbackupd.drivers.errors import DriverError, NoConnection
from virtbackupd.drivers.events import DomainRef
from virtbackupd.drivers.interface import Driver
from virtbackupd.server.identity import Identity
from virtbackupd.server.login import NO_LOGIN, Login, Scheme

if TYPE_CHECKING:
    from virtbackupd.server.events import CallbackTable
    from virtbackupd.server.handlers.streams import StreamTable

log = logging.getLogger(__name__)

CLEANUP_DEADLINE = 10.0
"""Seconds that the domains of a client who left may take to be destroyed."""


REFUSALS = 10
"""After so many, who has still not logged in is closed: strangers may not fill the log."""


class Stage(IntEnum):
    """How far a client has come; each procedure asks for one of these."""

    CONNECTED = 0
    AUTHENTICATED = 1
    OPEN = 2


class Link(Protocol):
    """The connection as handlers see it. Nothing here waits but `drained` and what is started."""

    @property
    def number(self) -> int:
        """Counts the clients of this daemon from 1, for people who read about them."""

    def send(self, data: bytes) -> None:
        """Put whole frames into the outbox."""

    def deliver(self, frame: bytes) -> None:
        """Like `send`, for events: those of a call that still runs wait for its reply."""

    def start(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run `task` until the client leaves."""

    def authenticated(self) -> None:
        """It is known who the client is: it may send messages of full size."""

    def close_after_reply(self) -> None:
        """Close once everything put into the outbox has left."""

    def start_keepalive(self) -> None:
        """The client understands pings: begin to send them."""

    async def drained(self) -> None:
        """Wait until the outbox is empty."""

    def cut(self, reason: str) -> None:
        """End the connection now, with whatever waits in the outbox."""

    async def gone(self) -> None:
        """Wait until the client leaves or is to be let go."""


class EventHolder(Protocol):
    """The part of a link that a running call needs."""

    def hold_events(self) -> Callable[[], None]:
        """Keep events back until the returned function is called."""


class RunningCall:
    """A call that waits in a task of its own: what it publishes must not overtake its reply."""

    __slots__ = ("_link", "_release")

    def __init__(self, link: EventHolder) -> None:
        self._link: EventHolder | None = link
        self._release: Callable[[], None] | None = None

    def published(self) -> None:
        """The driver told the bus something while it worked on this call."""
        if self._link is not None and self._release is None:
            self._release = self._link.hold_events()

    def replied(self) -> None:
        """The reply is in the outbox; tasks that the driver left behind are on their own now."""
        self._link = None
        if self._release is not None:
            self._release()


CAUSE: ContextVar[RunningCall | None] = ContextVar("CAUSE", default=None)
"""The call in whose task we are; inherited by tasks that a driver starts meanwhile."""


class Target(NamedTuple):
    """An opened URI."""

    uri: str
    scheme: str
    driver: Driver


_URI = re.compile(r"(?P<scheme>[a-z][a-z0-9.-]*)(\+[a-z0-9]+)?:(//[^/?#]*)?(?P<path>[^?#]*)")
_DEFAULT_PATHS = {"test": "/default"}


def default_uri(scheme: str) -> str:
    """What an empty name opens when the driver of `scheme` comes first."""
    return f"{scheme}://{_DEFAULT_PATHS.get(scheme, '/system')}"


class DriverTable:
    """Which driver answers which URI scheme; the first is the one of an empty name."""

    def __init__(self, drivers: Mapping[str, Driver]) -> None:
        self._drivers = dict(drivers)

    def open(self, name: str) -> Target:
        """NoConnection when no driver answers `name`; a driver may refuse the path."""
        uri = name or self._default_uri()
        match = _URI.match(uri)
        scheme = match["scheme"] if match else ""
        driver = self._drivers.get(scheme)
        if match is None or driver is None:
            raise NoConnection(f"nothing here answers {uri!r}; served are: {self._served()}")
        driver.check_path(scheme, match["path"])
        return Target(uri, scheme, driver)

    def each(self) -> list[Driver]:
        """Every driver once, that of an empty name first."""
        return list(dict.fromkeys(self._drivers.values()))

    def _default_uri(self) -> str:
        return default_uri(next(iter(self._drivers), ""))

    def _served(self) -> str:
        return ", ".join(f"{scheme}:" for scheme in self._drivers)


class Session:
    """The state of one client between its calls."""

    __slots__ = (
        "_auto_destroy",
        "_refusals",
        "callbacks",
        "close_callback",
        "driver",
        "drivers",
        "identity",
        "link",
        "login",
        "read_only",
        "scheme",
        "secure",
        "stage",
        "streams",
        "uri",
    )

    driver: Driver
    """Set from `Stage.OPEN` on."""

    def __init__(
        self,
        link: Link,
        drivers: DriverTable,
        callbacks: "CallbackTable",
        streams: "StreamTable",
        *,
        read_only: bool = False,
        secure: bool = False,
        identity: Identity | None = None,
        login: Login = NO_LOGIN,
    ) -> None:
        self.link = link
        self.drivers = drivers
        self.callbacks = callbacks
        self.streams = streams
        self.read_only = read_only
        self.secure = secure
        self.identity = identity or Identity()
        self.login = login
        known = login.scheme is Scheme.NONE
        self.stage = Stage.AUTHENTICATED if known else Stage.CONNECTED
        self.scheme = ""
        self.uri = ""
        self.close_callback = False
        self._auto_destroy: dict[bytes, int] | None = None
        self._refusals = 0

    def open(self, name: str, *, read_only: bool) -> None:
        """Bind the session to the driver that answers `name`; rights are only ever given away."""
        self.uri, self.scheme, self.driver = self.drivers.open(name)
        self.read_only = self.read_only or read_only
        self.callbacks.attach(self.driver)
        self.stage = Stage.OPEN

    def authenticated(self, identity: Identity) -> None:
        """The login is over and was right."""
        self.identity = identity
        self.login = NO_LOGIN
        self.stage = Stage.AUTHENTICATED
        self.link.authenticated()

    def turn_away(self) -> None:
        """A login has failed, or something was asked for before it."""
        self._refusals += 1
        if self.stage is Stage.CONNECTED and self._refusals >= REFUSALS:
            self.link.close_after_reply()

    def auto_destroy(self, domain: DomainRef) -> None:
        """The domain, as long as it runs this time, ends with this client."""
        if self._auto_destroy is None:
            self._auto_destroy = {}
        self._auto_destroy[domain.uuid] = domain.id

    async def close(self) -> None:
        """Undo all that lasts only as long as the client."""
        self.callbacks.close()
        self.streams.close()
        if self._auto_destroy:
            with trio.CancelScope(deadline=trio.current_time() + CLEANUP_DEADLINE, shield=True):
                for uuid, run in self._auto_destroy.items():
                    await self._destroy(uuid, run)

    async def _destroy(self, uuid: bytes, run: int) -> None:
        try:
            domain = self.driver.domain_by_uuid(uuid)
            if domain.ref.id == run:
                waiting = domain.destroy()
                if waiting is not None:
                    await waiting
        except DriverError as error:
            log.info("a domain to destroy with its client is gone already: %s", error)
