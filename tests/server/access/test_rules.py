"""Which rules grant what to whom; and files of rules that are refused."""

import os
from uuid import UUID

import pytest

from virtbackupd.drivers.errors import NoDomainMetadata
from virtbackupd.drivers.interface import Domain
from virtbackupd.server.access.control import CONNECTION, Subject
from virtbackupd.server.access.permissions import permission
from virtbackupd.server.access.rules_file import RulesError, rules_in
from virtbackupd.server.identity import Identity

UUID_TEXT = "6695eb01-f6a4-8304-79aa-97f2502e193f"


class Labelled(Domain):
    """A domain with one element of metadata."""

    def get_metadata(self, type: int, uri: str | None, flags: int) -> str:  # noqa: A002
        del type, flags
        if uri != "urn:team":
            raise NoDomainMetadata("nothing of the kind")
        return "<team xmlns='urn:team' name='payroll'/>"


WEB = Subject("domain", "web-1", UUID(UUID_TEXT).bytes, Labelled())
SECRET = Subject("secret", "x", bytes(16))


def allowed(text: str, identity: Identity, wanted: str, subject: Subject = WEB) -> bool:
    rules = rules_in("rules.toml", f"trust_owner = false\n{text}")
    return rules.allows(identity, permission(wanted), subject)


def rule(who: str = "", may: str = '["read"]', on: str = "") -> str:
    return f"[[rules]]\nwho = {{ {who} }}\nmay = {may}\non = {{ {on} }}\n"


ANYBODY = Identity()


@pytest.mark.parametrize(
    ("who", "identity", "fits"),
    [
        ("", ANYBODY, True),
        ("uid = 7", Identity(uid=7), True),
        ("uid = 7", Identity(uid=8), False),
        ("uid = 0", ANYBODY, False),
        ('user = "roo*"', Identity(uid=0), True),
        ('user = "roo*"', ANYBODY, False),
        ("gid = 5", Identity(uid=7, gid=4, gids=frozenset({4, 5})), True),
        ("gid = 6", Identity(uid=7, gid=4, gids=frozenset({4, 5})), False),
        ('group = "root"', Identity(uid=7, gids=frozenset({0})), True),
        ('sasl = "backup@*"', Identity(sasl_name="backup@site"), True),
        ('sasl = "backup@*"', Identity(sasl_name="backup"), False),
        ('dn = "CN=backup,*"', Identity(dn="CN=backup,O=us"), True),
        ('dn = "CN=backup,*"', Identity(dn="CN=other,O=us"), False),
        ('uid = 7, sasl = "a"', Identity(uid=7), False),
    ],
)
def test_who(who: str, identity: Identity, fits: bool) -> None:
    assert allowed(rule(who), identity, "domain:read") is fits


@pytest.mark.parametrize(
    ("may", "wanted", "granted"),
    [
        ('["read"]', "domain:read", True),
        ('["read"]', "domain:getattr", True),
        ('["read"]', "domain:read_secure", False),
        ('["read"]', "secret:read", False),
        ('["read_secure"]', "domain:read_secure", True),
        ('["block-write", "checkpoint"]', "domain:checkpoint", True),
        ('["domain:*"]', "domain:delete", True),
        ('["domain:*"]', "secret:read", False),
        ('["secret:read"]', "secret:getattr", True),
        ('["*"]', "secret:read_secure", True),
        ('["storage_pool:read"]', "storage_pool:read", True),
        ('["read"]', "connect:search_domains", True),
        ('["read"]', "connect:read", True),
        ('["read"]', "connect:write", False),
        ('["connect:write"]', "connect:write", True),
    ],
)
def test_may(may: str, wanted: str, granted: bool) -> None:
    kind = wanted.partition(":")[0]
    subject = {"domain": WEB, "connect": CONNECTION}.get(kind, Subject(kind))
    assert allowed(rule(may=may), ANYBODY, wanted, subject) is granted


@pytest.mark.parametrize(
    ("on", "fits"),
    [
        ('name = "web-*"', True),
        ('name = "db"', False),
        (f'uuid = "{UUID_TEXT}"', True),
        ('uuid = "0*"', False),
        ('metadata = "urn:team"', True),
        ('metadata = "urn:other"', False),
        ("metadata = 'urn:team', metadata_has = \"name='payroll'\"", True),
        ("metadata = 'urn:team', metadata_has = \"name='sales'\"", False),
        ('name = "web-*", metadata = "urn:other"', False),
    ],
)
def test_on(on: str, fits: bool) -> None:
    assert allowed(rule(on=on), ANYBODY, "domain:read") is fits


def test_a_domain_that_is_gone_has_no_metadata() -> None:
    gone = Subject("domain", "web-1", WEB.uuid)
    assert not allowed(rule(on='metadata = "urn:team"'), ANYBODY, "domain:read", gone)


def test_a_rule_for_certain_domains_grants_nothing_on_secrets() -> None:
    text = rule(may='["*"]', on='name = "web-*"')
    assert not allowed(text, ANYBODY, "secret:read", SECRET)


def test_any_of_the_rules_is_enough() -> None:
    assert allowed(rule("uid = 1") + rule("uid = 2"), Identity(uid=2), "domain:read")


def test_without_rules_nothing_is_granted() -> None:
    assert not allowed("", ANYBODY, "connect:getattr", CONNECTION)


@pytest.mark.parametrize(("uid", "trusted"), [(0, True), (os.getuid(), True), (54321, False)])
def test_the_owner_is_trusted(uid: int, trusted: bool) -> None:
    rules = rules_in("rules.toml", "")
    assert rules.allows(Identity(uid=uid), permission("domain:delete"), WEB) is trusted


def test_nobody_is_the_owner_over_a_network() -> None:
    rules = rules_in("rules.toml", "")
    assert not rules.allows(Identity(uid=None), permission("domain:read"), WEB)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[rules]]\nmay = []", "rules.toml:2: rules[0].may: a rule that grants nothing"),
        ('[[rules]]\nmay = ["raed"]', "rules.toml:2: rules[0].may: there is no permission 'raed'"),
        ('[[rules]]\nmay = ["disk:read"]', "rules.toml:2: rules[0].may: there is no permission"),
        ("[[rules]]\nwho = { uid = 1 }", "rules.toml:1: rules[0]: the key 'may' is missing"),
        (
            '[[rules]]\nmay = ["read"]\nwho = { uid = "x" }',
            "rules.toml:3: rules[0].who.uid: expected `int | null`, got `str`",
        ),
        ('[[rules]]\nmay = ["read"]\nfor = 1', "rules.toml:3: rules[0].for: unknown key"),
        (
            '[[rules]]\nmay = ["read"]\n[rules.on]\nmetadata_has = "x"',
            "rules.toml:4: rules[0].on.metadata_has: say in `metadata`",
        ),
        ("[[rules]", "rules.toml:1: not TOML"),
    ],
)
def test_a_wrong_file_is_refused_whole(text: str, complaint: str) -> None:
    with pytest.raises(RulesError) as caught:
        rules_in("rules.toml", text)
    assert caught.value.message.startswith(complaint)


def test_the_known_permissions_are_listed() -> None:
    with pytest.raises(RulesError, match="block-write, checkpoint"):
        rules_in("rules.toml", '[[rules]]\nmay = ["raed"]')
