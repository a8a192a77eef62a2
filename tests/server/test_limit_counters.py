"""Each limit that holds somebody back is counted, by its key."""

from pathlib import Path
from typing import TYPE_CHECKING

import trio
from raw_client import RawClient
from trio.testing import MockClock, wait_all_tasks_blocked

from virtbackupd.server.http import HttpLimits, serve_http
from virtbackupd.server.http_routes import Router
from virtbackupd.server.identity import Identity
from virtbackupd.server.listeners import close_all, listen_tcp
from virtbackupd.server.login import Login
from virtbackupd.server.sasl import open_sasl

if TYPE_CHECKING:
    from tests.server.conftest import Server

DOMAIN = ("test", bytes(range(16)), 1)


async def test_calls_beyond_the_window(server: "Server", client: RawClient) -> None:
    for _ in range(3):
        await client.start("DOMAIN_SUSPEND", DOMAIN)
    await wait_all_tasks_blocked()
    assert server.services.limits.reached == {"max_client_requests": 1}


async def test_calls_beyond_those_that_wait(server: "Server", client: RawClient) -> None:
    server.services.limits.max_client_waiting_calls = 1
    for _ in range(4):
        await client.start("DOMAIN_SUSPEND", DOMAIN)
    await wait_all_tasks_blocked()
    assert server.services.limits.reached["max_client_waiting_calls"] == 1


async def test_message_too_long(server: "Server") -> None:
    server.services.limits.max_message = 65_536
    client = await server.opened()
    await client.send((65_540).to_bytes(4, "big"))
    assert await client.receive() is None
    assert server.services.limits.reached == {"max_message": 1}


async def test_message_too_short_is_not_counted(server: "Server", client: RawClient) -> None:
    await client.send((5).to_bytes(4, "big"))
    assert await client.receive() is None
    assert not server.services.limits.reached


async def test_message_left_unfinished(
    server: "Server", client: RawClient, mock_clock: MockClock
) -> None:
    await client.send(b"\0\0")
    await wait_all_tasks_blocked()
    mock_clock.jump(server.services.limits.client_stall_timeout + 1)
    assert await client.receive() is None
    assert server.services.limits.reached == {"client_stall_timeout": 1}


async def test_login_that_takes_too_long(
    server: "Server", tmp_path: Path, mock_clock: MockClock
) -> None:
    sasl = open_sasl(tmp_path / "users")
    stranger = server.connect(login=Login(sasl=sasl.login(Identity(uid=1))))
    await wait_all_tasks_blocked()
    mock_clock.jump(server.services.limits.login_timeout + 1)
    assert await stranger.receive() is None
    assert server.services.limits.reached == {"login_timeout": 1}


async def test_events_beyond_the_queue(server: "Server", client: RawClient) -> None:
    server.services.limits.max_queued_events = 1
    await client.call("CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY", 0, None)
    for _ in range(3):
        server.driver.publish_lifecycle(server.driver.test.ref)
    assert server.services.limits.reached == {"max_queued_events": 2}


async def test_connections_beyond_those_of_the_endpoint() -> None:
    full, limits = trio.Event(), HttpLimits(connections=1)
    listeners = listen_tcp("127.0.0.1", 0)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_http, listeners, Router(), limits, full.set)
            async with await trio.open_tcp_stream("127.0.0.1", listeners[0].port):
                await wait_all_tasks_blocked(0.01)
                assert not full.is_set()
                async with await trio.open_tcp_stream("127.0.0.1", listeners[0].port):
                    with trio.fail_after(60):
                        await full.wait()
            nursery.cancel_scope.cancel()
    finally:
        close_all(listeners)
