"""What a client of limited rights meets, call by call, over the wire."""

from typing import Any

import pytest
from access_site import BOB, Site

from virtbackupd.drivers.enums import DomainState
from virtbackupd.server.identity import Identity

RULES = """
trust_owner = false
[[rules]]
who = { sasl = "alice" }
may = ["read", "checkpoint", "start", "stop"]
on = { name = "web-*" }

[[rules]]
who = { sasl = "root" }
may = ["*"]

[[rules]]
who = { sasl = "viewer" }
may = ["read"]
"""
ROOT = Identity(sasl_name="root")
VIEWER = Identity(sasl_name="viewer")
DENIED, NO_DOMAIN = 88, 42
CHECKPOINT = "<domaincheckpoint/>"


def names(found: tuple[Any, ...]) -> set[str]:
    return {domain[0] for domain in found[0]}


async def test_nobody_without_a_rule_comes_in(site: Site) -> None:
    client = site.connect(BOB)
    refusal = await client.refused("CONNECT_OPEN", "test:///default", 0)
    assert (refusal.code, refusal.domain) == (DENIED, 55)
    assert site.refusals == [("CONNECT_OPEN", "connect:getattr")]


async def test_only_visible_domains_are_listed(site: Site) -> None:
    client = await site.opened()
    assert names(await client.call("CONNECT_LIST_ALL_DOMAINS", 1, 0)) == {"web-1", "web-2"}


async def test_only_visible_domains_are_counted(site: Site) -> None:
    client = await site.opened()
    assert await client.call("CONNECT_NUM_OF_DOMAINS") == (1,)
    assert await client.call("CONNECT_LIST_ALL_DOMAINS", 0, 0) == ([], 2)


async def test_only_visible_domains_are_in_the_old_lists(site: Site) -> None:
    client = await site.opened()
    assert await client.call("CONNECT_LIST_DEFINED_DOMAINS", 10) == (["web-2"],)
    (ids,) = await client.call("CONNECT_LIST_DOMAINS", 10)
    assert ids == [(await site.domain("web-1"))[2]]


async def test_only_readable_domains_have_statistics(site: Site) -> None:
    client = await site.opened()
    (records,) = await client.call("CONNECT_GET_ALL_DOMAIN_STATS", [], 0, 0)
    assert {record[0][0] for record in records} == {"web-1", "web-2"}


async def test_statistics_of_a_hidden_domain_are_those_of_none(site: Site) -> None:
    client = await site.opened()
    hidden = await site.domain("db")
    assert await client.call("CONNECT_GET_ALL_DOMAIN_STATS", [hidden], 0, 0) == ([],)


async def same_refusals(site: Site, name: str, hidden: Any, absent: Any) -> None:  # noqa: ANN401
    """What is hidden and what is not there differ in nothing but what the client itself said.

    They make the same work, too, for else the time that it takes would tell one from the other.
    """
    client = await site.opened()
    refusals, work = [], []
    for argument in (hidden, absent):
        site.questions.clear()
        site.refusals.clear()
        refusals.append(await client.refused(name, argument))
        work.append((list(site.questions), list(site.refusals)))
    assert [refusal.code for refusal in refusals] == [NO_DOMAIN, NO_DOMAIN]
    assert refusals[0].domain == refusals[1].domain
    assert work[0] == work[1]
    assert work[0][1]


async def test_a_hidden_name_is_unknown(site: Site) -> None:
    await same_refusals(site, "DOMAIN_LOOKUP_BY_NAME", "db", "nothing")


async def test_a_hidden_uuid_is_unknown(site: Site) -> None:
    _, uuid, _ = await site.domain("db")
    await same_refusals(site, "DOMAIN_LOOKUP_BY_UUID", uuid, bytes(16))


async def test_a_hidden_id_is_unknown(site: Site) -> None:
    _, _, number = await site.domain("db")
    await same_refusals(site, "DOMAIN_LOOKUP_BY_ID", number, 99)


async def test_a_hidden_domain_cannot_be_found_by_an_allowed_name(site: Site) -> None:
    _, uuid, _ = await site.domain("db")
    hidden, absent = ("web-9", uuid, -1), ("web-9", bytes(16), -1)
    await same_refusals(site, "DOMAIN_GET_INFO", hidden, absent)


async def test_who_may_see_all_is_refused_nothing_that_is_absent(site: Site) -> None:
    client = await site.opened(VIEWER)
    assert (await client.refused("DOMAIN_LOOKUP_BY_NAME", "nothing")).code == NO_DOMAIN
    assert (await client.refused("DOMAIN_GET_INFO", ("nothing", bytes(16), -1))).code == NO_DOMAIN
    assert site.refusals == []


async def test_what_may_be_seen_and_is_absent_is_not_found_whatever_else_is_missing(
    site: Site,
) -> None:
    client = await site.opened(VIEWER)
    refusal = await client.refused("DOMAIN_SUSPEND", ("nothing", bytes(16), -1))
    assert refusal.code == NO_DOMAIN


async def test_a_call_on_a_hidden_domain_finds_none(site: Site) -> None:
    hidden = await site.domain("db")
    await same_refusals(site, "DOMAIN_GET_INFO", hidden, ("nothing", bytes(16), -1))


async def test_a_checkpoint_of_a_hidden_domain_is_not_there(site: Site) -> None:
    client = await site.opened()
    hidden = await site.domain("db")
    refusal = await client.refused("DOMAIN_CHECKPOINT_GET_XML_DESC", ("tuesday", hidden), 0)
    assert refusal.code == NO_DOMAIN


async def test_the_refusal_of_a_hidden_domain_has_the_words_of_an_absent_one(site: Site) -> None:
    client, other = await site.opened(), await site.opened(ROOT)
    hidden = await site.domain("db")
    mine = await client.refused("DOMAIN_GET_INFO", hidden)
    await other.call("DOMAIN_DESTROY", hidden)
    await other.call("DOMAIN_UNDEFINE_FLAGS", hidden, 16)
    theirs = await other.refused("DOMAIN_GET_INFO", hidden)
    assert mine.message == theirs.message


async def test_what_is_granted_works(site: Site) -> None:
    client = await site.opened()
    domain = await site.domain("web-1")
    (made,) = await client.call("DOMAIN_CHECKPOINT_CREATE_XML", domain, CHECKPOINT, 0)
    await client.call("DOMAIN_CHECKPOINT_DELETE", made, 0)


async def test_what_is_not_granted_on_a_visible_domain_is_refused_and_named(site: Site) -> None:
    client = await site.opened()
    refusal = await client.refused("DOMAIN_SUSPEND", await site.domain("web-1"))
    assert refusal.code == DENIED
    assert "domain:suspend" in (refusal.message or "")
    assert site.refusals == [("DOMAIN_SUSPEND", "domain:suspend")]


async def test_a_refused_call_has_no_effect(site: Site) -> None:
    client = await site.opened()
    domain = await site.domain("web-1")
    await client.refused("DOMAIN_SUSPEND", domain)
    assert (await client.call("DOMAIN_GET_STATE", domain, 0))[0] == DomainState.RUNNING


async def test_a_second_permission_is_asked_for_too(site: Site) -> None:
    """Beginning a backup needs to write blocks beside making a checkpoint."""
    client = await site.opened()
    domain = await site.domain("web-1")
    refusal = await client.refused("DOMAIN_BACKUP_BEGIN", domain, "<domainbackup/>", None, 0)
    assert refusal.code == DENIED
    assert site.refusals == [("DOMAIN_BACKUP_BEGIN", "domain:block-write")]


async def test_a_flag_may_need_a_permission_of_its_own(site: Site) -> None:
    client = await site.opened()
    domain = await site.domain("web-1")
    await client.call("DOMAIN_GET_XML_DESC", domain, 0)
    refusal = await client.refused("DOMAIN_GET_XML_DESC", domain, 1)
    assert refusal.code == DENIED
    assert site.refusals == [("DOMAIN_GET_XML_DESC", "domain:read-secure")]


async def test_rights_come_before_other_mistakes(site: Site) -> None:
    client = await site.opened()
    refusal = await client.refused("DOMAIN_SUSPEND", await site.domain("web-2"))
    assert refusal.code == DENIED


async def test_defining_what_one_may_not_write_is_refused(site: Site) -> None:
    client = await site.opened()
    refusal = await client.refused("DOMAIN_DEFINE_XML", "<domain><name>web-3</name></domain>")
    assert refusal.code == DENIED


async def test_a_domain_cannot_be_replaced_by_an_allowed_name(site: Site) -> None:
    """Who may write `web-*` may not take over a UUID that belongs to another."""
    client = await site.opened()
    _, uuid, _ = await site.domain("db")
    xml = f"<domain><name>web-9</name><uuid>{uuid.hex()}</uuid></domain>"
    refusal = await client.refused("DOMAIN_DEFINE_XML_FLAGS", xml, 0)
    assert refusal.code == DENIED
    assert "domain web-9" in (refusal.message or "")
    assert site.refusals == [("DOMAIN_DEFINE_XML_FLAGS", "domain:write")]


LIFECYCLE = 0


async def watching(site: Site, identity: Identity) -> Any:  # noqa: ANN401 - RawClient
    client = await site.opened(identity)
    await client.call("CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY", LIFECYCLE, None)
    return client


async def test_events_of_hidden_domains_do_not_come(site: Site) -> None:
    root = await site.opened(ROOT)
    client = await watching(site, Identity(sasl_name="alice"))
    await root.call("DOMAIN_SUSPEND", await site.domain("db"))
    await root.call("DOMAIN_SUSPEND", await site.domain("web-1"))
    event = await client.frame()
    message = client.procedures["DOMAIN_EVENT_CALLBACK_LIFECYCLE"].decode_message(event.payload)
    assert message[1][0][0] == "web-1"
    assert await client.is_silent()


async def test_a_procedure_that_nobody_answers_is_refused_all_the_same(site: Site) -> None:
    client = await site.opened()
    refusal = await client.refused("DOMAIN_MIGRATE_PREPARE_TUNNEL", 0, "x", 0, None, 0, "x")
    assert refusal.code == DENIED


@pytest.mark.parametrize("name", ["SECRET_DEFINE_XML"])
async def test_secrets_need_their_own_permission(site: Site, name: str) -> None:
    client = await site.opened()
    assert (await client.refused(name, "<secret/>", 0)).code == DENIED


async def test_a_secret_one_may_not_see_is_not_there(site: Site) -> None:
    root, client = await site.opened(ROOT), await site.opened()
    (secret,) = await root.call(
        "SECRET_DEFINE_XML", "<secret><description>x</description></secret>", 0
    )
    assert await client.call("CONNECT_LIST_ALL_SECRETS", 1, 0) == ([], 0)
    assert (await client.refused("SECRET_LOOKUP_BY_UUID", secret[0])).code == 66
    assert (await client.refused("SECRET_GET_VALUE", secret, 0)).code == 66


async def test_the_view_of_everything_is_everything(site: Site) -> None:
    client = await site.opened(VIEWER)
    assert names(await client.call("CONNECT_LIST_ALL_DOMAINS", 1, 0)) == {"web-1", "web-2", "db"}
