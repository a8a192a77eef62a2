"""What metrics there are: each a name, a sentence about it, and the numbers it has now.

Gathering looks at what others count anyway and never waits. Cardinality is bounded: labels are
names of procedures, errors, limits, drivers and the like, never of domains or clients. Knows
neither Prometheus' format nor how it is asked for.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from functools import cache, partial
from importlib.metadata import version
from itertools import accumulate, chain, product
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

import trio

from virtbackupd.drivers.enums import JobOperation
from virtbackupd.drivers.events import CANCELED, DomainJobCompleted, Event
from virtbackupd.drivers.faults.engine import Faults
from virtbackupd.drivers.faults.error_names import CODES
from virtbackupd.drivers.interface import Driver
from virtbackupd.drivers.limits import DriverLimits
from virtbackupd.server.call_meter import BOUNDS, CallFigures, CallMeter
from virtbackupd.server.event_forms import FORMS
from virtbackupd.server.identity import Transport
from virtbackupd.server.services import Services

if TYPE_CHECKING:
    from virtbackupd.drivers.figures import DriverFigures
    from virtbackupd.server.client import Client

Kind: TypeAlias = Literal["counter", "gauge"]
Row: TypeAlias = tuple[tuple[str, ...], float]
"""The values of the labels, and the number."""


class Family(NamedTuple):
    """A metric with all its numbers. Counters are named without `_total`."""

    kind: Kind
    name: str
    about: str
    rows: Sequence[Row]
    labels: tuple[str, ...] = ()


class Histogram(NamedTuple):
    """Like a family; each row has how many were up to each bound, all, and their sum."""

    name: str
    about: str
    labels: tuple[str, ...]
    bounds: Sequence[float]
    rows: Sequence[tuple[tuple[str, ...], Sequence[int], float]]


Metric: TypeAlias = Family | Histogram

PREFIX: Final = "virtbackupd_"
OK: Final = "ok"
OTHER: Final = "other"
"""Stands for every error code without a name, which only faults can be told to use."""

_ERRORS: Final = {
    number: f"VIR_{name}" if name.startswith("WAR_") else f"VIR_ERR_{name}"
    for name, number in CODES.items()
}
_COMMANDS: Final = {0: "read", 5: "cache", 7: "block-status"}
"""NBD's numbers of the commands that read or map."""
_DROPPED: Final = {
    "slow": "dropped_slow",
    "silent": "dropped_silent",
    "anonymous": "dropped_anonymous",
    "unfinished": "dropped_unfinished",
    "protocol": "protocol_errors",
    "tls": "refused_tls",
}
"""Why a client was let go, and where that is counted."""
_SIZES: Final = {"disk_processed": "copied", "disk_temp_used": "scratch"}
"""Of a backup that has ended: by mode, as libvirt's job statistics have it."""
_RESULTS: Final = ("completed", "cancelled", "failed")
_STATES: Final = tuple(product(("push", "pull"), ("running", "cancelling", "failing")))
_PARTS: Final = tuple(product(("push", "pull"), ("total", "processed")))
_COUNTED: Final = (
    "max_clients",
    "max_anonymous_clients",
    "admin_max_clients",
    "max_client_requests",
    "max_client_waiting_calls",
    "max_client_callbacks",
    "max_client_streams",
    "max_client_unread",
    "client_stall_timeout",
    "max_message",
    "max_queued_events",
    "login_timeout",
    "max_control_clients",
    "max_jobs",
    "max_nbd_clients",
    "max_xml",
    "max_xml_depth",
)
"""Limits whose being reached is shown from the start: rates need a zero to begin with."""


def _zeros(labels: Iterable[str]) -> Counter[str]:
    return Counter(dict.fromkeys(labels, 0))


@dataclass(slots=True)
class Tally:
    """What one driver has told through its events."""

    events: Counter[str] = field(default_factory=lambda: _zeros(each.__name__ for each in FORMS))
    ended: Counter[str] = field(default_factory=lambda: _zeros(_RESULTS))
    sizes: Counter[str] = field(default_factory=lambda: _zeros(_SIZES.values()))

    def note(self, event: Event) -> None:
        self.events[type(event).__name__] += 1
        if isinstance(event, DomainJobCompleted):
            self._ended({each.field: each.value for each in event.params})

    def _ended(self, found: Mapping[str, object]) -> None:
        if found.get("operation") != JobOperation.BACKUP:
            return
        self.ended[_result(found)] += 1
        for name, kind in _SIZES.items():
            size = found.get(name)
            if isinstance(size, int):
                self.sizes[kind] += size


@contextmanager
def tallied(drivers: Mapping[str, Driver]) -> Iterator[Mapping[str, Tally]]:
    """What each driver tells as long as the block lasts, by the driver's name."""
    tallies = {name: Tally() for name in drivers}
    with ExitStack() as stack:
        for name, driver in drivers.items():
            stack.enter_context(driver.events.subscribed(tallies[name].note))
        yield tallies


def _result(found: Mapping[str, object]) -> str:
    if found.get("success"):
        return "completed"
    return "cancelled" if found.get("errmsg") in {None, CANCELED} else "failed"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the numbers of one daemon are found."""

    services: Services
    calls: CallMeter
    clients: Callable[[], Sequence["Client"]]
    drivers: Mapping[str, Driver]
    tallies: Mapping[str, Tally]
    faults: Faults
    driver_limits: DriverLimits


class _Now(NamedTuple):
    """What takes long to look at, looked at once."""

    sources: Sources
    clients: Sequence["Client"]
    drivers: Sequence[tuple[str, "DriverFigures"]]


def gather(sources: Sources) -> list[Metric]:
    """All metrics as they are now, shared with nobody: another thread may go on with them."""
    drivers = [(name, driver.figures()) for name, driver in sources.drivers.items()]
    now = _Now(sources, sources.clients(), drivers)
    parts = (_daemon, _clients, _calls, _events, _domains, _backups, _nbd, _limits, _faults)
    return list(chain.from_iterable(part(now) for part in parts))


def _family(kind: Kind, name: str, about: str, rows: Sequence[Row], *labels: str) -> Family:
    return Family(kind, PREFIX + name, about, rows, labels)


_counter: Final = partial(_family, "counter")
_gauge: Final = partial(_family, "gauge")


def _daemon(_: _Now) -> Iterator[Metric]:
    yield _gauge("build_info", "The release that runs.", [((_release(),), 1)], "version")
    tasks = trio.lowlevel.current_statistics().tasks_living
    yield _gauge("tasks", "Tasks that the daemon is divided into.", [((), tasks)])


@cache
def _release() -> str:
    return version("virtbackupd")


def _clients(now: _Now) -> Iterator[Metric]:
    counters, admission = now.sources.services.counters, now.sources.services.admission
    transports = Counter(client.identity.transport for client in now.clients)
    rows: list[Row] = [((each.value,), transports[each]) for each in Transport]
    yield _gauge("clients", "Clients that are connected.", rows, "transport")
    anonymous = admission.anonymous
    yield _gauge("clients_anonymous", "Clients that have still to log in.", [((), anonymous)])
    yield _counter("clients_accepted", "Clients that were served.", [((), counters.accepted)])
    dropped: list[Row] = [((why,), getattr(counters, name)) for why, name in _DROPPED.items()]
    yield _counter("clients_dropped", "Clients that the daemon let go.", dropped, "reason")
    unread = sum(client.unread for client in now.clients)
    yield _gauge("outbox_bytes", "Bytes that clients have still to read.", [((), unread)])


def _calls(now: _Now) -> Iterator[Metric]:
    calls = now.sources.calls.figures()
    outcomes = [row for name, figures in calls.items() for row in _outcomes(name, figures)]
    yield _counter("calls", "Calls that were answered.", outcomes, "procedure", "result")
    times = [
        ((name,), list(accumulate(each.buckets)), each.seconds) for name, each in calls.items()
    ]
    about = "Seconds from taking up a call to its answer."
    yield Histogram(PREFIX + "call_seconds", about, ("procedure",), BOUNDS, times)
    yield _gauge(
        "calls_running", "Calls that wait for a driver.", [((), now.sources.calls.running)]
    )
    waiting = sum(client.waiting_calls for client in now.clients)
    about = "Calls that wait until others of their client have an answer."
    yield _gauge("calls_waiting", about, [((), waiting)])


def _outcomes(name: str, figures: CallFigures) -> Iterator[Row]:
    refused: Counter[str] = Counter()
    for code, count in figures.errors.items():
        refused[_ERRORS.get(code, OTHER)] += count
    yield (name, OK), sum(figures.buckets) - refused.total()
    for error, count in refused.items():
        yield (name, error), count


def _events(now: _Now) -> Iterator[Metric]:
    router = now.sources.services.router
    rows = _of_each(now.sources, lambda tally: tally.events)
    yield _counter("events", "Events that drivers published.", rows, "driver", "event")
    yield _gauge("events_queued", "Events that wait for delivery.", [((), router.waiting)])
    about = "Events that nobody was told, because too many waited."
    yield _counter("events_dropped", about, [((), router.dropped)])


def _domains(now: _Now) -> Iterator[Metric]:
    rows: list[Row] = []
    for name, figures in now.drivers:
        rows += [((name, "active"), figures.active), ((name, "inactive"), figures.inactive)]
    yield _gauge("domains", "Domains.", rows, "driver", "state")


def _backups(now: _Now) -> Iterator[Metric]:
    running: Counter[tuple[str, ...]] = Counter()
    sizes: Counter[tuple[str, ...]] = Counter()
    for name, figures in now.drivers:
        running.update({(name, *state): 0 for state in _STATES})
        sizes.update({(name, *part): 0 for part in _PARTS})
        for backup in figures.backups:
            running[name, backup.mode, backup.state] += 1
            sizes[name, backup.mode, "total"] += backup.total
            sizes[name, backup.mode, "processed"] += backup.processed
    rows = list(running.items())
    yield _gauge("backups", "Backups that have not ended.", rows, "driver", "mode", "state")
    about = "Bytes of backups that have not ended; of pull, processed is scratch space in use."
    yield _gauge("backups_bytes", about, list(sizes.items()), "driver", "mode", "part")
    ended = _of_each(now.sources, lambda tally: tally.ended)
    yield _counter("backups_ended", "Backups that have ended.", ended, "driver", "result")
    about = "Bytes that backups had copied, or had in scratch space, when they ended."
    size = _of_each(now.sources, lambda tally: tally.sizes)
    yield _counter("backups_ended_bytes", about, size, "driver", "kind")


def _nbd(now: _Now) -> Iterator[Metric]:
    found = [(name, each.nbd) for name, each in now.drivers if each.nbd is not None]
    rows: list[Row] = [((name,), nbd.clients) for name, nbd in found]
    yield _gauge("nbd_clients", "NBD clients that are connected.", rows, "driver")
    rows = [((name,), nbd.accepted) for name, nbd in found]
    yield _counter("nbd_clients_accepted", "NBD clients that were served.", rows, "driver")
    rows = [((name,), nbd.refused) for name, nbd in found]
    yield _counter("nbd_clients_refused", "NBD clients that were turned away.", rows, "driver")
    rows = [
        ((name, command), nbd.requests[number])
        for name, nbd in found
        for number, command in _COMMANDS.items()
    ]
    about = "Valid NBD requests that read or map."
    yield _counter("nbd_requests", about, rows, "driver", "command")
    rows = [((name,), nbd.bytes_read) for name, nbd in found]
    yield _counter("nbd_read_bytes", "Bytes that NBD clients have read.", rows, "driver")


def _limits(now: _Now) -> Iterator[Metric]:
    limits, of_drivers = now.sources.services.limits, now.sources.driver_limits
    rows: list[Row] = [
        ((each.name,), value)
        for holder in (limits, of_drivers)
        for each in fields(holder)
        if isinstance(value := getattr(holder, each.name), int | float)
    ]
    yield _gauge("limit", "The limits that hold, by their keys; 0 may mean none.", rows, "limit")
    reached = _zeros(_COUNTED)
    reached.update(limits.reached)
    reached.update(of_drivers.reached)
    about = "How often somebody was held back or refused because of a limit."
    rows = [((name,), count) for name, count in reached.items()]
    yield _counter("limit_reached", about, rows, "limit")


def _faults(now: _Now) -> Iterator[Metric]:
    fired: Counter[str] = Counter()
    for rule in now.sources.faults.report()["rules"]:
        fired[rule["name"]] += rule["fired"]
    rows: list[Row] = [((name,), count) for name, count in fired.items()]
    yield _counter("faults_fired", "How often faults took effect.", rows, "fault")


def _of_each(sources: Sources, part: Callable[[Tally], Counter[str]]) -> list[Row]:
    return [
        ((name, label), count)
        for name, tally in sources.tallies.items()
        for label, count in part(tally).items()
    ]
