"""What all clients of one daemon share. Knows no single client."""

from dataclasses import dataclass, field

from virtbackupd.server.dispatch import Dispatcher
from virtbackupd.server.events import EventRouter
from virtbackupd.server.keepalive import KeepaliveTicker
from virtbackupd.server.poller import Poller
from virtbackupd.server.session import DriverTable


@dataclass(slots=True)
class Counters:
    """What happened to clients, for the log at the end and for tests."""

    accepted: int = 0
    dropped_slow: int = 0
    dropped_silent: int = 0
    protocol_errors: int = 0


@dataclass(frozen=True, slots=True)
class Services:
    """What all clients share."""

    dispatcher: Dispatcher
    drivers: DriverTable
    router: EventRouter
    ticker: KeepaliveTicker
    poller: Poller
    max_client_requests: int = 5
    counters: Counters = field(default_factory=Counters)
