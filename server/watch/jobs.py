"""What goes on at a server: domains, their running jobs with rates, and how recent ones ended.

A `Watcher` is asked again and again; it remembers what it saw, also over a lost connection.
"""

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from virtbackupd.drivers.enums import DomainState, DomainStats, JobType
from virtbackupd.server.remote import Event, Remote
from virtbackupd.server.remote_host import (
    ACTIVE_STATES,
    DomainKey,
    Figures,
    JobReport,
    ended_job,
    figures,
    list_jobs,
    watch_jobs,
)

MAX_ENDS: Final = 200
"""How many ended jobs are remembered."""
_OPERATIONS: Final = {
    0: "job", 1: "start", 2: "save", 3: "restore", 4: "incoming migration",
    5: "migration", 6: "snapshot", 7: "revert to snapshot", 8: "dump", 9: "backup",
    10: "delete snapshot",
}  # fmt: skip
"""virDomainJobOperation."""
_PHRASES: Final = {
    JobType.COMPLETED: "completed",
    JobType.FAILED: "failed",
    JobType.CANCELLED: "cancelled",
}


@dataclass(frozen=True, slots=True)
class DomainRow:
    """A domain and its state."""

    name: str
    state: DomainState


@dataclass(frozen=True, slots=True)
class JobRow:
    """A running job; sizes in bytes, times in seconds, None where nothing is known."""

    domain: str
    operation: str
    pull: bool
    """The client reads at its own pace: what counts is the scratch space in use."""
    total: int
    done: int
    elapsed: float
    rate: float | None
    remaining: float | None

    @property
    def share(self) -> float | None:
        """How much of the whole is done, 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else None


@dataclass(frozen=True, slots=True)
class EndRow:
    """A job that has ended."""

    domain: str
    operation: str
    outcome: str
    reason: str | None
    total: int
    elapsed: float
    at: float | None
    """When it was seen to end, in seconds since 1970; None when it was over before."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything there is to show."""

    uri: str
    at: float
    domains: Sequence[DomainRow] = ()
    jobs: Sequence[JobRow] = ()
    ends: Sequence[EndRow] = ()
    """The newest first."""
    problem: str | None = None
    """Why the server cannot be asked now; the rest is what was last known."""


@dataclass(slots=True)
class _Sample:
    at: float
    done: int
    elapsed: float


@dataclass(slots=True)
class Watcher:
    """Looks at one server."""

    uri: str
    _samples: dict[bytes, _Sample] = field(default_factory=dict)
    _ends: deque[EndRow] = field(default_factory=lambda: deque(maxlen=MAX_ENDS))
    _last: Report | None = None

    async def begin(self, remote: Remote) -> None:
        """To be called once for each connection: jobs that end from now on are told."""
        await watch_jobs(remote)
        if self._last is None:
            domains, _ = await _domains(remote)
            ended = await list_jobs(remote, list(domains), completed=True)
            self._ends.extend(_end(domain, job, None) for domain, job in ended.items())

    async def look(self, remote: Remote, events: Iterable[Event] = ()) -> Report:
        """The state as of now; `events` are those that came since the last look."""
        await self._take_ends(remote, events)
        states, active = await _domains(remote)
        running = await list_jobs(remote, active)
        now = time.monotonic()
        jobs = [self._row(domain, job, now) for domain, job in running.items()]
        self._samples = {
            domain.uuid: _Sample(now, row.done, row.elapsed)
            for domain, row in zip(running, jobs, strict=True)
        }
        domains = sorted(
            (DomainRow(domain.name, state) for domain, state in states.items()),
            key=lambda row: row.name,
        )
        self._last = Report(self.uri, time.time(), domains, jobs, tuple(self._ends))
        return self._last

    def unreachable(self, problem: str) -> Report:
        """What was last known, and that it is old."""
        last = self._last or Report(self.uri, time.time())
        return Report(last.uri, last.at, last.domains, (), last.ends, problem)

    async def _take_ends(self, remote: Remote, events: Iterable[Event]) -> None:
        told = [end for event in events if (end := ended_job(event)) is not None]
        records = await list_jobs(remote, [domain for domain, _ in told], completed=True)
        for domain, params in told:
            record = records.get(domain) or JobReport(_outcome(params), params)
            self._ends.appendleft(_end(domain, record, time.time()))

    def _row(self, domain: DomainKey, job: JobReport, now: float) -> JobRow:
        pull = "disk_temp_total" in job.figures
        total = _number(job.figures, "disk_temp_total" if pull else "disk_total")
        done = _number(job.figures, "disk_temp_used" if pull else "disk_processed")
        elapsed = _number(job.figures, "time_elapsed") / 1000
        rate = self._rate(domain, done, elapsed, now)
        remaining = (total - done) / rate if rate and not pull else None
        operation = _operation(job.figures)
        return JobRow(domain.name, operation, pull, total, done, elapsed, rate, remaining)

    def _rate(self, domain: DomainKey, done: int, elapsed: float, now: float) -> float | None:
        """Bytes per second since the last look, or since the beginning of a job just found."""
        before = self._samples.get(domain.uuid)
        if before is None or elapsed < before.elapsed or done < before.done:
            return done / elapsed if elapsed else None
        passed = now - before.at
        return (done - before.done) / passed if passed else None


async def _domains(remote: Remote) -> tuple[dict[DomainKey, DomainState], list[DomainKey]]:
    """All domains with their states, and those that can have a job."""
    (records,) = await remote.call("CONNECT_GET_ALL_DOMAIN_STATS", [], int(DomainStats.STATE), 0)
    states = {
        DomainKey(*domain): DomainState(_number(figures(params), "state.state"))
        for domain, params in records
    }
    return states, [domain for domain, state in states.items() if state in ACTIVE_STATES]


def _end(domain: DomainKey, job: JobReport, at: float | None) -> EndRow:
    reason = job.figures.get("errmsg")
    return EndRow(
        domain.name,
        _operation(job.figures),
        _PHRASES.get(job.type, "ended"),
        str(reason) if reason is not None else None,
        _number(job.figures, "disk_total"),
        _number(job.figures, "time_elapsed") / 1000,
        at,
    )


def _outcome(params: Figures) -> JobType:
    """For want of a record: the event tells success, not whether a failure was wanted."""
    return JobType.COMPLETED if params.get("success") else JobType.FAILED


def _operation(params: Figures) -> str:
    return _OPERATIONS.get(_number(params, "operation"), "job")


def _number(params: Figures, name: str) -> int:
    return int(params.get(name, 0))
