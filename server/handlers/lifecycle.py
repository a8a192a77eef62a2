"""Starting a domain, which may be bound to the life of the client that starts it."""

from collections.abc import Awaitable

from virtbackupd.drivers.enums import Create
from virtbackupd.drivers.events import DomainRef
from virtbackupd.drivers.interface import Answer
from virtbackupd.protocol.message import Request
from virtbackupd.server.session import Session
from virtbackupd.server.translate import Handler, Wire


async def _create_xml(session: Session, args: Wire, _call: Request) -> Wire:
    xml, flags = args
    return await _started(session, session.driver.domain_create_xml(xml, flags), flags)


async def _create_with_flags(session: Session, args: Wire, _call: Request) -> Wire:
    domain, flags = args
    starting = session.driver.domain_by_uuid(domain[1]).create_with_flags(flags)
    return await _started(session, starting, flags)


async def _started(session: Session, starting: Answer[DomainRef], flags: int) -> Wire:
    domain = await starting if isinstance(starting, Awaitable) else starting
    if flags & Create.AUTODESTROY:
        session.auto_destroy(domain)
    return (domain,)


HANDLERS: dict[str, Handler] = {
    "DOMAIN_CREATE_XML": _create_xml,
    "DOMAIN_CREATE_WITH_FLAGS": _create_with_flags,
}
