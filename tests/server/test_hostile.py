"""Clients that are slow, stuck or many: the others get their answers, and who is stuck goes."""

import logging
from typing import TYPE_CHECKING

import pytest
import trio
from raw_client import RawClient
from scramp import ScramClient
from trio.testing import MockClock, wait_all_tasks_blocked

from virtbackupd.protocol.client import Frame
from virtbackupd.server import client as client_module
from virtbackupd.server.errors import AuthenticationFailed
from virtbackupd.server.identity import Identity
from virtbackupd.server.limits import Admission, Limits
from virtbackupd.server.listeners import Listener
from virtbackupd.server.log_outputs import TextForm
from virtbackupd.server.login import Login, Scheme
from virtbackupd.server.sasl import open_sasl
from virtbackupd.server.users import MECHANISM

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.conftest import Server

DOMAIN = ("test", bytes(range(16)), 1)
REMOTE = 0x20008086
STALL = 31.0
"""Seconds after which a client that should have gone on has not."""


async def begun(server: "Server") -> tuple[RawClient, bytes]:
    """A client of whose next call half has arrived, and the other half."""
    client = await server.opened()
    first, second = client.call_bytes("CONNECT_GET_TYPE"), client.call_bytes("CONNECT_GET_TYPE")
    await client.send(first + second[:13])
    await client.frame()
    return client, second[13:]


async def pass_time(clock: MockClock, seconds: float) -> None:
    await wait_all_tasks_blocked()
    clock.jump(seconds)
    await wait_all_tasks_blocked()


# Messages that do not come to their end


async def test_message_left_unfinished_ends_the_client(
    server: "Server", mock_clock: MockClock
) -> None:
    client, _ = await begun(server)
    await pass_time(mock_clock, STALL)
    assert await client.receive() is None
    assert server.services.counters.dropped_unfinished == 1


async def test_message_that_goes_on_in_time_is_answered(
    server: "Server", mock_clock: MockClock
) -> None:
    client, rest = await begun(server)
    await pass_time(mock_clock, STALL / 2)
    await client.send(rest)
    assert (await client.frame()).error() is None
    await pass_time(mock_clock, STALL)
    assert await client.call("CONNECT_GET_TYPE") == ("SCRIPTED",)


async def test_one_byte_now_and_then_is_not_going_on(
    server: "Server", mock_clock: MockClock
) -> None:
    client, _ = await begun(server)
    for _ in range(4):
        await client.send(b"\0")
        await pass_time(mock_clock, STALL / 4)
    assert await client.receive() is None


async def test_large_message_has_more_time(server: "Server", mock_clock: MockClock) -> None:
    client = await server.opened()
    await client.send((20_000_000).to_bytes(4, "big") + bytes(60_000))
    while not server.clients[0]._connection.unfinished:
        await trio.lowlevel.checkpoint()
    await pass_time(mock_clock, STALL)
    assert server.services.counters.dropped_unfinished == 0


async def test_client_that_we_do_not_read_is_not_to_blame(
    server: "Server", mock_clock: MockClock
) -> None:
    server.services.limits.max_client_waiting_calls = 4
    client = await server.opened()
    calls = b"".join(client.call_bytes("DOMAIN_SUSPEND", DOMAIN) for _ in range(40))
    last = client.call_bytes("CONNECT_GET_TYPE")
    await client.send(calls + last[:9])
    while server.clients[0].waiting_calls < 4:
        await trio.lowlevel.checkpoint()
    await pass_time(mock_clock, STALL)
    await pass_time(mock_clock, STALL)
    server.driver.proceed.set()
    await client.send(last[9:])
    assert {(await client.frame()).serial for _ in range(41)} == set(range(1, 42))
    assert server.services.counters.dropped_unfinished == 0


# Many at once


async def answers(client: RawClient, count: int) -> int:
    return len([await client.call("CONNECT_GET_TYPE") for _ in range(count)])


async def test_slow_lorises_hold_up_nobody(server: "Server") -> None:
    good = await server.opened()
    lorises = [server.connect() for _ in range(150)]
    for byte in (28).to_bytes(4, "big") + REMOTE.to_bytes(4, "big"):
        for loris in lorises:
            await loris.send(bytes([byte]))
        assert await answers(good, 20) == 20
    assert not server.ended


async def test_idle_clients_hold_up_nobody(server: "Server") -> None:
    for _ in range(300):
        await server.opened()
    assert await answers(await server.opened(), 200) == 200


async def test_clients_that_come_and_go_hold_up_nobody(server: "Server") -> None:
    good = await server.opened()
    for _ in range(300):
        server.connect().close()
        await answers(good, 1)
    with trio.fail_after(60):
        while len(server.ended) < 300:
            await answers(good, 1)


async def test_subscriber_that_never_reads_costs_the_others_no_event(server: "Server") -> None:
    server.services.limits.max_client_unread = 4096
    stuck, good = await server.opened(), await server.opened()
    for each in (stuck, good):
        await each.call("CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY", 0, None)
    for _ in range(3000):
        server.driver.publish_lifecycle(server.driver.test.ref)
        await good.frame()
    assert await answers(good, 1) == 1
    assert server.services.counters.dropped_slow == 1


async def test_pings_without_end_hold_up_nobody(server: "Server") -> None:
    good, loud = await server.opened(), await server.opened()
    ping = Frame(0x6B656570, 1, 1, 2, 0, 0, b"")

    async def shout() -> None:
        while True:
            await loud.send_frame(ping)

    async with trio.open_nursery() as shouting:
        shouting.start_soon(shout)
        assert await answers(good, 300) == 300
        shouting.cancel_scope.cancel()


# Those that have not logged in


def listener(**what: object) -> Listener:
    return Listener(None, **what)  # type: ignore[arg-type]


def test_who_is_asked() -> None:
    assert listener(tls=True).asks
    assert listener(scheme=Scheme.SASL).asks
    assert not listener().asks


async def test_who_needs_no_login_does_not_wait_for_those_who_do() -> None:
    admission = Admission(Limits(max_anonymous_clients=1))
    await admission.door(login=True).acquire()
    with trio.fail_after(60):
        await admission.door(login=False).acquire()
    assert admission.clients == 2


async def test_who_needs_no_login_waits_for_room_all_the_same(nursery: trio.Nursery) -> None:
    admission = Admission(Limits(max_clients=1))
    await admission.acquire()
    nursery.start_soon(admission.door(login=False).acquire)
    await wait_all_tasks_blocked()
    assert (admission.clients, admission.crowded) == (1, False)


async def crowd(admission: Admission, waiting: trio.Nursery) -> None:
    """Somebody holds the only place of an unknown client, and another waits for it."""
    admission._limits.max_anonymous_clients = 1
    await admission.acquire()
    waiting.start_soon(admission.acquire)
    await wait_all_tasks_blocked()


@pytest.fixture
def users(tmp_path: "Path") -> "Path":
    return tmp_path / "users"


async def test_stranger_has_to_hurry_while_others_wait(
    server: "Server", users: "Path", mock_clock: MockClock, nursery: trio.Nursery
) -> None:
    stranger = server.connect(login=Login(sasl=open_sasl(users).login(Identity(uid=1))))
    await stranger.call("AUTH_LIST")
    await crowd(server.services.admission, nursery)
    await pass_time(mock_clock, client_module.HURRIED_LOGIN + 1)
    await pass_time(mock_clock, client_module.LOOK_INTERVAL)
    assert await stranger.receive() is None
    assert server.services.counters.dropped_anonymous == 1


async def test_stranger_has_its_time_when_nobody_waits(
    server: "Server", users: "Path", mock_clock: MockClock
) -> None:
    stranger = server.connect(login=Login(sasl=open_sasl(users).login(Identity(uid=1))))
    await stranger.call("AUTH_LIST")
    await pass_time(mock_clock, client_module.HURRIED_LOGIN + 1)
    await stranger.call("AUTH_LIST")
    assert server.services.counters.dropped_anonymous == 0


# What a stranger can write into the log


async def test_name_with_line_breaks_makes_no_line_of_the_log(
    users: "Path", caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    client = ScramClient([MECHANISM], "alice", "guessed")
    first = client.get_client_first().replace("n=alice", "n=x\nERROR forged\x1b[2J")
    login = open_sasl(users).login(Identity(uid=1))
    for message in (first, "no\nsense\x1b[2J"):
        with pytest.raises(AuthenticationFailed):
            await login.start(MECHANISM, message.encode())
    assert caplog.records
    for record in caplog.records:
        assert TextForm().format(record).isprintable()


def test_lines_of_the_log_are_lines() -> None:
    record = logging.LogRecord("a", 20, "", 0, "x\ny\x85z\u2028\x1b[0m", None, None)
    record.client = "\n1"
    text = TextForm("%(message)s").format(record)
    assert text == "x\\x0ay\\x85z\\u2028\\x1b[0m client=\\x0a1"
