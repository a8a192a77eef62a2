"""Calls that return lists of figures, as much of them as the client has room for.

Like a row of the table each names a method of the driver interface; how its answer goes onto the
wire stands beside it. An old client may ask with room for none first, to learn the count.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from virtbackupd.drivers.interface import Domain, Driver, VcpuInfo
from virtbackupd.protocol.message import Request
from virtbackupd.server.session import Session
from virtbackupd.server.translate import Handler, Method, Wire, typed_params

STRING_OKAY = 4
"""VIR_TYPED_PARAM_STRING_OKAY: no parameter here is a string."""


class FigureRow(NamedTuple):
    """A method, which of the call's arguments it takes, and what is made of its answer."""

    method: Method
    taken: Callable[[Wire], Wire]
    encode: Callable[[Any, Wire], Wire]


def _handler(row: FigureRow) -> Handler:
    name, of_domain = row.method.__name__, row.method.__qualname__.startswith("Domain.")

    async def call(session: Session, args: Wire, _call: Request) -> Wire:
        target: Domain | Driver = session.driver
        if of_domain:
            target, args = session.driver.domain_by_uuid(args[0][1]), args[1:]
        answer = getattr(target, name)(*row.taken(args))
        return row.encode(await answer if isinstance(answer, Awaitable) else answer, args)

    return call


def _last(args: Wire) -> Wire:
    return args[-1:]


def _all(args: Wire) -> Wire:
    return args


def _none(_args: Wire) -> Wire:
    return ()


def _limited(found: Sequence[Any], args: Wire) -> Wire:
    return (found[: args[0]],)


def _counted(found: Sequence[Any], args: Wire) -> Wire:
    """Without room the client asks how much it needs."""
    given = found[: args[0]]
    return (given, len(given) if args[0] else len(found))


def _all_counted(found: Sequence[Any], _args: Wire) -> Wire:
    return (found, len(found))


def _whole(found: Sequence[Any], _args: Wire) -> Wire:
    return (found,)


def _cpu_stats_taken(args: Wire) -> Wire:
    _room, start, _count, flags = args
    return (start, flags & ~STRING_OKAY)


def _cpu_stats(found: Sequence[Any], args: Wire) -> Wire:
    """Without a number of processors the client asks how many there are."""
    room, start, count, _flags = args
    if start >= 0 and not count:
        return ([], len(found))
    if not room:
        return ([], len(found[0]))
    params = [param for each in found[:count] for param in each[:room]]
    return (typed_params(params), min(room, len(found[0])))


def _node_figures(found: Sequence[Any], room: int) -> Wire:
    return (found if room > 0 else [], len(found))


def _vcpus(found: Sequence[VcpuInfo], args: Wire) -> Wire:
    """Each map is cut or filled up to the length that the client has room for."""
    room, length = max(args[0], 0), max(args[1], 0)
    asked = found[:room]
    maps = b"".join(vcpu.cpu_map[:length].ljust(length, b"\0") for vcpu in asked)
    return ([tuple(vcpu[:4]) for vcpu in asked], maps)


FIGURES: dict[str, FigureRow] = {
    "DOMAIN_MEMORY_STATS": FigureRow(Domain.memory_stats, _last, _limited),
    "DOMAIN_GET_DISK_ERRORS": FigureRow(Domain.get_disk_errors, _last, _counted),
    "DOMAIN_GET_VCPUS": FigureRow(Domain.get_vcpus, _none, _vcpus),
    "DOMAIN_GET_CPU_STATS": FigureRow(Domain.get_cpu_stats, _cpu_stats_taken, _cpu_stats),
    "DOMAIN_GET_FSINFO": FigureRow(Domain.get_fsinfo, _all, _all_counted),
    "DOMAIN_INTERFACE_ADDRESSES": FigureRow(Domain.interface_addresses, _all, _whole),
    "NODE_GET_CPU_STATS": FigureRow(
        Driver.node_get_cpu_stats,
        lambda args: (args[0], args[2]),
        lambda found, args: _node_figures(found, args[1]),
    ),
    "NODE_GET_MEMORY_STATS": FigureRow(
        Driver.node_get_memory_stats,
        lambda args: (args[1], args[2]),
        lambda found, args: _node_figures(found, args[0]),
    ),
}

HANDLERS: dict[str, Handler] = {name: _handler(row) for name, row in FIGURES.items()}
