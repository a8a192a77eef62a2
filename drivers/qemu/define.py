"""How domains come into being, and what may be changed in their definitions at any time.

What is persistent is on the disk before a call returns. A running domain keeps its live definition
when it is defined anew.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from virtbackupd.drivers import store
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.enums import Create, DefinedDetail, Lifecycle
from virtbackupd.drivers.errors import OperationInvalid, Origin
from virtbackupd.drivers.flags import CREATE, FlagRules
from virtbackupd.drivers.metadata import Request, apply_metadata, plan_metadata
from virtbackupd.drivers.qemu import lifecycle, save
from virtbackupd.drivers.qemu.prepare import completed, renew_variables

if TYPE_CHECKING:
    from virtbackupd.drivers.qemu.domain import QemuDomain
    from virtbackupd.drivers.qemu.host import Host

_DEFINE = FlagRules("virDomainDefineXMLFlags", 1)


async def define(host: "Host", xml: str, flags: int) -> "QemuDomain":
    """Add a domain, or replace what its next start uses."""
    _DEFINE.check(flags)
    definition = await completed(host, DomainDefinition.parse(xml, validate=bool(flags)))
    async with host.defining:
        domain = host.domains.matching(definition.name, definition.uuid)
        await store.write(definition_path(host, definition.name), definition.to_xml())
        detail = DefinedDetail.ADDED
        if domain is None:
            domain = host.add(definition)
        elif domain.persistent is not None:
            detail = DefinedDetail.UPDATED
        domain.persistent = definition
        domain.publish(Lifecycle.DEFINED, detail)
        return domain


async def create_transient(host: "Host", xml: str, flags: int) -> "QemuDomain":
    """Start a domain from XML; it stays persistent if it was defined before."""
    CREATE.check(flags)
    definition = DomainDefinition.parse(xml, validate=bool(flags & Create.VALIDATE))
    definition = await completed(host, definition)
    domain = host.domains.matching(definition.name, definition.uuid)
    if domain is None:
        domain = host.add(definition)
    async with domain.modify("virDomainCreateXML"):
        if domain.active:
            raise OperationInvalid(
                f"domain {definition.name} is already active", origin=Origin.DOMAIN
            )
        if domain.saved is not None:
            await save.discard(domain)
        try:
            await renew_variables(host, definition, flags)
            await lifecycle.boot(domain, definition, paused=bool(flags & Create.PAUSED))
        finally:
            if not domain.active and domain.persistent is None:
                await domain.forget()
    return domain


async def set_metadata(domain: "QemuDomain", request: Request) -> None:
    """Change title, description or a metadata element."""
    async with domain.modify("virDomainSetMetadata"):
        change = plan_metadata(domain, request)
        if change.persistent is not None:
            path = definition_path(domain.host, domain.ref.name)
            await store.write(path, change.persistent.to_xml())
        apply_metadata(domain, request, change)
        await domain.save_status()


async def set_autostart(domain: "QemuDomain", wanted: bool) -> None:
    """Start the domain with the daemon, or no longer."""
    if domain.persistent is None:
        raise OperationInvalid(f"domain {domain.ref.name} is transient and cannot be autostarted")
    path = autostart_path(domain.host, domain.ref.name)
    if wanted:
        await store.write(path, "")
    else:
        await store.remove(path)
    domain.autostart = wanted


def definition_path(host: "Host", name: str) -> Path:
    return host.settings.definitions / f"{name}.xml"


def autostart_path(host: "Host", name: str) -> Path:
    return host.settings.autostart / f"{name}.xml"
