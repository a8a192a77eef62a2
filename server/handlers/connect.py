"""Opening and closing a connection, and the questions stock clients ask about it.

Knows no socket: closing is asked of the link.
"""

from virtbackupd.drivers.errors import InternalError, InvalidArgument, Origin
from virtbackupd.drivers.profiles import CONNECTION_FEATURES
from virtbackupd.protocol.message import Request
from virtbackupd.server.session import Session, Stage
from virtbackupd.server.translate import Handler, Wire

READ_ONLY = 1
"""VIR_CONNECT_RO."""

KEEPALIVE_FEATURE = 10
FEATURES = frozenset({9, KEEPALIVE_FEATURE, 14, 15, 16})
"""Typed-parameter strings, keepalive, event callbacks, close callbacks, network-update order.

Not 8: no descriptors are passed yet, and clients then do not try.
"""


def _open(session: Session, args: Wire, _call: Request) -> None:
    name, flags = args
    if session.stage is Stage.OPEN:
        raise InternalError(f"this connection is open already, as {session.uri}", origin=Origin.RPC)
    if name is None:
        raise InternalError("no URI was given; an empty one picks the default", origin=Origin.RPC)
    session.open(name, read_only=bool(flags & READ_ONLY))


def _close(session: Session, _args: Wire, _call: Request) -> None:
    session.link.close_after_reply()


def _supports_feature(session: Session, args: Wire, _call: Request) -> Wire:
    """Asking for keepalive says that the client itself answers pings."""
    feature = args[0]
    if feature == KEEPALIVE_FEATURE:
        session.link.start_keepalive()
    elif session.stage < Stage.OPEN:
        raise InternalError("hypervisor connection not open", origin=Origin.RPC)
    return (int(feature in FEATURES and _has_feature(session, feature)),)


def _has_feature(session: Session, feature: int) -> bool:
    row = CONNECTION_FEATURES.get(feature)
    return row is None or session.driver.profile.has(row.since)


def _get_uri(session: Session, _args: Wire, _call: Request) -> Wire:
    return (session.uri,)


def _is_secure(session: Session, _args: Wire, _call: Request) -> Wire:
    return (int(session.secure),)


def _register_close_callback(session: Session, _args: Wire, _call: Request) -> None:
    session.close_callback = True


def _unregister_close_callback(session: Session, _args: Wire, _call: Request) -> None:
    session.close_callback = False


def _lookup_network(session: Session, args: Wire, _call: Request) -> None:
    session.driver.network_lookup(_named(args[0]))


def _lookup_pool(session: Session, args: Wire, _call: Request) -> None:
    session.driver.storage_pool_lookup(_named(args[0]))


def _named(key: object) -> str:
    """A name, a UUID, or an object whose first field is its name."""
    if isinstance(key, bytes):
        return f"with UUID {key.hex()}"
    if isinstance(key, tuple):
        return _named(key[0])
    if isinstance(key, str):
        return f"{key!r}"
    raise InvalidArgument("a lookup needs a name or a UUID")


NETWORK_LOOKUPS = (
    "NETWORK_LOOKUP_BY_NAME",
    "NETWORK_GET_AUTOSTART",
    "NETWORK_IS_ACTIVE",
    "NETWORK_IS_PERSISTENT",
    "NETWORK_GET_XML_DESC",
    "NETWORK_GET_BRIDGE_NAME",
)
POOL_LOOKUPS = (
    "STORAGE_POOL_LOOKUP_BY_NAME",
    "STORAGE_POOL_LOOKUP_BY_TARGET_PATH",
    "STORAGE_POOL_GET_INFO",
    "STORAGE_POOL_GET_AUTOSTART",
    "STORAGE_POOL_GET_XML_DESC",
    "STORAGE_POOL_IS_ACTIVE",
    "STORAGE_POOL_IS_PERSISTENT",
    "STORAGE_POOL_NUM_OF_VOLUMES",
    "STORAGE_POOL_LIST_VOLUMES",
    "STORAGE_POOL_LIST_ALL_VOLUMES",
)

HANDLERS: dict[str, Handler] = {
    "CONNECT_OPEN": _open,
    "CONNECT_CLOSE": _close,
    "CONNECT_SUPPORTS_FEATURE": _supports_feature,
    "CONNECT_GET_URI": _get_uri,
    "CONNECT_IS_SECURE": _is_secure,
    "CONNECT_REGISTER_CLOSE_CALLBACK": _register_close_callback,
    "CONNECT_UNREGISTER_CLOSE_CALLBACK": _unregister_close_callback,
    **dict.fromkeys(NETWORK_LOOKUPS, _lookup_network),
    **dict.fromkeys(POOL_LOOKUPS, _lookup_pool),
}
