"""What polkit is asked by the access driver, and what becomes of its answers."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from access_site import Site, serving

from virtbackupd.drivers.enums import DomainState
from virtbackupd.protocol import schema
from virtbackupd.server.access.control import CONNECTION, Subject
from virtbackupd.server.access.permissions import permission
from virtbackupd.server.access.polkit import PolkitAccess, action, details
from virtbackupd.server.identity import Identity
from virtbackupd.server.polkit import PolkitError

USER = Identity(uid=1000, pid=1, start_time=1)


@dataclass
class Authority:
    """Grants what it is told to, each answer a moment later."""

    grants: set[tuple[str, str]] = field(default_factory=set)
    """Actions with the name of the domain, or nothing."""
    broken: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)
    closed: bool = False

    async def allows(self, action: str, identity: Identity, details: dict[str, str]) -> bool:
        assert identity is USER
        await trio.lowlevel.checkpoint()
        if self.broken:
            raise PolkitError("the bus is gone")
        question = action.removeprefix("org.libvirt.api."), details.get("domain_name", "")
        self.asked.append(question)
        return question in self.grants

    def close(self) -> None:
        self.closed = True


CONNECT = {("connect.getattr", ""), ("connect.search-domains", "")}


@pytest.fixture
def authority() -> Authority:
    grants = {("domain.getattr", "web-1"), ("domain.read", "web-1"), ("domain.getattr", "web-2")}
    return Authority(CONNECT | grants)


@pytest.fixture
async def site(authority: Authority, tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path, PolkitAccess(authority)) as made:
        yield made


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("domain:block_write", "org.libvirt.api.domain.block-write"),
        ("storage_pool:read", "org.libvirt.api.storage-pool.read"),
        ("connect:search_domains", "org.libvirt.api.connect.search-domains"),
    ],
)
def test_actions_are_libvirts(text: str, name: str) -> None:
    assert action(permission(text)) == name


def test_details_tell_the_domain() -> None:
    assert details(Subject("domain", "web", bytes(16))) == {
        "connect_driver": "QEMU",
        "domain_name": "web",
        "domain_uuid": "00000000-0000-0000-0000-000000000000",
    }


def test_details_of_a_connection_and_of_other_kinds() -> None:
    assert details(CONNECTION) == {"connect_driver": "QEMU"}
    assert details(Subject("network")) == {"connect_driver": "QEMU"}
    assert set(details(Subject("secret", "x", bytes(16)))) == {"connect_driver", "secret_uuid"}


async def test_what_is_granted_works(site: Site) -> None:
    client = await site.opened(USER)
    state, _ = await client.call("DOMAIN_GET_STATE", await site.domain("web-1"), 0)
    assert state == DomainState.RUNNING


async def test_what_is_not_granted_is_refused(site: Site) -> None:
    client = await site.opened(USER)
    assert (await client.refused("DOMAIN_SUSPEND", await site.domain("web-1"))).code == 88


async def test_hidden_domains_are_not_there(site: Site) -> None:
    client = await site.opened(USER)
    assert (await client.refused("DOMAIN_GET_INFO", await site.domain("db"))).code == 42
    assert (await client.refused("DOMAIN_LOOKUP_BY_NAME", "db")).code == 42


async def test_lists_hold_what_may_be_seen(site: Site) -> None:
    client = await site.opened(USER)
    found, count = await client.call("CONNECT_LIST_ALL_DOMAINS", 1, 0)
    assert ({domain[0] for domain in found}, count) == ({"web-1", "web-2"}, 2)


async def test_statistics_hold_what_may_be_read(site: Site) -> None:
    client = await site.opened(USER)
    (records,) = await client.call("CONNECT_GET_ALL_DOMAIN_STATS", [], 0, 0)
    assert [record[0][0] for record in records] == ["web-1"]


async def test_events_hold_what_may_be_seen(site: Site) -> None:
    client = await site.opened(USER)
    await client.call("CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY", 0, None)
    for name in ("db", "web-1"):
        domain = site.driver.domain_by_uuid((await site.domain(name)).uuid)
        domain.suspend()
    event = await client.frame()
    message = schema.load().by_name["DOMAIN_EVENT_CALLBACK_LIFECYCLE"].decode_message(event.payload)
    assert message[1][0][0] == "web-1"


async def test_every_call_asks_anew(site: Site, authority: Authority) -> None:
    client = await site.opened(USER)
    domain = await site.domain("web-1")
    await client.call("DOMAIN_GET_STATE", domain, 0)
    authority.grants.clear()
    assert (await client.refused("DOMAIN_GET_STATE", domain, 0)).code == 42


async def test_without_an_answer_nothing_is_allowed(site: Site, authority: Authority) -> None:
    client = await site.opened(USER)
    authority.broken = True
    assert (await client.refused("CONNECT_LIST_ALL_DOMAINS", 1, 0)).code == 88


def test_the_way_to_polkit_is_closed_in_the_end(authority: Authority) -> None:
    PolkitAccess(authority).close()
    assert authority.closed
