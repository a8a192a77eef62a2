"""What a watcher makes of one look after another: rates, remaining time, and ends."""

from typing import cast

import pytest

from virtbackupd.drivers.enums import DomainState, JobType
from virtbackupd.server.remote import Event, Fields, Remote
from virtbackupd.server.watch import jobs as jobs_module
from virtbackupd.server.watch.jobs import JobRow, Watcher

VM = ("vm", bytes(16), 1)
MIB = 1 << 20


class Server:
    """One running domain with the job that a test gives it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.job: tuple[JobType, dict[str, int | str]] = (JobType.NONE, {})
        self.record: tuple[JobType, dict[str, int | str]] = (JobType.NONE, {})

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 5000.0

    def pushing(self, done: int, elapsed: float) -> None:
        figures = {"disk_total": 64 * MIB, "disk_processed": done, "operation": 9}
        self.job = (JobType.UNBOUNDED, {**figures, "time_elapsed": int(elapsed * 1000)})

    async def call(self, name: str, *_args: object) -> Fields:
        if name == "CONNECT_GET_ALL_DOMAIN_STATS":
            return ([(VM, params({"state.state": int(DomainState.RUNNING)}))],)
        return (0,)

    async def calls(self, _name: str, many: list[Fields]) -> list[Fields]:
        kind, figures = self.record if many and many[0][1] else self.job
        return [(int(kind), params(figures)) for _ in many]


def params(figures: dict[str, int | str]) -> list[tuple[str, tuple[int, int | str]]]:
    return [(name, (4, value)) for name, value in figures.items()]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(jobs_module, "time", made)
    return made


async def look(server: Server, watcher: Watcher, *events: Event) -> JobRow:
    (row,) = (await watcher.look(cast("Remote", server), events)).jobs
    return row


async def test_the_first_look_has_the_mean_rate(server: Server) -> None:
    server.pushing(done=8 * MIB, elapsed=4.0)
    row = await look(server, Watcher("u"))
    assert (row.rate, row.remaining) == (2 * MIB, 28.0)


async def test_later_looks_have_the_rate_since_the_last(server: Server) -> None:
    watcher = Watcher("u")
    server.pushing(done=8 * MIB, elapsed=4.0)
    await look(server, watcher)
    server.now += 2.0
    server.pushing(done=16 * MIB, elapsed=6.0)
    row = await look(server, watcher)
    assert (row.rate, row.remaining) == (4 * MIB, 12.0)


async def test_another_job_begins_afresh(server: Server) -> None:
    watcher = Watcher("u")
    server.pushing(done=60 * MIB, elapsed=30.0)
    await look(server, watcher)
    server.now += 1.0
    server.pushing(done=1 * MIB, elapsed=1.0)
    assert (await look(server, watcher)).rate == MIB


async def test_a_job_that_stands_still_has_no_end(server: Server) -> None:
    watcher = Watcher("u")
    server.pushing(done=8 * MIB, elapsed=4.0)
    await look(server, watcher)
    server.now += 2.0
    row = await look(server, watcher)
    assert (row.rate, row.remaining) == (0.0, None)


@pytest.mark.parametrize(
    ("record", "outcome"),
    [(JobType.CANCELLED, "cancelled"), (JobType.FAILED, "failed"), (JobType.NONE, "completed")],
)
async def test_an_event_tells_an_end_and_the_record_how(
    server: Server, record: JobType, outcome: str
) -> None:
    server.record = (record, {"errmsg": "why"})
    body = (0, VM, params({"success": 1, "operation": 9}))
    event = Event("DOMAIN_EVENT_CALLBACK_JOB_COMPLETED", body)
    report = await Watcher("u").look(cast("Remote", server), [event])
    assert [(end.outcome, end.at) for end in report.ends] == [(outcome, 5000.0)]


async def test_ends_from_before_are_read_once(server: Server) -> None:
    server.record = (JobType.COMPLETED, {"disk_total": MIB})
    watcher = Watcher("u")
    for _ in range(2):
        await watcher.begin(cast("Remote", server))
        report = await watcher.look(cast("Remote", server))
    assert [(end.outcome, end.total, end.at) for end in report.ends] == [("completed", MIB, None)]


async def test_what_was_known_is_shown_while_the_server_is_away(server: Server) -> None:
    watcher = Watcher("u")
    server.pushing(done=0, elapsed=1.0)
    await look(server, watcher)
    away = watcher.unreachable("gone")
    assert (away.problem, len(away.domains), away.jobs) == ("gone", 1, ())
