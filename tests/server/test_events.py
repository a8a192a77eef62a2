"""Callbacks of both generations, filters, ids, and the order of events and replies."""

from typing import TYPE_CHECKING, Any

import pytest
from raw_client import RawClient
from trio.testing import wait_all_tasks_blocked

from virtbackupd.drivers import events
from virtbackupd.drivers.enums import BlockJobStatus, BlockJobType
from virtbackupd.drivers.events import DomainRef
from virtbackupd.protocol import schema
from virtbackupd.server.event_forms import FORMS
from virtbackupd.server.events import EventRouter

if TYPE_CHECKING:
    from tests.server.conftest import Server

REGISTER = "CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY"
DEREGISTER = "CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY"
LIFECYCLE, BLOCK_JOB, BLOCK_JOB_2 = 0, 8, 16
TEST = DomainRef("test", bytes(range(16)), 1)
OTHER = DomainRef("other", bytes(range(16, 32)), 1)
BACKUP_DONE = (BlockJobType.BACKUP, BlockJobStatus.COMPLETED)


async def message(client: RawClient, name: str) -> tuple[Any, ...]:
    """The next frame, which has to be this event."""
    frame = await client.frame()
    procedure = client.procedures[name]
    assert (frame.procedure, frame.kind, frame.serial, frame.status) == (procedure.number, 2, 1, 0)
    return procedure.decode_message(frame.payload)


async def test_callback_gets_its_id_and_event(server: "Server", client: RawClient) -> None:
    (callback_id,) = await client.call(REGISTER, LIFECYCLE, None)
    server.driver.publish_lifecycle(TEST)
    received = await message(client, "DOMAIN_EVENT_CALLBACK_LIFECYCLE")
    assert received == (callback_id, (TEST, 2, 0))


async def test_filter_keeps_other_domains_out(server: "Server", client: RawClient) -> None:
    await client.call(REGISTER, LIFECYCLE, TEST)
    server.driver.publish_lifecycle(OTHER)
    server.driver.publish_lifecycle(TEST)
    received = await message(client, "DOMAIN_EVENT_CALLBACK_LIFECYCLE")
    assert received[1][0] == TEST


async def test_filtered_and_unfiltered_both_get_the_event(
    server: "Server", client: RawClient
) -> None:
    ids = {(await client.call(REGISTER, LIFECYCLE, which))[0] for which in (None, TEST)}
    server.driver.publish_lifecycle(TEST)
    name = "DOMAIN_EVENT_CALLBACK_LIFECYCLE"
    assert {(await message(client, name))[0] for _ in ids} == ids


async def test_same_callback_twice_is_refused(client: RawClient) -> None:
    await client.call(REGISTER, LIFECYCLE, None)
    error = await client.refused(REGISTER, LIFECYCLE, None)
    assert (error.code, error.domain) == (8, 0)


async def test_unknown_event_is_refused(client: RawClient) -> None:
    error = await client.refused(REGISTER, 28, None)
    assert (error.code, error.domain) == (1, 7)


async def test_deregistered_callback_gets_nothing(server: "Server", client: RawClient) -> None:
    (callback_id,) = await client.call(REGISTER, LIFECYCLE, None)
    await client.call(DEREGISTER, callback_id)
    server.driver.publish_lifecycle(TEST)
    await wait_all_tasks_blocked()
    assert await client.is_silent()


async def test_unknown_callback_cannot_be_deregistered(client: RawClient) -> None:
    error = await client.refused(DEREGISTER, 5)
    assert (error.code, error.domain) == (1, 7)


async def test_callback_of_another_family_cannot_be_deregistered(client: RawClient) -> None:
    (callback_id,) = await client.call("CONNECT_SECRET_EVENT_REGISTER_ANY", 0, None)
    assert (await client.refused(DEREGISTER, callback_id)).code == 1


@pytest.mark.parametrize("family", ["SECRET", "NETWORK", "STORAGE_POOL", "NODE_DEVICE"])
async def test_other_families_register_and_deregister(client: RawClient, family: str) -> None:
    (callback_id,) = await client.call(f"CONNECT_{family}_EVENT_REGISTER_ANY", 0, None)
    await client.call(f"CONNECT_{family}_EVENT_DEREGISTER_ANY", callback_id)


async def test_monitor_events_register(client: RawClient) -> None:
    register = "QEMU_CONNECT_DOMAIN_MONITOR_EVENT_REGISTER"
    (callback_id,) = await client.call(register, None, None, 0)
    await client.call("QEMU_CONNECT_DOMAIN_MONITOR_EVENT_DEREGISTER", callback_id)


async def test_event_follows_the_reply_that_caused_it(client: RawClient) -> None:
    await client.call(REGISTER, LIFECYCLE, None)
    await client.call("DOMAIN_CREATE", TEST)
    await message(client, "DOMAIN_EVENT_CALLBACK_LIFECYCLE")


async def test_event_waits_for_the_reply_of_a_call_that_waits(
    server: "Server", client: RawClient
) -> None:
    await client.call(REGISTER, LIFECYCLE, None)
    await client.start("DOMAIN_RESUME", TEST)
    await wait_all_tasks_blocked()
    assert await client.is_silent()
    server.driver.proceed.set()
    assert (await client.frame()).procedure == client.procedures["DOMAIN_RESUME"].number
    await message(client, "DOMAIN_EVENT_CALLBACK_LIFECYCLE")


async def test_other_clients_need_not_wait_for_that_reply(
    server: "Server", client: RawClient
) -> None:
    watching = await server.opened()
    await watching.call(REGISTER, LIFECYCLE, None)
    await client.start("DOMAIN_RESUME", TEST)
    await message(watching, "DOMAIN_EVENT_CALLBACK_LIFECYCLE")


async def test_callback_gets_nothing_published_before_it(client: RawClient) -> None:
    await client.call("CONNECT_SECRET_EVENT_REGISTER_ANY", 0, None)
    create = client.call_bytes("DOMAIN_CREATE", TEST)
    await client.send(create + client.call_bytes(REGISTER, LIFECYCLE, None))
    for _ in range(2):
        assert (await client.frame()).kind == 1
    assert await client.is_silent()


async def test_events_keep_their_order(server: "Server", client: RawClient) -> None:
    await client.call(REGISTER, LIFECYCLE, None)
    for detail in range(5):
        server.driver.events.publish(events.DomainLifecycle(TEST, 2, detail))
    name = "DOMAIN_EVENT_CALLBACK_LIFECYCLE"
    assert [(await message(client, name))[1][2] for _ in range(5)] == [0, 1, 2, 3, 4]


async def test_block_job_comes_by_path_and_by_target(server: "Server", client: RawClient) -> None:
    for event_id in (BLOCK_JOB_2, BLOCK_JOB):
        await client.call(REGISTER, event_id, None)
    server.driver.events.publish(events.DomainBlockJob(TEST, "/disk", "vda", *BACKUP_DONE))
    assert (await message(client, "DOMAIN_EVENT_CALLBACK_BLOCK_JOB"))[1] == (TEST, "/disk", 5, 0)
    assert (await message(client, "DOMAIN_EVENT_BLOCK_JOB_2"))[1:] == (TEST, "vda", 5, 0)


async def test_block_job_without_a_path_comes_by_target_only(
    server: "Server", client: RawClient
) -> None:
    for event_id in (BLOCK_JOB_2, BLOCK_JOB):
        await client.call(REGISTER, event_id, None)
    server.driver.events.publish(events.DomainBlockJob(TEST, "", "vda", *BACKUP_DONE))
    await message(client, "DOMAIN_EVENT_BLOCK_JOB_2")


async def test_job_completed_carries_typed_parameters(server: "Server", client: RawClient) -> None:
    await client.call(REGISTER, 21, None)
    params = (events.TypedParameter("operation", 1, 9), events.TypedParameter("success", 6, 1))
    server.driver.events.publish(events.DomainJobCompleted(TEST, params))
    received = await message(client, "DOMAIN_EVENT_CALLBACK_JOB_COMPLETED")
    assert received[2] == [("operation", (1, 9)), ("success", (6, 1))]


async def test_secret_events_are_filtered_by_secret(server: "Server", client: RawClient) -> None:
    mine, theirs = events.SecretRef(b"m" * 16, 1, "m"), events.SecretRef(b"t" * 16, 1, "t")
    await client.call("CONNECT_SECRET_EVENT_REGISTER_ANY", 1, mine)
    for secret in (theirs, mine):
        server.driver.events.publish(events.SecretValueChanged(secret))
    assert (await message(client, "SECRET_EVENT_VALUE_CHANGED"))[1] == mine


async def test_oldest_registration_is_for_lifecycle(server: "Server", client: RawClient) -> None:
    assert await client.call("CONNECT_DOMAIN_EVENT_REGISTER") == (1,)
    server.driver.publish_lifecycle(TEST)
    assert await message(client, "DOMAIN_EVENT_LIFECYCLE") == (TEST, 2, 0)
    assert await client.call("CONNECT_DOMAIN_EVENT_DEREGISTER") == (0,)


async def test_old_registration_by_id(server: "Server", client: RawClient) -> None:
    await client.call("CONNECT_DOMAIN_EVENT_REGISTER_ANY", BLOCK_JOB)
    server.driver.events.publish(events.DomainBlockJob(TEST, "/disk", "vda", *BACKUP_DONE))
    assert await message(client, "DOMAIN_EVENT_BLOCK_JOB") == (TEST, "/disk", 5, 0)


async def test_old_registration_knows_sixteen_events(client: RawClient) -> None:
    assert (await client.refused("CONNECT_DOMAIN_EVENT_REGISTER_ANY", 16)).code == 1


async def test_old_deregistration_ends_the_events(server: "Server", client: RawClient) -> None:
    await client.call("CONNECT_DOMAIN_EVENT_REGISTER_ANY", LIFECYCLE)
    await client.call("CONNECT_DOMAIN_EVENT_DEREGISTER_ANY", LIFECYCLE)
    assert (await client.refused("CONNECT_DOMAIN_EVENT_DEREGISTER_ANY", LIFECYCLE)).code == 1


async def test_callbacks_end_with_their_client(server: "Server", client: RawClient) -> None:
    await client.call(REGISTER, LIFECYCLE, None)
    client.close()
    await wait_all_tasks_blocked()
    server.driver.publish_lifecycle(TEST)
    await wait_all_tasks_blocked()
    assert len(server.ended) == 1


def test_every_driver_event_has_a_message() -> None:
    assert set(FORMS) == set(events.Event.__args__)


async def test_every_message_is_in_the_interface_text() -> None:
    EventRouter(schema.load())
