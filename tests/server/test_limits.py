"""Who is let in, who waits, and what the drivers take on."""

from typing import TYPE_CHECKING

import pytest
import trio
from raw_client import RawClient
from trio.testing import wait_all_tasks_blocked

from virtbackupd.drivers.definitions.document import parse_document
from virtbackupd.drivers.errors import OperationFailed, XmlDetail
from virtbackupd.drivers.limits import LIMITS, DriverLimits, limits
from virtbackupd.server.config import Settings
from virtbackupd.server.limits import (
    Admission,
    Limits,
    Seat,
    driver_limits_of,
    limits_of,
    take_driver_limits,
)

if TYPE_CHECKING:
    from tests.server.conftest import Server


async def seated(admission: Admission) -> Seat:
    await admission.acquire()
    return admission.seat()


async def waits(admission: Admission) -> bool:
    """Whether the next client has to wait; it does not stay."""
    came_in = trio.Event()

    async def come() -> None:
        await admission.acquire()
        admission.release()
        came_in.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(come)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return not came_in.is_set()


async def test_clients_come_in_up_to_the_limit() -> None:
    found = Limits(max_clients=2)
    admission = Admission(found)
    for _ in range(2):
        (await seated(admission)).known()
    assert await waits(admission)
    assert found.reached == {"max_clients": 1}


async def test_who_leaves_makes_room(nursery: trio.Nursery) -> None:
    admission = Admission(Limits(max_clients=1))
    seat = await seated(admission)
    nursery.start_soon(admission.acquire)
    await wait_all_tasks_blocked()
    seat.leave()
    await wait_all_tasks_blocked()
    assert admission.clients == 1


async def test_clients_that_have_not_logged_in_have_a_limit_of_their_own() -> None:
    found = Limits(max_anonymous_clients=1)
    admission = Admission(found)
    seat = await seated(admission)
    assert await waits(admission)
    assert found.reached == {"max_anonymous_clients": 1}
    seat.known()
    assert not await waits(admission)


async def test_no_limit_of_anonymous_clients() -> None:
    admission = Admission(Limits(max_anonymous_clients=0))
    for _ in range(50):
        await admission.acquire()
    assert admission.anonymous == 50


async def test_seat_counts_once() -> None:
    admission = Admission(Limits())
    seat = await seated(admission)
    seat.known()
    seat.known()
    seat.leave()
    assert (admission.clients, admission.anonymous) == (0, 0)


async def test_raised_limit_lets_in_who_waits(nursery: trio.Nursery) -> None:
    found = Limits(max_clients=1)
    admission = Admission(found)
    await admission.acquire()
    nursery.start_soon(admission.acquire)
    await wait_all_tasks_blocked()
    found.take(Limits(max_clients=2))
    admission.reconsider()
    await wait_all_tasks_blocked()
    assert admission.clients == 2


def test_new_limits_leave_the_counters() -> None:
    found = Limits()
    found.reached["max_clients"] = 3
    found.take(Limits(max_clients=9))
    assert (found.max_clients, found.reached["max_clients"]) == (9, 3)


def test_each_limit_comes_from_its_key() -> None:
    found = limits_of(Settings(max_client_streams=3, max_client_callbacks=4, max_queued_events=5))
    assert (found.max_client_streams, found.max_client_callbacks) == (3, 4)
    assert found.max_queued_events == 5


def test_defaults_of_keys_are_those_of_the_code() -> None:
    found = limits_of(Settings())
    assert found == Limits(max_anonymous_clients=found.max_anonymous_clients)
    assert driver_limits_of(Settings()) == DriverLimits()


async def test_callbacks_of_one_client_are_limited(client: RawClient, server: "Server") -> None:
    server.services.limits.max_client_callbacks = 2
    for event in (0, 1):
        await client.call("CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY", event, None)
    error = await client.refused("CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY", 2, None)
    assert "max_client_callbacks" in str(error.message)
    assert server.services.limits.reached["max_client_callbacks"] == 1


def test_backups_are_limited() -> None:
    found = DriverLimits(max_jobs=2)
    found.check_job(1)
    with pytest.raises(OperationFailed, match="2 backups run, as many as max_jobs allows"):
        found.check_job(2)
    assert found.reached["max_jobs"] == 1


def test_without_a_limit_any_number_of_backups_runs() -> None:
    DriverLimits().check_job(10_000)


async def test_xml_is_limited() -> None:
    found = DriverLimits(max_xml=1024, max_xml_depth=8)
    LIMITS.set(found)
    with pytest.raises(XmlDetail, match=r"at most 1024 are read \(max_xml\)"):
        parse_document(f"<a>{'x' * 1100}</a>", "a")
    with pytest.raises(XmlDetail, match=r"more than 8 nested elements \(max_xml_depth\)"):
        parse_document("<a>" * 9 + "</a>" * 9, "a")
    assert found.reached == {"max_xml": 1, "max_xml_depth": 1}


async def test_limits_of_drivers_change_where_they_hold() -> None:
    held = DriverLimits()
    LIMITS.set(held)
    take_driver_limits(Settings(max_jobs=7))
    assert held.max_jobs == limits().max_jobs == 7
