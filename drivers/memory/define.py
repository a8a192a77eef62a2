"""How domains come into being: defined, created without definition, or given by the world.

A running domain keeps its live definition when it is defined anew.
"""

from typing import TYPE_CHECKING

from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.enums import Create, DefinedDetail, DomainState, Lifecycle, ShutoffReason
from virtbackupd.drivers.errors import OperationInvalid, Origin
from virtbackupd.drivers.flags import CREATE, FlagRules
from virtbackupd.drivers.memory import lifecycle, media
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.pretended import read_domain

if TYPE_CHECKING:
    from virtbackupd.drivers.memory.host import Host

_DEFINE = FlagRules("virDomainDefineXMLFlags", 1)


def define(host: "Host", xml: str, flags: int) -> MemoryDomain:
    """Add a domain, or replace what its next start uses."""
    _DEFINE.check(flags)
    definition = read_domain(xml, host.profile, validate=bool(flags))
    domain = host.domains.matching(definition.name, definition.uuid)
    detail = DefinedDetail.ADDED
    if domain is None:
        domain = MemoryDomain(host, definition)
        host.domains.add(domain)
    elif domain.persistent is not None:
        detail = DefinedDetail.UPDATED
    domain.persistent = definition
    domain.publish(Lifecycle.DEFINED, detail)
    return domain


async def create_transient(host: "Host", xml: str, flags: int) -> MemoryDomain:
    """Start a domain from XML; it stays persistent if it was defined before."""
    CREATE.check(flags)
    definition = read_domain(xml, host.profile, validate=bool(flags & Create.VALIDATE))
    _inactive(host, definition)
    await media.take_files(host, definition.disks)
    domain = _inactive(host, definition)
    if domain is None:
        domain = MemoryDomain(host, definition)
        domain.persistent = None
        host.domains.add(domain)
    domain.saved = None
    lifecycle.boot(domain, definition, paused=bool(flags & Create.PAUSED))
    return domain


def _inactive(host: "Host", definition: DomainDefinition) -> MemoryDomain | None:
    domain = host.domains.matching(definition.name, definition.uuid)
    if domain is not None and domain.active:
        raise OperationInvalid(f"domain {definition.name} is already active", origin=Origin.DOMAIN)
    return domain


def adopt(
    host: "Host",
    definition: DomainDefinition,
    state: DomainState,
    live: DomainDefinition | None = None,
) -> MemoryDomain:
    """Take in a domain of the world, in that state, without a word to anybody.

    `live` is what runs, where that is not the definition.
    """
    domain = MemoryDomain(host, definition)
    host.domains.add(domain)
    if state is DomainState.SHUTOFF:
        domain.enter(state, ShutoffReason.UNKNOWN)
    else:
        lifecycle.boot(domain, live or definition, paused=state is DomainState.PAUSED)
    return domain
