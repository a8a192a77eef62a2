"""What all clients of one daemon share. Knows no single client."""

from dataclasses import dataclass, field

from virtbackupd.drivers.clock import Clock
from virtbackupd.server.call_meter import CallMeter
from virtbackupd.server.dispatch import Answering
from virtbackupd.server.events import EventRouter
from virtbackupd.server.idle import IdleWatch
from virtbackupd.server.keepalive import KeepaliveTicker
from virtbackupd.server.limits import Admission, Limits
from virtbackupd.server.logs import Logs
from virtbackupd.server.poller import Poller
from virtbackupd.server.reloading import Reloading
from virtbackupd.server.session import DriverTable
from virtbackupd.server.transcript import Transcript


@dataclass(slots=True)
class Counters:
    """What happened to clients, for the log at the end and for tests."""

    accepted: int = 0
    dropped_slow: int = 0
    dropped_silent: int = 0
    refused_tls: int = 0
    """Peers on a TLS socket that broke off, or whose certificate was not good enough."""
    dropped_anonymous: int = 0
    dropped_unfinished: int = 0
    """Peers that began a message and did not go on."""
    protocol_errors: int = 0


async def _nothing_else() -> bool:
    return False


def _never_idle() -> IdleWatch:
    return IdleWatch(Admission(Limits()), _nothing_else)


@dataclass(frozen=True, slots=True)
class Services:
    """What all clients share."""

    dispatcher: Answering
    drivers: DriverTable
    router: EventRouter
    ticker: KeepaliveTicker
    poller: Poller
    limits: Limits = field(default_factory=Limits)
    """What holds now; see `Admission.reconsider` for who changes it."""
    clock: Clock = field(default_factory=Clock)
    counters: Counters = field(default_factory=Counters)
    transcript: Transcript | None = None
    admission: Admission = field(default_factory=lambda: Admission(Limits()))
    idle: IdleWatch = field(default_factory=_never_idle)
    reloading: Reloading | None = None
    """How the configuration is read again, where there is one to read."""
    logs: Logs | None = None
    """The logging of the process, if it is the daemon's own."""
    calls: CallMeter | None = None
    """What counts calls, where somebody wants to know."""
