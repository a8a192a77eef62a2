"""One line for each checkpoint, backup, login and refused call: who did what to which, and how it
ended.

Lines are `name=value`, values with blanks in quotes. Knows calls by name and never their secrets.
"""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import CoroutineType
from typing import Any, Final
from uuid import UUID

from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.events import DomainJobCompleted
from virtbackupd.drivers.interface import Driver
from virtbackupd.protocol.message import Request
from virtbackupd.server.errors import refusal
from virtbackupd.server.identity import Identity
from virtbackupd.server.log_syntax import AUDIT
from virtbackupd.server.session import Session
from virtbackupd.server.translate import Handler, Wire

log = logging.getLogger(AUDIT)

ACTIONS: Final = {
    "DOMAIN_CHECKPOINT_CREATE_XML": "checkpoint-create",
    "DOMAIN_CHECKPOINT_DELETE": "checkpoint-delete",
    "DOMAIN_BACKUP_BEGIN": "backup-begin",
    "DOMAIN_ABORT_JOB": "backup-abort",
    "DOMAIN_ABORT_JOB_FLAGS": "backup-abort",
}
"""Calls that leave a line, whatever comes of them."""
BACKUP: Final = 9
"""VIR_DOMAIN_JOB_OPERATION_BACKUP."""

LONGEST: Final = 1_000
"""Characters of a value; of what is not there a client may give a name of any length."""

_PLAIN = re.compile(r"[^\s\"'=\\\x00-\x1f\x7f]+")

Fields = Mapping[str, object]


def line(action: str, result: str, fields: Fields) -> None:
    """Write a line; fields without value are left out."""
    found = {"action": action, **fields, "result": result}
    log.info(" ".join(f"{name}={_plain(v)}" for name, v in found.items() if v not in {None, ""}))


def refused(procedure: str, session: Session, missing: str, domain: str = "") -> None:
    """A client was not allowed to make a call, on a domain if it is about one."""
    call = {"procedure": procedure, "missing": missing, "domain": domain}
    line("call", "refused", {**call, **_who(session)})


def login(session: Session, method: str, user: str, result: str) -> None:
    """A client said who it is; `result` is `success` or `failed`."""
    line("login", result, {"method": method, "login": user, **_who(session)})


def stranger(known: Identity, method: str, reason: str) -> None:
    """Somebody was sent away before there was a session."""
    fields = {"method": method, "transport": known.transport.value, "address": known.address}
    line("login", "failed", {**fields, "error": reason})


def audited(procedure: str, handle: Handler) -> Handler:
    """The same, and a line on each call, if it is one of `ACTIONS`."""
    action = ACTIONS.get(procedure)
    if action is None:
        return handle

    def told(session: Session, args: Wire, call: Request) -> Any:  # noqa: ANN401 - as Handler
        with _outcome(action, session, args) as done:
            result = handle(session, args, call)
            if type(result) is not CoroutineType:
                done(result)
                return result
        return later(session, args, result)

    async def later(session: Session, args: Wire, waiting: Any) -> Any:  # noqa: ANN401 - as Handler
        with _outcome(action, session, args) as done:
            result = await waiting
            done(result)
            return result

    return told


@contextmanager
def jobs_audited(drivers: Mapping[str, Driver]) -> Iterator[None]:
    """A line on each backup that ends."""
    with ExitStack() as stack:
        for driver in {id(driver): driver for driver in drivers.values()}.values():
            stack.enter_context(driver.events.subscribed(_ended))
        yield


@contextmanager
def _outcome(action: str, session: Session, args: Wire) -> Iterator[Callable[[object], None]]:
    def done(result: object) -> None:
        line(action, "success", {**_objects(args), **_made(result), **_who(session)})

    try:
        yield done
    except DriverError as error:
        reason = {"code": refusal(error, session.scheme).code, "error": error.message}
        line(action, "failed", {**_objects(args), **reason, **_who(session)})
        raise


def _ended(event: object) -> None:
    if not isinstance(event, DomainJobCompleted):
        return
    found = {parameter.field: parameter.value for parameter in event.params}
    if found.get("operation") == BACKUP:
        fields = {"domain": event.domain.name, "uuid": UUID(bytes=event.domain.uuid)}
        result = "success" if found.get("success") else "failed"
        line("backup-end", result, {**fields, "error": found.get("errmsg")})


def _objects(args: Wire) -> dict[str, object]:
    """A checkpoint is its name and its domain; a domain its name, UUID and id."""
    match args:
        case ((str() as name, bytes() as uuid, int()), *_):
            return {"domain": name, "uuid": UUID(bytes=uuid)}
        case ((str() as checkpoint, tuple() as domain), *_):
            return {**_objects((domain,)), "checkpoint": checkpoint}
    return {}


def _made(result: object) -> dict[str, object]:
    """The name of a checkpoint that a call has made."""
    return {"checkpoint": result} if isinstance(result, str) else {}


def _who(session: Session) -> dict[str, object]:
    known = session.identity
    return {
        "client": session.link.number,
        "transport": known.transport.value,
        "readonly": "yes" if session.read_only else None,
        "uid": known.uid,
        "pid": known.pid,
        "address": known.address,
        "dn": known.dn,
        "sasl": known.sasl_name,
    }


def _plain(value: object) -> str:
    text = str(value)[:LONGEST]
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
