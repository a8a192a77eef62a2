"""Every procedure of the interface, called without rights: refused, and nothing has happened."""

from importlib import resources
from typing import Any, Final

from access_site import Site
from raw_client import RawClient

from virtbackupd.drivers.events import DomainRef
from virtbackupd.protocol import schema
from virtbackupd.protocol.errors import RemoteError
from virtbackupd.protocol.idl import Declaration, EnumType, Shape, Struct, Typedef, Union, parse
from virtbackupd.protocol.procedures import Procedure
from virtbackupd.server.access.permissions import demands
from virtbackupd.server.identity import Identity
from virtbackupd.server.translate import CHECKPOINT, DOMAIN, SNAPSHOT

RULES = """
trust_owner = false
[[rules]]
who = { sasl = "alice" }
may = ["suspend"]
on = { name = "web-2" }

[[rules]]
who = { sasl = "looker" }
may = ["getattr"]
"""
TEXT: Final = (resources.files("virtbackupd.protocol") / "remote_protocol.x").read_text("utf-8")
TYPES: Final = parse(TEXT).types
ASKING: Final = [
    found
    for found in schema.load().by_number.values()
    if not found.is_event and demands(found) and found.name != "CONNECT_OPEN"
]
DENIED, NO_DOMAIN, NO_SECRET = 88, 42, 66
XML: Final = "<domain><name>x</name></domain>"


def blank(declared: Declaration, domain: Any) -> Any:  # noqa: ANN401 - any wire value
    """The least value of a type; a domain is the one given."""
    if declared.shape is Shape.OPTIONAL:
        return None
    if declared.type_name == "string":
        return XML
    if declared.type_name == "opaque":
        return bytes(declared.size or 0) if declared.shape is Shape.FIXED_ARRAY else b""
    if declared.shape is not Shape.ONE:
        return []
    return _blank_type(declared.type_name, domain)


def _blank_type(name: str, domain: Any) -> Any:  # noqa: ANN401 - any wire value
    if name == DOMAIN:
        return domain
    found = TYPES.get(name)
    if isinstance(found, Typedef):
        return blank(found.declaration, domain)
    if isinstance(found, Struct):
        return tuple(blank(field, domain) for field in found.fields)
    if isinstance(found, EnumType):
        return found.members[0].value
    assert not isinstance(found, Union), name
    return 0.0 if name in ("double", "float") else 0


def arguments(procedure: Procedure, domain: Any) -> tuple[Any, ...]:  # noqa: ANN401 - wire values
    fields = procedure.args.fields if procedure.args else ()
    return tuple(blank(field, domain) for field in fields)


def only_looks(procedure: Procedure) -> bool:
    """Whoever has any rule may connect and look around; what lists show is another matter."""
    return all(
        demand.permission.object == "connect"
        and (demand.permission.name in ("getattr", "read") or "search" in demand.permission.name)
        for demand in demands(procedure)
    )


async def states(site: Site) -> list[object]:
    """What a call could have changed."""
    refs = [await site.domain(name) for name in ("web-1", "web-2", "db")]
    domains = [site.driver.domain_by_uuid(ref.uuid) for ref in refs]
    return [
        (domain.ref, domain.get_state(0), domain.get_xml_desc(2), domain.list_all_checkpoints(0))
        for domain in domains
    ]


async def refusal_of(
    site: Site, client: RawClient, procedure: Procedure, domain: DomainRef
) -> RemoteError:
    """Of a call that must have no effect."""
    before = await states(site)
    refusal = await client.refused(procedure.name, *arguments(procedure, tuple(domain)))
    assert await states(site) == before, procedure.name
    return refusal


async def test_without_rights(site: Site) -> None:
    client = await site.opened(Identity(sasl_name="alice"))
    hidden = await site.domain("db")
    for procedure in ASKING:
        if not only_looks(procedure):
            refusal = await refusal_of(site, client, procedure, hidden)
            assert refusal.code in (DENIED, NO_DOMAIN, NO_SECRET), procedure.name


async def test_what_is_hidden_and_what_is_absent_make_the_same_work(site: Site) -> None:
    """Questions and lines in the audit log would otherwise be told from the time they take."""
    client = await site.opened(Identity(sasl_name="alice"))
    name, uuid, number = await site.domain("db")
    absent = DomainRef("dc", uuid[::-1], number)
    for procedure in filter(on_a_domain_or_part, ASKING):
        work = []
        for domain in (DomainRef(name, uuid, number), absent):
            site.questions.clear()
            site.refusals.clear()
            await client.refused(procedure.name, *arguments(procedure, tuple(domain)))
            work.append((list(site.questions), list(site.refusals)))
        assert work[0] == work[1], procedure.name
        assert work[0][0], procedure.name


async def test_with_the_right_to_see_alone(site: Site) -> None:
    """A visible domain refuses by name, and every refusal is told to whoever keeps count."""
    client = await site.opened(Identity(sasl_name="looker"))
    visible = await site.domain("web-1")
    for procedure in filter(on_a_domain, ASKING):
        if {str(demand.permission) for demand in demands(procedure)} == {"domain:getattr"}:
            continue
        refusal = await refusal_of(site, client, procedure, visible)
        assert refusal.code == DENIED, procedure.name
        assert site.refusals[-1][0] == procedure.name


def test_all_of_the_interface_is_here() -> None:
    assert len(ASKING) > 380


def on_a_domain_or_part(procedure: Procedure) -> bool:
    """Also those on a checkpoint or a snapshot."""
    fields = procedure.args.fields if procedure.args else ()
    if not fields or fields[0].shape is not Shape.ONE:
        return False
    return fields[0].type_name in (DOMAIN, CHECKPOINT, SNAPSHOT)


def on_a_domain(procedure: Procedure) -> bool:
    fields = procedure.args.fields if procedure.args else ()
    return bool(fields) and fields[0].type_name == DOMAIN and fields[0].shape is Shape.ONE
