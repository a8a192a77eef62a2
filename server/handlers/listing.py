"""The list calls: all that match, or only how many when the client asks for no results.

Every list has the same shape on the wire: what belongs to, `need_results`, flags; then the elements
and their count. The legacy lists of domains by id and by name are here too.
"""

from collections.abc import Awaitable, Callable, Sequence
from types import CoroutineType
from typing import Any, NamedTuple

from virtbackupd.drivers.enums import ListDomains
from virtbackupd.drivers.events import DomainRef
from virtbackupd.drivers.interface import Driver
from virtbackupd.protocol.message import Request
from virtbackupd.server.session import Session
from virtbackupd.server.translate import Handler, Result, Wire

NamesToWire = Callable[[Sequence[Any], Wire], Sequence[Any]]


class ListRow(NamedTuple):
    """`of` finds the object whose method `method` lists; `element` makes wire values of names."""

    method: str
    of: Callable[[Session, Wire], tuple[Any, Wire]]
    element: NamesToWire


def _driver(session: Session, args: Wire) -> tuple[Any, Wire]:
    return session.driver, args


def _domain(session: Session, args: Wire) -> tuple[Any, Wire]:
    return session.driver.domain_by_uuid(args[0][1]), args[1:]


def _checkpoint_domain(session: Session, args: Wire) -> tuple[Any, Wire]:
    """The name of the checkpoint becomes the first argument of the method."""
    name, domain = args[0]
    return session.driver.domain_by_uuid(domain[1]), (*args[1:-1], name, args[-1])


def _same(found: Sequence[Any], _args: Wire) -> Sequence[Any]:
    return found


def _of_domain(found: Sequence[Any], args: Wire) -> Sequence[Any]:
    return [(name, args[0]) for name in found]


def _of_checkpoint(found: Sequence[Any], args: Wire) -> Sequence[Any]:
    return [(name, args[0][1]) for name in found]


LISTS = {
    "CONNECT_LIST_ALL_DOMAINS": ListRow("list_all_domains", _driver, _same),
    "CONNECT_LIST_ALL_SECRETS": ListRow("list_all_secrets", _driver, _same),
    "CONNECT_LIST_ALL_NETWORKS": ListRow("list_all_networks", _driver, _same),
    "CONNECT_LIST_ALL_STORAGE_POOLS": ListRow("list_all_storage_pools", _driver, _same),
    "DOMAIN_LIST_ALL_SNAPSHOTS": ListRow("list_all_snapshots", _domain, _of_domain),
    "DOMAIN_LIST_ALL_CHECKPOINTS": ListRow("list_all_checkpoints", _domain, _of_domain),
    "DOMAIN_CHECKPOINT_LIST_ALL_CHILDREN": ListRow(
        "checkpoint_list_all_children", _checkpoint_domain, _of_checkpoint
    ),
}

NOTHING_OF_THE_KIND = (
    "CONNECT_LIST_ALL_INTERFACES",
    "CONNECT_LIST_ALL_NODE_DEVICES",
    "CONNECT_LIST_ALL_NWFILTERS",
)
"""Families that no driver here manages: an empty list is the truth and stock clients like it."""


def _listing(row: ListRow) -> Handler:
    def call(session: Session, args: Wire, _call: Request) -> Result:
        target, (need_results, *rest) = row.of(session, args)
        found = getattr(target, row.method)(*rest)
        if type(found) is CoroutineType:
            return _awaited(row, args, need_results, found)
        return _result(row, args, need_results, found)

    return call


async def _awaited(
    row: ListRow, args: Wire, need_results: int, waiting: Awaitable[Sequence[Any]]
) -> Wire:
    return _result(row, args, need_results, await waiting)


def _result(row: ListRow, args: Wire, need_results: int, found: Sequence[Any]) -> Wire:
    return (row.element(found, args) if need_results else [], len(found))


def _empty(_session: Session, _args: Wire, _call: Request) -> Wire:
    return ([], 0)


async def _domains(driver: Driver, flags: int) -> Sequence[DomainRef]:
    found = driver.list_all_domains(flags)
    return await found if isinstance(found, Awaitable) else found


async def _list_domains(session: Session, args: Wire, _call: Request) -> Wire:
    found = await _domains(session.driver, ListDomains.ACTIVE)
    return ([domain.id for domain in found[: max(args[0], 0)]],)


async def _num_of_domains(session: Session, _args: Wire, _call: Request) -> Wire:
    return (len(await _domains(session.driver, ListDomains.ACTIVE)),)


async def _list_defined_domains(session: Session, args: Wire, _call: Request) -> Wire:
    found = await _domains(session.driver, ListDomains.INACTIVE)
    return ([domain.name for domain in found[: max(args[0], 0)]],)


async def _num_of_defined_domains(session: Session, _args: Wire, _call: Request) -> Wire:
    return (len(await _domains(session.driver, ListDomains.INACTIVE)),)


HANDLERS: dict[str, Handler] = {
    **{name: _listing(row) for name, row in LISTS.items()},
    **dict.fromkeys(NOTHING_OF_THE_KIND, _empty),
    "CONNECT_LIST_DOMAINS": _list_domains,
    "CONNECT_NUM_OF_DOMAINS": _num_of_domains,
    "CONNECT_LIST_DEFINED_DOMAINS": _list_defined_domains,
    "CONNECT_NUM_OF_DEFINED_DOMAINS": _num_of_defined_domains,
}
