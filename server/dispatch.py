"""From a call to the bytes of its reply: find the procedure, check rights, decode, ask, encode.

The only place where exceptions become error replies. It knows no socket; a client hands in calls
and puts what comes back into its outbox.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from types import CoroutineType
from typing import Any, NamedTuple, Protocol

from virtbackupd.drivers.errors import DriverError, OperationDenied, Origin, Unsupported
from virtbackupd.drivers.profiles import NEWEST, Profile
from virtbackupd.protocol import refusals
from virtbackupd.protocol.errors import RemoteError, XdrEncodeError, XdrError
from virtbackupd.protocol.idl import Shape
from virtbackupd.protocol.message import Request, error_reply, reply
from virtbackupd.protocol.procedures import Procedure, ReadOnly
from virtbackupd.protocol.schema import Schema
from virtbackupd.server import audit, errors
from virtbackupd.server.procedures import AGENT_ADDRESSES, AGENT_SOURCE, PROCEDURES, SECURE_FLAGS
from virtbackupd.server.session import Session, Stage
from virtbackupd.server.translate import (
    Encoder,
    Handler,
    TableError,
    Wire,
    compile_encoder,
    compile_handler,
)

log = logging.getLogger(__name__)

REMEMBERED = 128
"""Argument lists of each procedure that are kept decoded."""
REMEMBERED_SIZE = 256
"""Bytes of arguments beyond which decoding them is not what takes the time."""
PLANS = 1024
"""Compiled procedures that are kept, more than the interface has."""

STAGES = {
    "AUTH_LIST": Stage.CONNECTED,
    "AUTH_SASL_INIT": Stage.CONNECTED,
    "AUTH_SASL_START": Stage.CONNECTED,
    "AUTH_SASL_STEP": Stage.CONNECTED,
    "AUTH_POLKIT": Stage.CONNECTED,
    "CONNECT_OPEN": Stage.AUTHENTICATED,
    "CONNECT_CLOSE": Stage.AUTHENTICATED,
    "CONNECT_SUPPORTS_FEATURE": Stage.AUTHENTICATED,
}
"""What may be called before the connection is open."""

_NOT_YET = {
    Stage.AUTHENTICATED: refusals.rpc_error("authentication required"),
    Stage.OPEN: RemoteError(1, 7, "internal error: hypervisor connection not open"),
}


class Plan(NamedTuple):
    """All that one procedure needs, found once at start."""

    name: str
    version: int
    stage: Stage
    decode: Callable[[bytes], Wire]
    handle: Handler
    to_wire: Encoder
    encode: Callable[[Wire], bytes]
    read_only: Callable[[Wire], bool]
    """Whether a read-only client may make the call with these arguments."""


Before = Callable[[Procedure, Handler], Handler]
Between = Callable[[str, Handler], Handler]


class Answering(Protocol):
    """The dispatcher, or what stands before it, as a client sees it."""

    def answer(self, session: Session, call: Request) -> bytes | Awaitable[bytes]: ...


class Dispatcher:
    """The compiled table. One for the whole server; all state is in the session."""

    def __init__(
        self,
        schema: Schema,
        handlers: Mapping[str, Handler],
        profile: Profile = NEWEST,
        before: Before | None = None,
    ) -> None:
        """TableError when a row contradicts the IDL. What the profile does not know is unknown.

        `before` puts a check of rights before each handler.
        """
        self._schema = schema
        self._plans = {
            (found.program, found.number): _restricted(
                _plan(found, handlers.get(found.name), schema.versions[found.program]), profile
            )
            for found in schema.by_number.values()
            if not found.is_event and profile.knows(found.name, found.number)
        }
        if before is not None:
            self._plans = {
                key: plan._replace(handle=before(schema.by_number[key], plan.handle))
                for key, plan in self._plans.items()
            }
        self._own = self._plans

    def interpose(self, between: Between | None) -> None:
        """Put something before handlers, in place of what was put there last; None for nothing."""
        self._plans = {
            key: plan if between is None else plan._replace(handle=between(plan.name, plan.handle))
            for key, plan in self._own.items()
        }

    def answer(self, session: Session, call: Request) -> bytes | Awaitable[bytes]:
        """The reply, or the wait for it when the driver cannot answer in place."""
        plan = self._plans.get((call.program, call.procedure))
        if plan is None or call.version != plan.version or call.status:
            return error_reply(call, self._wire_refusal(call))
        if session.stage < plan.stage:
            return error_reply(call, _too_early(session, plan))
        try:
            args = plan.decode(call.payload)
            if session.read_only and not plan.read_only(args):
                audit.refused(plan.name, session, "read-write")
                raise _denied(plan.name)
            result = plan.handle(session, args, call)
            if type(result) is CoroutineType:
                return self._later(session, call, plan, args, result)
            return reply(call, plan.encode(plan.to_wire(result, args)))
        except Exception as error:  # noqa: BLE001 - the boundary: every call gets an answer
            return error_reply(call, _refusal(session, plan, error))

    async def _later(
        self, session: Session, call: Request, plan: Plan, args: Wire, waiting: Awaitable[Any]
    ) -> bytes:
        try:
            result = await waiting
            return reply(call, plan.encode(plan.to_wire(result, args)))
        except Exception as error:  # noqa: BLE001 - the boundary: every call gets an answer
            return error_reply(call, _refusal(session, plan, error))

    def _wire_refusal(self, call: Request) -> RemoteError:
        found = refusals.resolve(self._schema, call)
        return found if isinstance(found, RemoteError) else refusals.unknown_procedure(call)


def _too_early(session: Session, plan: Plan) -> RemoteError:
    if session.stage is Stage.CONNECTED:
        audit.refused(plan.name, session, "login")
        session.turn_away()
    return _NOT_YET[Stage(session.stage + 1)]


def _refusal(session: Session, plan: Plan, error: Exception) -> RemoteError:
    if isinstance(error, DriverError):
        return errors.refusal(error, session.scheme)
    if isinstance(error, errors.Injected):
        return error.error
    if isinstance(error, XdrError):
        return refusals.undecodable(error)
    if isinstance(error, XdrEncodeError):
        log.error("%s: the result does not fit the wire: %s", plan.name, error)
        return errors.too_large(plan.name, str(error))
    caller = {"client": session.link.number, "procedure": public_name(plan.name)}
    log.error("%s: a bug of ours", plan.name, exc_info=error, extra=caller)
    return errors.bug()


@lru_cache(maxsize=PLANS)
def _plan(procedure: Procedure, handler: Handler | None, version: int) -> Plan:
    """The same for all servers of a process, of which tests start many."""
    handle, encoder = _answering(procedure, handler)
    return Plan(
        name=procedure.name,
        version=version,
        stage=STAGES.get(procedure.name, Stage.OPEN),
        decode=_decoder(procedure),
        handle=audit.audited(procedure.name, handle),
        to_wire=encoder,
        encode=procedure.encode_ret,
        read_only=_read_only_rule(procedure),
    )


def _restricted(plan: Plan, profile: Profile) -> Plan:
    """Only calls that the profile has something to say about are looked at when they come."""
    if not profile.restricts(plan.name):
        return plan
    handle, function = plan.handle, public_name(plan.name)

    def checked(session: Session, args: Wire, call: Request) -> Any:  # noqa: ANN401 - as Handler
        profile.check_call(plan.name, function, args)
        return handle(session, args, call)

    return plan._replace(handle=checked)


def _decoder(procedure: Procedure) -> Callable[[bytes], Wire]:
    """Clients ask about the same few objects over and over; decoding was half of a small call.

    Lists could be changed by whoever gets them and opaque values may be secret: neither is kept.
    """
    decode = procedure.decode_args
    fields = procedure.args.fields if procedure.args else ()
    if any(field.shape is Shape.VARIABLE_ARRAY for field in fields):
        return decode
    remembered = lru_cache(maxsize=REMEMBERED)(decode)

    def decoded(payload: bytes) -> Wire:
        return remembered(payload) if len(payload) <= REMEMBERED_SIZE else decode(payload)

    return decoded


def _answering(procedure: Procedure, handler: Handler | None) -> tuple[Handler, Encoder]:
    method = PROCEDURES.get(procedure.name)
    if (method or handler) and not procedure.declared:
        raise TableError(f"{procedure.name} has an answer but no structs in the interface text")
    if method and handler:
        raise TableError(f"{procedure.name} has both a row and a handler")
    if method:
        return compile_handler(procedure, method), compile_encoder(procedure, method)
    return handler or _unsupported(procedure.name), _as_fields


def _as_fields(result: Wire | None, _args: Wire) -> Wire:
    """What handlers return is the result's fields already."""
    return result or ()


def _unsupported(name: str) -> Handler:
    def refuse(_session: Session, _args: Wire, _call: Request) -> Wire:
        raise Unsupported(public_name(name), origin=Origin.DRIVER)

    return refuse


def _read_only_rule(procedure: Procedure) -> Callable[[Wire], bool]:
    if procedure.read_only is ReadOnly.DENY:
        return lambda _args: False
    if procedure.name == AGENT_ADDRESSES:
        return lambda args: len(args) < 2 or args[1] != AGENT_SOURCE
    if procedure.read_only is ReadOnly.CONDITIONAL:
        secure = SECURE_FLAGS[procedure.name]
        return lambda args: not args or not args[-1] & secure
    return lambda _args: True


_FAMILIES = {
    "CHECKPOINT": Origin.DOMAIN_CHECKPOINT,
    "SECRET": Origin.SECRET,
    "STORAGE": Origin.STORAGE,
    "NETWORK": Origin.NETWORK,
    "QEMU": Origin.NONE,
}
"""Which part of libvirt complains of a call with that word in its name; else domains'."""


def _denied(name: str) -> OperationDenied:
    words = name.split("_")
    origin = next((_FAMILIES[word] for word in words if word in _FAMILIES), Origin.DOMAIN)
    return OperationDenied(
        f"read only access prevents {public_name(name)}; connect read-write to call it",
        origin=origin,
    )


_CAPITALS = {"Xml": "XML", "Uuid": "UUID", "Id": "ID", "Os": "OS", "Fs": "FS", "Cpu": "CPU"}
_CAPITALS |= {f"Fs{word.lower()}": f"FS{word}" for word in ("Freeze", "Thaw", "Trim", "Info")}
_QEMU_NAMES = {"QEMU_DOMAIN": "DOMAIN_QEMU", "QEMU_CONNECT_DOMAIN": "CONNECT_DOMAIN_QEMU"}


def public_name(procedure: str) -> str:
    """The public function behind a procedure, as users know it: DOMAIN_GET_XML_DESC is
    virDomainGetXMLDesc.
    """
    for ours, theirs in _QEMU_NAMES.items():
        procedure = procedure.replace(ours, theirs)
    words = (word.capitalize() for word in procedure.split("_"))
    return "vir" + "".join(_CAPITALS.get(word, word) for word in words)
