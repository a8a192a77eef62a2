"""The calls by which a client says who it is. What it may do before is decided in `dispatch`.

Why a login failed is for the log alone: the client learns as little as libvirtd tells.
"""

from collections.abc import Awaitable

import trio

from virtbackupd.drivers.errors import InternalError, Origin
from virtbackupd.protocol.message import Request
from virtbackupd.server import audit
from virtbackupd.server.errors import AuthenticationFailed, AuthenticationUnavailable
from virtbackupd.server.login import SaslLogin, Step
from virtbackupd.server.session import Session, Stage
from virtbackupd.server.translate import Handler, Wire


def _list(session: Session, _args: Wire, _call: Request) -> Wire:
    return ([int(session.login.scheme)],)


def _sasl(session: Session) -> SaslLogin:
    if session.login.sasl is None:
        _asked_wrongly(session, "sasl")
        raise AuthenticationFailed("this socket asks for no SASL authentication; open it directly")
    return session.login.sasl


def _init(session: Session, _args: Wire, _call: Request) -> Wire:
    login = _sasl(session)
    try:
        return (login.mechanisms(),)
    except AuthenticationFailed:
        _failed(session, "sasl", login.name)
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
        _failed(session, "sasl", login.name)
        raise
    if identity is not None:
        session.authenticated(identity)
        audit.login(session, "sasl", login.name, "success")
    return int(identity is not None), int(data is None), data or b""


def _failed(session: Session, method: str, name: str = "") -> None:
    audit.login(session, method, name, "failed")
    session.turn_away()


def _asked_wrongly(session: Session, method: str) -> None:
    """By a method that the socket does not offer; who is known already may be mistaken."""
    if session.stage is Stage.CONNECTED:
        _failed(session, method)


async def _polkit(session: Session, _args: Wire, _call: Request) -> Wire:
    login = session.login.polkit
    if login is None:
        _asked_wrongly(session, "polkit")
        raise InternalError(
            "this socket asks for no polkit authentication; open it directly", origin=Origin.RPC
        )
    try:
        session.authenticated(await login.check())
    except (AuthenticationFailed, AuthenticationUnavailable, trio.Cancelled):
        # Who leaves before the answer has tried all the same.
        _failed(session, "polkit")
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
