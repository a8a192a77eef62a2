"""Figures and labels whose shape on the wire is not that of the driver's answer."""

from collections.abc import Awaitable, Sequence

from virtbackupd.drivers.enums import TypedParameterType
from virtbackupd.drivers.interface import DomainStatsRecord
from virtbackupd.protocol.message import Request
from virtbackupd.server.session import Session
from virtbackupd.server.translate import Handler, Wire, typed_params

STRING_OKAY = 4
"""VIR_TYPED_PARAM_STRING_OKAY: the client can take parameters that are strings."""


async def _all_domain_stats(session: Session, args: Wire, _call: Request) -> Wire:
    domains, stats, flags = args
    uuids = [domain[1] for domain in domains]
    answer = session.driver.get_all_domain_stats(uuids, stats, flags)
    records = await answer if isinstance(answer, Awaitable) else answer
    return (_records(records),)


def _records(records: Sequence[DomainStatsRecord]) -> list[Wire]:
    """Domains that share one list of parameters share its conversion, and then its encoding."""
    shared = {id(record.params): record.params for record in records}
    converted = {key: typed_params(params) for key, params in shared.items()}
    return [(record.domain, converted[id(record.params)]) for record in records]


async def _block_stats_flags(session: Session, args: Wire, _call: Request) -> Wire:
    """Old clients ask with room for none first: they want the count alone."""
    domain, path, room, flags = args
    answer = session.driver.domain_by_uuid(domain[1]).block_stats_flags(path, flags & ~STRING_OKAY)
    params = await answer if isinstance(answer, Awaitable) else answer
    if not flags & STRING_OKAY:
        params = [param for param in params if param.type != TypedParameterType.STRING]
    return (typed_params(params[: max(room, 0)]), len(params))


async def _security_label(session: Session, args: Wire, _call: Request) -> Wire:
    answer = session.driver.domain_by_uuid(args[0][1]).get_security_label()
    label, enforcing = await answer if isinstance(answer, Awaitable) else answer
    return (_terminated(label), enforcing)


async def _security_model(session: Session, _args: Wire, _call: Request) -> Wire:
    answer = session.driver.node_get_security_model()
    model, doi = await answer if isinstance(answer, Awaitable) else answer
    return (_terminated(model), _terminated(doi))


def _terminated(text: bytes) -> bytes:
    """These arrays carry the NUL of the C string as an element."""
    return text + b"\0"


HANDLERS: dict[str, Handler] = {
    "CONNECT_GET_ALL_DOMAIN_STATS": _all_domain_stats,
    "DOMAIN_BLOCK_STATS_FLAGS": _block_stats_flags,
    "DOMAIN_GET_SECURITY_LABEL": _security_label,
    "NODE_GET_SECURITY_MODEL": _security_model,
}
