"""The calls by which a client says who it is. What it may do before is decided in `dispatch`.

Why a login failed is for the log alone: the client learns as little as libvirtd tells.
"""

from collections.abc import Awaitable

from virtbackupd.drivers.errors import InternalError, Origin
from virtbackupd.protocol.message import Request
from virtbackupd.server import audit
from virtbackupd.server.errors import AuthenticationFailed
from virtbackupd.server.login import SaslLogin, Step
from virtbackupd.server.session import Session
from virtbackupd.server.translate import Handler, Wire


def _list(session: Session, _args: Wire, _call: Request) -> Wire:
    return ([int(session.login.scheme)],)


def _sasl(session: Session) -> SaslLogin:
    if session.login.sasl is None:
        raise AuthenticationFailed("this socket asks for no SASL authentication; open it directly")
    return session.login.sasl


def _init(session: Session, _args: Wire, _call: Request) -> Wire:
    login = _sasl(session)
    try:
        return (login.mechanisms(),)
    except AuthenticationFailed:
        _failed(session, login)
        raise


async def _start(session: Session, args: Wire, _call: Request) -> Wire:
    mechanism, nil, data = args
    login = _sasl(session)
    return await _taken(session, login, login.start(mechanism, None if nil else data))


async def _step(session: Session, args: Wire, _call: Request) -> Wire:
    nil, data = args
    login = _sasl(session)
    return await _taken(session, login, login.step(None if nil else data))


async def _taken(session: Session, login: SaslLogin, waiting: Awaitable[Step]) -> Wire:
    try:
        data, identity = await waiting
    except AuthenticationFailed:
        _failed(session, login)
        raise
    if identity is not None:
        session.authenticated(identity)
        audit.login(session, "sasl", login.name, "success")
    return int(identity is not None), int(data is None), data or b""


def _failed(session: Session, login: SaslLogin) -> None:
    """Strangers may not fill the log as fast as they can ask."""
    audit.login(session, "sasl", login.name, "failed")
    if login.exhausted:
        session.link.close_after_reply()


async def _polkit(session: Session, _args: Wire, _call: Request) -> Wire:
    login = session.login.polkit
    if login is None:
        raise InternalError(
            "this socket asks for no polkit authentication; open it directly", origin=Origin.RPC
        )
    try:
        session.authenticated(await login.check())
    except AuthenticationFailed:
        audit.login(session, "polkit", "", "failed")
        raise
    audit.login(session, "polkit", "", "success")
    return (1,)


HANDLERS: dict[str, Handler] = {
    "AUTH_LIST": _list,
    "AUTH_SASL_INIT": _init,
    "AUTH_SASL_START": _start,
    "AUTH_SASL_STEP": _step,
    "AUTH_POLKIT": _polkit,
}
