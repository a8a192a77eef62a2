"""Who a client is. No socket asks for credentials: schemes but `none` refuse as libvirt does.

What a client may do before it is known is decided in `dispatch`.
"""

from virtbackupd.drivers.errors import InternalError, Origin
from virtbackupd.protocol.message import Request
from virtbackupd.server.errors import AuthenticationFailed
from virtbackupd.server.session import Session
from virtbackupd.server.translate import Handler, Wire

AUTH_NONE = 0


def _list(_session: Session, _args: Wire, _call: Request) -> Wire:
    return ([AUTH_NONE],)


def _no_sasl(_session: Session, _args: Wire, _call: Request) -> None:
    raise AuthenticationFailed("this socket asks for no SASL authentication; open it directly")


def _no_polkit(_session: Session, _args: Wire, _call: Request) -> None:
    raise InternalError(
        "this socket asks for no polkit authentication; open it directly", origin=Origin.RPC
    )


HANDLERS: dict[str, Handler] = {
    "AUTH_LIST": _list,
    "AUTH_SASL_INIT": _no_sasl,
    "AUTH_SASL_START": _no_sasl,
    "AUTH_SASL_STEP": _no_sasl,
    "AUTH_POLKIT": _no_polkit,
}
