"""Registering and deregistering callbacks, for both generations of domain events and the other
families.

Families whose objects no driver here manages are accepted and stay silent: clients that watch them
would otherwise fall back to polling.
"""

from collections.abc import Callable

from virtbackupd.drivers.errors import InternalError, Origin
from virtbackupd.protocol.message import Request
from virtbackupd.server.event_forms import EVENT_COUNTS, LEGACY_COUNT, Family
from virtbackupd.server.events import Registration
from virtbackupd.server.session import Session
from virtbackupd.server.translate import Handler, Wire

_UUID_POSITIONS = {Family.DOMAIN: 1, Family.NETWORK: 1, Family.STORAGE_POOL: 1, Family.SECRET: 0}
LIFECYCLE = 0


def _check_id(event_id: int, count: int) -> None:
    if not 0 <= event_id < count:
        raise InternalError(f"unsupported event ID {event_id}", origin=Origin.RPC)


def _register(family: Family) -> Handler:
    def call(session: Session, args: Wire, _call: Request) -> Wire:
        event_id, wanted = args
        _check_id(event_id, EVENT_COUNTS[family])
        return (
            session.callbacks.register(Registration(family, event_id, _filter(family, wanted))),
        )

    return call


def _filter(family: Family, wanted: Wire | None) -> bytes | None:
    """The UUID of the one object whose events are wanted; node devices have a name instead."""
    if wanted is None:
        return None
    position = _UUID_POSITIONS.get(family)
    key: bytes = str(wanted[0]).encode() if position is None else wanted[position]
    return key


def _deregister(family: Family) -> Handler:
    def call(session: Session, args: Wire, _call: Request) -> None:
        session.callbacks.deregister(family, args[0])

    return call


def _register_monitor(session: Session, args: Wire, _call: Request) -> Wire:
    domain, event, _flags = args
    wanted = Registration(Family.MONITOR, event or "", domain and domain[1])
    return (session.callbacks.register(wanted),)


def _legacy(change: Callable[[Session, int], None]) -> Handler:
    def call(session: Session, args: Wire, _call: Request) -> None:
        _check_id(args[0], LEGACY_COUNT)
        change(session, args[0])

    return call


def _legacy_lifecycle(change: Callable[[Session, int], None], remaining: int) -> Handler:
    """The oldest calls know lifecycle events only, and answer how many callbacks there are."""

    def call(session: Session, _args: Wire, _call: Request) -> Wire:
        change(session, LIFECYCLE)
        return (remaining,)

    return call


def _add_legacy(session: Session, event_id: int) -> None:
    session.callbacks.register_legacy(event_id)


def _remove_legacy(session: Session, event_id: int) -> None:
    session.callbacks.deregister_legacy(event_id)


_FAMILY_CALLS = {
    "CONNECT_DOMAIN_EVENT_CALLBACK_": Family.DOMAIN,
    "CONNECT_SECRET_EVENT_": Family.SECRET,
    "CONNECT_NETWORK_EVENT_": Family.NETWORK,
    "CONNECT_STORAGE_POOL_EVENT_": Family.STORAGE_POOL,
    "CONNECT_NODE_DEVICE_EVENT_": Family.NODE_DEVICE,
}

HANDLERS: dict[str, Handler] = {
    **{f"{name}REGISTER_ANY": _register(family) for name, family in _FAMILY_CALLS.items()},
    **{f"{name}DEREGISTER_ANY": _deregister(family) for name, family in _FAMILY_CALLS.items()},
    "QEMU_CONNECT_DOMAIN_MONITOR_EVENT_REGISTER": _register_monitor,
    "QEMU_CONNECT_DOMAIN_MONITOR_EVENT_DEREGISTER": _deregister(Family.MONITOR),
    "CONNECT_DOMAIN_EVENT_REGISTER": _legacy_lifecycle(_add_legacy, 1),
    "CONNECT_DOMAIN_EVENT_DEREGISTER": _legacy_lifecycle(_remove_legacy, 0),
    "CONNECT_DOMAIN_EVENT_REGISTER_ANY": _legacy(_add_legacy),
    "CONNECT_DOMAIN_EVENT_DEREGISTER_ANY": _legacy(_remove_legacy),
}
