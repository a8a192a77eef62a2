"""One connection under load and abuse: the window, pipelining, bad frames, slow readers."""

import gc
from typing import TYPE_CHECKING

import pytest
import trio
from raw_client import RawClient
from trio.testing import wait_all_tasks_blocked

from virtbackupd.protocol.client import Frame
from virtbackupd.server import client as client_module

if TYPE_CHECKING:
    from tests.server.conftest import Server

DOMAIN = ("test", bytes(range(16)), 1)
REMOTE = 0x20008086
GET_TYPE = 3


async def test_call_that_waits_is_overtaken(server: "Server", client: RawClient) -> None:
    slow = await client.start("DOMAIN_SUSPEND", DOMAIN)
    await client.call("CONNECT_GET_TYPE")
    server.driver.proceed.set()
    assert (await client.frame()).serial == slow


async def test_full_window_holds_calls_back(server: "Server", client: RawClient) -> None:
    for _ in range(2):
        await client.start("DOMAIN_SUSPEND", DOMAIN)
    await client.start("CONNECT_GET_TYPE")
    assert await client.is_silent()


async def test_held_back_calls_are_answered_when_the_window_opens(
    server: "Server", client: RawClient
) -> None:
    started = [await client.start("DOMAIN_SUSPEND", DOMAIN) for _ in range(4)]
    await wait_all_tasks_blocked()
    assert server.driver.waiting == 2
    server.driver.proceed.set()
    assert sorted([(await client.frame()).serial for _ in started]) == started


async def test_keepalive_does_not_count_against_the_window(
    server: "Server", client: RawClient
) -> None:
    for _ in range(5):
        await client.start("DOMAIN_SUSPEND", DOMAIN)
    assert await client.is_silent()


async def test_too_many_held_back_calls_stop_the_reading(
    server: "Server", client: RawClient
) -> None:
    calls = [client.call_bytes("DOMAIN_SUSPEND", DOMAIN) for _ in range(400)]
    await client.send(b"".join(calls))
    await wait_all_tasks_blocked()
    server.driver.proceed.set()
    assert len({(await client.frame()).serial for _ in calls}) == 400


async def test_pipelined_calls_are_all_answered_in_order(client: RawClient) -> None:
    calls = [client.call_bytes("CONNECT_GET_TYPE") for _ in range(100)]
    await client.send(b"".join(calls))
    assert [(await client.frame()).serial for _ in calls] == list(range(1, 101))


async def test_bytes_may_come_one_at_a_time(client: RawClient) -> None:
    for byte in client.call_bytes("CONNECT_GET_TYPE"):
        await client.send(bytes([byte]))
        await wait_all_tasks_blocked()
    assert (await client.frame()).serial == 1


async def test_half_a_message_hurts_nobody_else(server: "Server", client: RawClient) -> None:
    await server.connect().send(b"\0\0\0\x50\x20")
    assert await client.call("CONNECT_GET_TYPE") == ("SCRIPTED",)


@pytest.mark.parametrize("length", [0, 27, 33_554_437, 0xFFFFFFFF])
async def test_impossible_length_closes(client: RawClient, length: int) -> None:
    await client.send(length.to_bytes(4, "big") + bytes(24))
    assert await client.receive() is None


async def test_protocol_error_is_counted(server: "Server", client: RawClient) -> None:
    await client.send(bytes(28))
    await client.receive()
    assert server.services.counters.protocol_errors == 1


@pytest.mark.parametrize("kind", [1, 2, 3, 6, 9])
async def test_stray_frames_are_dropped(client: RawClient, kind: int) -> None:
    await client.send_frame(Frame(REMOTE, 1, GET_TYPE, kind, 5, 0, b""))
    assert await client.is_silent()


@pytest.mark.parametrize("serial", [0, 7, 0xFFFFFFFF])
async def test_any_serial_is_echoed(client: RawClient, serial: int) -> None:
    for _ in range(2):
        await client.send_frame(Frame(REMOTE, 1, GET_TYPE, 0, serial, 0, b""))
        assert (await client.frame()).serial == serial


async def test_a_call_outlives_its_client(server: "Server", client: RawClient) -> None:
    await client.start("DOMAIN_SUSPEND", DOMAIN)
    client.close()
    await wait_all_tasks_blocked()
    assert server.ended == []
    server.driver.proceed.set()
    await wait_all_tasks_blocked()
    assert len(server.ended) == 1


async def test_replies_larger_than_the_kernel_takes_arrive_whole(client: RawClient) -> None:
    await client.send(b"".join(client.call_bytes("CONNECT_GET_CAPABILITIES") for _ in range(8)))
    for _ in range(8):
        assert len((await client.frame()).payload) == 4_000_004


async def test_client_that_does_not_read_is_not_read_either(
    server: "Server", client: RawClient
) -> None:
    other = await server.opened()
    call = client.call_bytes("CONNECT_GET_CAPABILITIES")
    with trio.move_on_after(0.2) as scope:
        await client.send(call * 200_000)
    assert scope.cancelled_caught
    assert await other.call("CONNECT_GET_TYPE") == ("SCRIPTED",)


async def test_client_that_never_reads_is_dropped(server: "Server", client: RawClient) -> None:
    server.services.limits.client_stall_timeout = 0.05
    await client.start("CONNECT_GET_CAPABILITIES")
    with trio.fail_after(60):
        while not server.ended:
            await trio.lowlevel.checkpoint()
    assert server.services.counters.dropped_slow == 1


async def test_events_pile_up_only_so_far(server: "Server", client: RawClient) -> None:
    server.services.limits.max_client_unread = 10_000
    await client.call("CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY", 0, None)
    for _ in range(10_000):
        server.driver.publish_lifecycle(server.driver.test.ref)
    await wait_all_tasks_blocked()
    assert server.services.counters.dropped_slow == 1


async def test_bug_in_the_reader_ends_this_client_only(
    server: "Server", client: RawClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await server.opened()
    with monkeypatch.context() as patched:
        patched.setattr(client_module.Client, "_take", None)
        await client.start("CONNECT_GET_TYPE")
        assert await client.receive() is None
    assert await other.call("CONNECT_GET_TYPE") == ("SCRIPTED",)


async def test_stopping_finishes_the_calls_that_run(server: "Server", client: RawClient) -> None:
    slow = await client.start("DOMAIN_SUSPEND", DOMAIN)
    await wait_all_tasks_blocked()
    server.clients[0].stop()
    server.driver.proceed.set()
    assert (await client.frame()).serial == slow
    assert await client.receive() is None


async def test_stopping_closes_an_idle_client(server: "Server", client: RawClient) -> None:
    server.clients[0].stop()
    assert await client.receive() is None


async def test_close_does_not_wait_for_calls_that_run(client: RawClient) -> None:
    await client.start("DOMAIN_SUSPEND", DOMAIN)
    closing = await client.start("CONNECT_CLOSE")
    assert (await client.frame()).serial == closing
    assert await client.receive() is None


async def test_close_that_was_held_back_closes(server: "Server", client: RawClient) -> None:
    for _ in range(2):
        await client.start("DOMAIN_SUSPEND", DOMAIN)
    await client.start("CONNECT_CLOSE")
    server.driver.proceed.set()
    serials = []
    while (frame := await client.receive()) is not None:
        serials.append(frame.serial)
    assert 3 in serials


async def test_leaving_in_the_middle_of_a_message_is_counted(
    server: "Server", client: RawClient
) -> None:
    await client.send(client.call_bytes("CONNECT_GET_TYPE")[:9])
    client.close()
    await wait_all_tasks_blocked()
    assert server.services.counters.protocol_errors == 1


async def test_leaving_between_messages_is_no_error(server: "Server", client: RawClient) -> None:
    client.close()
    await wait_all_tasks_blocked()
    assert (len(server.ended), server.services.counters.protocol_errors) == (1, 0)


async def test_a_client_that_left_waits_for_no_collector(
    server: "Server", client: RawClient
) -> None:
    await client.call("CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY", 0, None)
    gc.collect()
    client.close()
    await wait_all_tasks_blocked()
    server.clients.clear()
    server.ended.clear()
    assert not any(isinstance(found, client_module.Client) for found in gc.get_objects())


async def test_call_with_no_descriptors_is_a_call(client: RawClient) -> None:
    await client.send_frame(Frame(REMOTE, 1, GET_TYPE, 4, 9, 0, bytes(4)))
    frame = await client.frame()
    assert (frame.serial, frame.kind, frame.error()) == (9, 1, None)


async def test_every_ping_is_answered(client: RawClient) -> None:
    ping = Frame(0x6B656570, 1, 1, 2, 0, 0, b"")
    for _ in range(200):
        await client.send_frame(ping)
    assert {(await client.frame()).procedure for _ in range(200)} == {2}


async def test_clients_do_not_share_their_windows(server: "Server", client: RawClient) -> None:
    for _ in range(3):
        await client.start("DOMAIN_SUSPEND", DOMAIN)
    other = await server.opened()
    assert await other.call("CONNECT_GET_TYPE") == ("SCRIPTED",)


async def test_read_only_is_a_matter_of_one_client(server: "Server") -> None:
    limited, free = await server.opened(read_only=True), await server.opened()
    assert (await limited.refused("DOMAIN_CREATE", DOMAIN)).code == 29
    await free.call("DOMAIN_CREATE", DOMAIN)


async def test_many_clients_are_served_at_once(server: "Server") -> None:
    clients = [await server.opened() for _ in range(100)]
    for one in clients:
        await one.start("CONNECT_GET_TYPE")
    assert all([(await one.frame()).error() is None for one in clients])


async def test_call_held_back_keeps_its_arguments(server: "Server", client: RawClient) -> None:
    for _ in range(2):
        await client.start("DOMAIN_SUSPEND", DOMAIN)
    held = await client.start("DOMAIN_GET_XML_DESC", DOMAIN, 8)
    server.driver.proceed.set()
    assert held in {(await client.frame()).serial for _ in range(3)}
    assert server.driver.test.flags_seen == [8]
