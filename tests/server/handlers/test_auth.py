"""The calls of a login over a connection: what may be called before, and what after."""

from typing import TYPE_CHECKING

import pytest
import trio
from raw_client import RawClient
from scramp import ScramClient
from trio.testing import wait_all_tasks_blocked
from waiting import until

from virtbackupd.drivers.errors import DriverError
from virtbackupd.server.errors import AuthenticationFailed, AuthenticationUnavailable
from virtbackupd.server.identity import Identity, Transport
from virtbackupd.server.log_syntax import AUDIT
from virtbackupd.server.login import Authentication, Login, Scheme
from virtbackupd.server.sasl import open_sasl
from virtbackupd.server.session import REFUSALS
from virtbackupd.server.users import MECHANISM, changing, make_credentials

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.conftest import Server

SOMEBODY = Identity(uid=1000)
PUBLIC = Identity(Transport.TCP, address="192.0.2.7:1")


@pytest.fixture
def sasl(tmp_path: "Path") -> Login:
    with changing(tmp_path / "users") as users:
        users.known["alice"] = make_credentials("secret")
    authentication = Authentication(sasl=open_sasl(tmp_path / "users"))
    return authentication.login(Scheme.SASL, SOMEBODY)


@pytest.fixture
def peer(server: "Server", sasl: Login) -> RawClient:
    return server.connect(login=sasl)


async def log_in(peer: RawClient, password: str = "secret") -> tuple[object, ...]:
    client = ScramClient([MECHANISM], "alice", password)
    first = client.get_client_first().encode()
    _, _, data = await peer.call("AUTH_SASL_START", MECHANISM, 0, first)
    client.set_server_first(bytes(data).decode())
    return await peer.call("AUTH_SASL_STEP", 0, client.get_client_final().encode())


async def test_scheme_is_listed(peer: RawClient) -> None:
    assert await peer.call("AUTH_LIST") == ([1],)


async def test_mechanisms_are_listed(peer: RawClient) -> None:
    assert await peer.call("AUTH_SASL_INIT") == (MECHANISM,)


async def test_nothing_can_be_opened_before(peer: RawClient) -> None:
    refused = await peer.refused("CONNECT_OPEN", "test:///default", 0)
    assert (refused.code, refused.domain, refused.message) == (39, 7, "authentication required")


async def test_login_opens_the_way(peer: RawClient) -> None:
    assert (await log_in(peer))[0] == 1
    await peer.open()


async def test_nothing_is_asked_after_the_login(peer: RawClient) -> None:
    await log_in(peer)
    assert await peer.call("AUTH_LIST") == ([0],)
    assert (await peer.refused("AUTH_SASL_INIT")).code == 45


async def test_session_knows_who_logged_in(server: "Server", peer: RawClient) -> None:
    await log_in(peer)
    assert server.clients[0]._session.identity.sasl_name == "alice"


async def test_failure_has_libvirt_s_code_and_words(peer: RawClient) -> None:
    refused = await peer.refused("AUTH_SASL_START", "PLAIN", 0, b"")
    expected = (45, 7, "authentication failed: authentication failed")
    assert (refused.code, refused.domain, refused.message) == expected


async def test_who_is_refused_too_often_is_closed(peer: RawClient) -> None:
    for _ in range(REFUSALS):
        assert (await peer.refused("AUTH_SASL_STEP", 1, b"")).code == 45
    assert await peer.receive() is None


async def test_no_mechanism_where_others_listen(
    server: "Server", tmp_path: "Path", caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", AUDIT)
    public = Authentication(sasl=open_sasl(tmp_path / "users")).login(Scheme.SASL, PUBLIC)
    peer = server.connect(login=public)
    for _ in range(REFUSALS):
        await peer.refused("AUTH_SASL_INIT")
    assert await peer.receive() is None
    assert len(audit_lines(caplog)) == REFUSALS


async def test_polkit_is_not_what_was_asked_for(
    peer: RawClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", AUDIT)
    for _ in range(REFUSALS):
        assert (await peer.refused("AUTH_POLKIT")).code == 1
    assert await peer.receive() is None
    assert {line.split(" client=")[0] for line in audit_lines(caplog)} == {
        "action=login method=polkit"
    }


async def test_call_before_the_login_leaves_a_line(
    peer: RawClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", AUDIT)
    await peer.refused("CONNECT_OPEN", "test:///default", 0)
    told = "action=call procedure=CONNECT_OPEN missing=login client="
    assert [line.startswith(told) for line in audit_lines(caplog)] == [True]


async def test_who_calls_too_often_before_the_login_is_closed(
    peer: RawClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", AUDIT)
    for _ in range(REFUSALS):
        await peer.refused("CONNECT_GET_VERSION")
    assert await peer.receive() is None
    assert len(audit_lines(caplog)) == REFUSALS


async def test_all_that_was_refused_counts_together(peer: RawClient) -> None:
    for _ in range(REFUSALS // 2):
        await peer.refused("AUTH_SASL_STEP", 1, b"")
        await peer.refused("CONNECT_GET_VERSION")
    assert await peer.receive() is None


async def test_what_was_refused_before_the_login_is_forgiven_by_it(peer: RawClient) -> None:
    for _ in range(REFUSALS - 1):
        await peer.refused("CONNECT_GET_VERSION")
    await log_in(peer)
    assert (await peer.refused("AUTH_SASL_INIT")).code == 45
    await peer.open()


@pytest.mark.parametrize("error", [AuthenticationFailed, AuthenticationUnavailable])
async def test_who_polkit_refuses_too_often_is_closed(
    server: "Server", caplog: pytest.LogCaptureFixture, error: type[DriverError]
) -> None:
    caplog.set_level("INFO", AUDIT)
    peer = server.connect(login=Login(polkit=Refusing(error)))
    for _ in range(REFUSALS):
        await peer.refused("AUTH_POLKIT")
    assert await peer.receive() is None
    assert len(audit_lines(caplog)) == REFUSALS


class Refusing:
    """A login by polkit that lets nobody in."""

    def __init__(self, error: type[DriverError]) -> None:
        self.error = error

    async def check(self) -> Identity:
        raise self.error("authentication failed")


def audit_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == AUDIT]


async def test_pings_are_answered_before(peer: RawClient) -> None:
    assert await peer.is_silent()


async def test_large_messages_are_not_taken_before(peer: RawClient) -> None:
    await peer.send(b"\0\x10\0\0")
    assert await peer.receive() is None


async def test_who_does_not_log_in_is_dropped(server: "Server", sasl: Login) -> None:
    server.services.limits.login_timeout = 0.05
    assert await server.connect(login=sasl).receive() is None
    assert server.services.counters.dropped_anonymous == 1


async def test_login_of_who_has_left_is_not_waited_for(
    server: "Server", caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise whoever asks and leaves would hold a place of those who want to come in."""
    caplog.set_level("INFO", AUDIT)
    peer = server.connect(login=Login(polkit=Undecided()))
    await peer.start("AUTH_POLKIT")
    await wait_all_tasks_blocked()
    peer.close()
    await until(lambda: server.ended)
    assert [line.split(" client=")[0] for line in audit_lines(caplog)] == [
        "action=login method=polkit"
    ]


class Undecided:
    """A login by polkit that comes to no end."""

    async def check(self) -> Identity:
        await trio.sleep_forever()


async def test_who_has_logged_in_is_waited_for_no_more(server: "Server", peer: RawClient) -> None:
    await wait_all_tasks_blocked()
    waiting = server.clients[0]._nursery.child_tasks
    assert len(waiting) == 1
    await log_in(peer)
    await wait_all_tasks_blocked()
    assert not server.clients[0]._nursery.child_tasks
