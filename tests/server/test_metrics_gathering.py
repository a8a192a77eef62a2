"""Metrics of what is hard to arrange in a whole daemon: backups, waiting calls, odd errors."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from metrics_page import MetricsPage
from scripted_driver import UUID
from trio.testing import wait_all_tasks_blocked
from waiting import until

from virtbackupd.drivers.enums import JobOperation, TypedParameterType
from virtbackupd.drivers.events import (
    CANCELED,
    DomainJobCompleted,
    DomainRef,
    EventBus,
    TypedParameter,
)
from virtbackupd.drivers.faults.engine import Faults
from virtbackupd.drivers.figures import DriverFigures, NbdFigures, RunningBackup
from virtbackupd.drivers.interface import Driver
from virtbackupd.drivers.limits import DriverLimits
from virtbackupd.protocol import schema
from virtbackupd.protocol.errors import RemoteError
from virtbackupd.protocol.message import Call, error_reply
from virtbackupd.server.call_meter import CallMeter
from virtbackupd.server.metrics import Family, Metric, Sources, gather, tallied
from virtbackupd.server.metrics_text import exposition

if TYPE_CHECKING:
    from tests.server.conftest import Server

REF = DomainRef("test", bytes(16), 1)
DOMAIN = ("test", UUID, 1)
PARTS = ("processed", "total")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


class Busy(Driver):
    """A driver that has figures."""

    def __init__(self, *backups: RunningBackup, nbd: NbdFigures | None = None) -> None:
        self.events = EventBus()
        self._figures = DriverFigures(3, 4, backups, nbd)

    def figures(self) -> DriverFigures:
        return self._figures

    def end(self, **fields: int | str) -> None:
        params = [
            TypedParameter(name, TypedParameterType.INT, value)
            for name, value in {"operation": int(JobOperation.BACKUP), **fields}.items()
        ]
        self.events.publish(DomainJobCompleted(REF, tuple(params)))


@pytest.fixture
def meter(server: "Server") -> CallMeter:
    """Counts the calls of clients that connect from now on."""
    made = CallMeter(server.services.dispatcher, schema.load())
    server.services = replace(server.services, dispatcher=made, calls=made)
    return made


@pytest.fixture
def sources(server: "Server", meter: CallMeter) -> Sources:
    return Sources(server.services, meter, lambda: server.clients, {}, {}, Faults(), DriverLimits())


def page(sources: Sources) -> MetricsPage:
    return MetricsPage(exposition(gather(sources)).decode())


def page_with(sources: Sources, **drivers: Driver) -> MetricsPage:
    return page(replace(sources, drivers=drivers))


async def test_calls_that_run_and_calls_that_wait(server: "Server", sources: Sources) -> None:
    client = await server.opened()
    await client.send(b"".join(client.call_bytes("DOMAIN_SUSPEND", DOMAIN) for _ in range(5)))
    await until(lambda: server.driver.waiting == 2)
    assert page(sources).value("calls_running") == 2
    assert page(sources).value("calls_waiting") == 3
    server.driver.proceed.set()
    for _ in range(5):
        await client.frame()
    await wait_all_tasks_blocked()
    assert page(sources).value("calls_running") == 0
    assert page(sources).value("calls_waiting") == 0


async def test_bytes_that_clients_do_not_read(server: "Server", sources: Sources) -> None:
    client = await server.opened()
    server.clients[0].send(bytes(8 << 20))
    assert 0 < page(sources).value("outbox_bytes") <= 8 << 20
    client.close()


async def test_events_that_wait(server: "Server", sources: Sources) -> None:
    client = await server.opened()
    await client.call("CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY", 0, None)
    server.driver.publish_lifecycle(REF)
    assert page(sources).value("events_queued") == 1
    await wait_all_tasks_blocked()
    assert page(sources).value("events_queued") == 0


async def test_an_error_code_without_a_name_is_other(meter: CallMeter, sources: Sources) -> None:
    call = Call(0x20008086, 1, 157, 0, 0, b"")
    for code in (4711, 4712):
        meter.figures()
        meter._by_name["virConnectGetLibVersion"].ended(
            0.1, error_reply(call, RemoteError(code, 10, ""))
        )
    found = page(sources)
    name = "virConnectGetLibVersion"
    assert found.value("calls_total", procedure=name, result="other") == 2
    assert found.value("calls_total", procedure=name, result="ok") == 0


async def test_backups_by_mode_and_state(sources: Sources) -> None:
    driver = Busy(
        RunningBackup("push", "running", 100, 40),
        RunningBackup("push", "running", 10, 5),
        RunningBackup("pull", "failing", 7, 1),
    )
    found = page_with(sources, qemu=driver)
    assert found.value("backups", driver="qemu", mode="push", state="running") == 2
    assert found.value("backups", driver="qemu", mode="pull", state="failing") == 1
    assert found.value("backups", driver="qemu", mode="pull", state="running") == 0
    sizes = [found.value("backups_bytes", driver="qemu", mode="push", part=part) for part in PARTS]
    assert sizes == [45, 110]


async def test_each_driver_has_its_own_numbers(sources: Sources) -> None:
    found = page_with(sources, one=Busy(), two=Driver())
    assert found.value("domains", driver="one", state="active") == 3
    assert found.value("domains", driver="two", state="active") == 0


async def test_nbd_is_shown_of_drivers_that_serve_it(sources: Sources) -> None:
    nbd = NbdFigures(clients=2, accepted=9, refused=1, bytes_read=4096)
    nbd.requests[0], nbd.requests[7] = 5, 6
    found = page_with(sources, ours=Busy(nbd=nbd), theirs=Busy())
    assert found.labelled("nbd_clients", "driver") == {"ours": 2}
    assert found.labelled("nbd_clients_accepted_total", "driver") == {"ours": 9}
    assert found.labelled("nbd_clients_refused_total", "driver") == {"ours": 1}
    assert found.labelled("nbd_read_bytes_total", "driver") == {"ours": 4096}
    requests = found.labelled("nbd_requests_total", "command")
    assert requests == {"read": 5, "cache": 0, "block-status": 6}


@pytest.mark.parametrize(
    ("fields", "result"),
    [
        ({"success": 1}, "completed"),
        ({"success": 1, "errmsg": CANCELED}, "completed"),
        ({"success": 0, "errmsg": CANCELED}, "cancelled"),
        ({"success": 0}, "cancelled"),
        ({"success": 0, "errmsg": "No space left on device"}, "failed"),
    ],
)
async def test_backups_that_ended(
    sources: Sources, fields: dict[str, int | str], result: str
) -> None:
    driver = Busy()
    with tallied({"qemu": driver}) as tallies:
        driver.end(**fields)
    ended = page(replace(sources, tallies=tallies)).labelled("backups_ended_total", "result")
    assert ended == {"completed": 0, "cancelled": 0, "failed": 0, result: 1}


async def test_bytes_of_backups_that_ended(sources: Sources) -> None:
    driver = Busy()
    with tallied({"qemu": driver}) as tallies:
        driver.end(success=1, disk_processed=100, disk_total=100)
        driver.end(success=0, disk_processed=20, disk_total=100)
        driver.end(success=1, disk_temp_used=7)
    sizes = page(replace(sources, tallies=tallies)).labelled("backups_ended_bytes_total", "kind")
    assert sizes == {"copied": 120, "scratch": 7}


async def test_other_jobs_are_no_backups(sources: Sources) -> None:
    driver = Busy()
    with tallied({"qemu": driver}) as tallies:
        driver.end(operation=JobOperation.BACKUP - 1, success=1, disk_processed=100)
    found = page(replace(sources, tallies=tallies))
    assert sum(found.labelled("backups_ended_total", "result").values()) == 0
    assert sum(found.labelled("backups_ended_bytes_total", "kind").values()) == 0


async def test_every_event_is_shown_before_it_first_happens(sources: Sources) -> None:
    with tallied({"qemu": Busy()}) as tallies:
        events = page(replace(sources, tallies=tallies)).labelled("events_total", "event")
    assert events["DomainBlockThreshold"] == 0
    assert set(events.values()) == {0}


async def test_the_page_names_every_metric_with_its_labels(sources: Sources) -> None:
    rows = re.findall(r"^\| `(virtbackupd_\w+)` \|([^|]*)\|", PAGE.read_text(), re.MULTILINE)
    described = {name: set(re.findall("`(.*?)`", labels)) for name, labels in rows}
    assert described == {_shown(metric): set(metric.labels) for metric in gather(sources)}


def _shown(metric: Metric) -> str:
    counter = isinstance(metric, Family) and metric.kind == "counter"
    return f"{metric.name}_total" if counter else metric.name
