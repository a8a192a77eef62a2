"""What one client has: the driver its URI opens, events held for its calls, domains of its own."""

from typing import TYPE_CHECKING

import pytest
from raw_client import RawClient
from scripted_driver import ScriptedDriver
from trio.testing import wait_all_tasks_blocked

from virtbackupd.drivers.errors import NoConnection
from virtbackupd.drivers.events import DomainRef
from virtbackupd.server.session import DriverTable, RunningCall, default_uri

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.server.conftest import Server

TEST = ("test", bytes(range(16)), 1)
AUTODESTROY = 2


async def gone(client: RawClient) -> None:
    client.close()
    await wait_all_tasks_blocked()


@pytest.mark.parametrize(("flags", "destroyed"), [(0, 0), (AUTODESTROY, 1)])
async def test_domain_started_for_a_client_ends_with_it(
    server: "Server", client: RawClient, flags: int, destroyed: int
) -> None:
    await client.call("DOMAIN_CREATE_WITH_FLAGS", TEST, flags)
    await gone(client)
    assert server.driver.test.destroyed == destroyed


async def test_domain_created_for_a_client_ends_with_it(
    server: "Server", client: RawClient
) -> None:
    await client.call("DOMAIN_CREATE_XML", "<domain/>", AUTODESTROY)
    await gone(client)
    assert server.driver.other.destroyed == 1


async def test_close_ends_it_too(server: "Server", client: RawClient) -> None:
    await client.call("DOMAIN_CREATE_WITH_FLAGS", TEST, AUTODESTROY)
    await client.call("CONNECT_CLOSE")
    await wait_all_tasks_blocked()
    assert server.driver.test.destroyed == 1


async def test_domain_started_again_by_others_is_left_alone(
    server: "Server", client: RawClient
) -> None:
    await client.call("DOMAIN_CREATE_WITH_FLAGS", TEST, AUTODESTROY)
    server.driver.test.ref = DomainRef("test", bytes(range(16)), 2)
    await gone(client)
    assert server.driver.test.destroyed == 0


async def test_domain_that_is_gone_already_is_no_trouble(
    server: "Server", client: RawClient
) -> None:
    await client.call("DOMAIN_CREATE_WITH_FLAGS", TEST, AUTODESTROY)
    server.driver.test.ref = DomainRef("test", b"x" * 16, 1)
    await gone(client)
    assert len(server.ended) == 1


@pytest.fixture
def drivers() -> DriverTable:
    return DriverTable({"test": ScriptedDriver(), "qemu": ScriptedDriver()})


@pytest.mark.parametrize(
    ("uri", "scheme"),
    [
        ("test:///default", "test"),
        ("test+tcp://host/default", "test"),
        ("test+unix:///default?socket=/x", "test"),
        ("qemu:///system", "qemu"),
        ("qemu://host:16509/system?name=x", "qemu"),
        ("qemu:/system", "qemu"),
    ],
)
def test_scheme_decides_about_the_driver(drivers: DriverTable, uri: str, scheme: str) -> None:
    assert drivers.open(uri)[:2] == (uri, scheme)


@pytest.mark.parametrize("uri", ["xen:///", "nonsense", "://x", "TEST:///default", "test"])
def test_other_uris_are_answered_by_nobody(drivers: DriverTable, uri: str) -> None:
    with pytest.raises(NoConnection, match="nothing here answers"):
        drivers.open(uri)


def test_empty_uri_is_the_first_driver(drivers: DriverTable) -> None:
    assert drivers.open("").uri == "test:///default"


def test_no_driver_at_all_answers_nothing() -> None:
    with pytest.raises(NoConnection):
        DriverTable({}).open("")


@pytest.mark.parametrize(
    ("scheme", "uri"), [("test", "test:///default"), ("qemu", "qemu:///system")]
)
def test_default_uris(scheme: str, uri: str) -> None:
    assert default_uri(scheme) == uri


class HoldingLink:
    """Counts how often events were held and let go."""

    def __init__(self) -> None:
        self.held = self.released = 0

    def hold_events(self) -> "Callable[[], None]":
        self.held += 1
        return self._release

    def _release(self) -> None:
        self.released += 1


def test_call_that_publishes_holds_events_once() -> None:
    link = HoldingLink()
    running = RunningCall(link)
    running.published()
    running.published()
    assert (link.held, link.released) == (1, 0)


def test_reply_lets_events_go() -> None:
    link = HoldingLink()
    running = RunningCall(link)
    running.published()
    running.replied()
    assert link.released == 1


def test_call_that_published_nothing_lets_nothing_go() -> None:
    link = HoldingLink()
    RunningCall(link).replied()
    assert link.released == 0


def test_tasks_left_behind_hold_nothing() -> None:
    link = HoldingLink()
    running = RunningCall(link)
    running.replied()
    running.published()
    assert link.held == 0
