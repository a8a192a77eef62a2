"""What stands before each call when access is controlled: permission first, anything else after.

A domain that a client may not see is answered as one that does not exist, in the same words. Knows
which object a procedure is about from its types alone; who may do what is for the access drivers.
"""

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from virtbackupd.drivers.errors import AccessDenied, DriverError, NoDomain, NoSecret
from virtbackupd.drivers.events import DomainRef, SecretRef
from virtbackupd.drivers.interface import Domain, Driver
from virtbackupd.protocol.idl import Shape
from virtbackupd.protocol.message import Request
from virtbackupd.protocol.procedures import Procedure
from virtbackupd.server.access.absent import ABSENT, NIL
from virtbackupd.server.access.control import (
    CONNECTION,
    AccessControl,
    Steps,
    Subject,
    Verdict,
    run,
)
from virtbackupd.server.access.gate import EventGate
from virtbackupd.server.access.permissions import Demand, Permission, demands, permission, seen_with
from virtbackupd.server.access.view import DriverView
from virtbackupd.server.session import Session
from virtbackupd.server.translate import CHECKPOINT, DOMAIN, SNAPSHOT, Handler, Result, Wire

SEES_DOMAIN: Final = permission("domain:getattr")
SEES_SECRET: Final = permission("secret:getattr")
_HIDDEN_VALUE: Final = "remote_nonnull_secret"
_DOMAIN_UUID: Final = 1

Refused = Callable[[str, Session, str, str], None]
"""Told of each refusal: the procedure, whose it was, what was missing, and the domain if any."""
Locate = Callable[[Session, Wire], Subject]
Unknown = Callable[[Wire], DriverError]

LOOKUPS: Final[dict[str, Unknown]] = {
    "DOMAIN_LOOKUP_BY_NAME": lambda args: NoDomain.of_name(args[0]),
    "DOMAIN_LOOKUP_BY_UUID": lambda args: NoDomain.of_uuid(args[0]),
    "DOMAIN_LOOKUP_BY_ID": lambda args: NoDomain.of_id(args[0]),
    "SECRET_LOOKUP_BY_UUID": lambda args: NoSecret.of_uuid(args[0]),
    "SECRET_LOOKUP_BY_USAGE": lambda args: NoSecret.of_usage(args[0], args[1]),
}
"""Calls whose object is their result, and what is said when it must not be seen."""
SOUGHT: Final[dict[str, Callable[[Wire], Subject]]] = {
    "DOMAIN_LOOKUP_BY_NAME": lambda args: _absent(args[0], NIL),
    "DOMAIN_LOOKUP_BY_UUID": lambda args: _absent("", args[0]),
    "DOMAIN_LOOKUP_BY_ID": lambda _args: _absent("", NIL),
    "SECRET_LOOKUP_BY_UUID": lambda args: _secret_subject(args[0]),
    "SECRET_LOOKUP_BY_USAGE": lambda _args: _secret_subject(NIL),
}
"""What they look for, as far as their arguments tell."""
DEFINING: Final = frozenset({"DOMAIN_DEFINE_XML", "DOMAIN_DEFINE_XML_FLAGS", "DOMAIN_CREATE_XML"})
"""Calls whose object is described by their first argument."""


class Guard:
    """Puts itself before the handlers of a dispatcher."""

    def __init__(self, access: AccessControl, refused: Refused) -> None:
        self._access = access
        self._refused = refused

    def before(self, procedure: Procedure, handle: Handler) -> Handler:
        """The same handler, for those who may. Procedures that ask for nothing stay as they are."""
        wanted = demands(procedure)
        if not wanted:
            return handle
        steps = self._kind(procedure)

        def guarded(session: Session, args: Wire, call: Request) -> Result:
            asked = _asked(wanted, args) if procedure.declared else list(wanted)
            return run(steps(procedure, handle, asked, session, args, call))

        return guarded

    def _kind(self, procedure: Procedure) -> Callable[..., Steps[Any]]:
        if procedure.name in LOOKUPS and procedure.declared:
            return self._lookup
        if procedure.name == "CONNECT_OPEN":
            return self._opening
        if procedure.name in DEFINING:
            return self._definition
        if _locator(procedure) is not None:
            return self._on_object
        return self._on_connection

    def sees(self, session: Session, ref: DomainRef | SecretRef) -> Verdict:
        """Whether a client may know of an object, which may be gone by now."""
        if isinstance(ref, DomainRef):
            return self._may(session, SEES_DOMAIN, domain_subject(session.driver, ref))
        return self._may(session, SEES_SECRET, _secret_subject(ref.uuid))

    def _may(self, session: Session, wanted: Permission, subject: Subject) -> Verdict:
        return self._access.allows(session.identity, wanted, subject)

    # The kinds of calls
    def _on_object(
        self, procedure: Procedure, handle: Handler, asked: list[Demand],
        session: Session, args: Wire, call: Request,
    ) -> Steps[Any]:  # fmt: skip
        locate = _locator(procedure)
        try:
            subject = CONNECTION if locate is None else locate(session, args)
        except NoDomain:
            yield from self._ask_in_vain(procedure, asked, session, _nobody(args[0]))
            raise
        yield from self._require(procedure, asked, session, subject)
        return (yield handle(session, args, call))

    def _on_connection(
        self, procedure: Procedure, handle: Handler, asked: list[Demand],
        session: Session, args: Wire, call: Request,
    ) -> Steps[Any]:  # fmt: skip
        """Objects of kinds that no driver here has are asked for without a name."""
        for demand in asked:
            yield from self._require(
                procedure, [demand], session, Subject(demand.permission.object)
            )
        seen = seen_with(procedure)
        narrowed = session if seen is None else self._narrowed(session, seen)
        return (yield handle(narrowed, args, call))

    def _opening(
        self, procedure: Procedure, handle: Handler, asked: list[Demand],
        session: Session, args: Wire, call: Request,
    ) -> Steps[Any]:  # fmt: skip
        """From now on there is a driver whose events may come."""
        yield from self._all_allowed(procedure, asked, session, CONNECTION)
        result = yield handle(session, args, call)
        session.callbacks.gate = EventGate(session.link, lambda ref: self.sees(session, ref))
        return result

    def _lookup(
        self, procedure: Procedure, handle: Handler, asked: list[Demand],
        session: Session, args: Wire, call: Request,
    ) -> Steps[Any]:  # fmt: skip
        try:
            found = yield handle(session, args, call)
        except (NoDomain, NoSecret):
            subject = SOUGHT[procedure.name](args)
            yield from self._ask_in_vain(procedure, asked, session, subject, again=False)
            raise
        subject = (
            domain_subject(session.driver, found)
            if isinstance(found, DomainRef)
            else _secret_subject(found.uuid)
        )
        for demand in asked:
            if not (yield self._may(session, demand.permission, subject)):
                self._tell(procedure, session, demand, subject)
                raise LOOKUPS[procedure.name](args)
        return found

    def _definition(
        self, procedure: Procedure, handle: Handler, asked: list[Demand],
        session: Session, args: Wire, call: Request,
    ) -> Steps[Any]:  # fmt: skip
        """Both what is to be defined and what would be replaced must be allowed."""
        name, uuid = session.driver.named_in(args[0])
        subjects = yield from _concerned(session.driver, name, uuid)
        for subject in subjects:
            # The name of what has this UUID may not be known to whoever asks.
            yield from self._all_allowed(procedure, asked, session, subject, subjects[0])
        return (yield handle(session, args, call))

    # Deciding
    def _ask_in_vain(
        self, procedure: Procedure, asked: list[Demand], session: Session, subject: Subject,
        *, again: bool = True,
    ) -> Steps[None]:  # fmt: skip
        """About what is not there: as much work, and as many lines, as about what is hidden.

        Otherwise the time that the answer takes would tell one from the other. With `again`, who
        is refused is looked at once more, as in `_require`.
        """
        try:
            yield from self._all_allowed(procedure, asked, session, subject)
        except AccessDenied:
            if again:
                yield self._may(session, _HIDDEN[subject.kind][0], subject)

    def _require(
        self, procedure: Procedure, asked: list[Demand], session: Session, subject: Subject
    ) -> Steps[None]:
        """What may not even be seen does not exist."""
        try:
            yield from self._all_allowed(procedure, asked, session, subject)
        except AccessDenied:
            hidden = _HIDDEN.get(subject.kind)
            if hidden is not None and subject.uuid:
                seen, unknown = hidden
                if not (yield self._may(session, seen, subject)):
                    raise unknown(subject.uuid) from None
            raise

    def _all_allowed(
        self, procedure: Procedure, asked: list[Demand], session: Session, subject: Subject,
        called: Subject | None = None,
    ) -> Steps[None]:  # fmt: skip
        """AccessDenied, which speaks of `called` if that is given."""
        for demand in asked:
            if not (yield self._may(session, demand.permission, subject)):
                self._tell(procedure, session, demand, subject)
                raise AccessDenied(_reason(demand.permission, called or subject))

    def _tell(
        self, procedure: Procedure, session: Session, demand: Demand, subject: Subject
    ) -> None:
        domain = subject.name if subject.kind == "domain" else ""
        self._refused(procedure.name, session, str(demand.permission), domain)

    def _narrowed(self, session: Session, seen: Permission) -> Session:
        """The session with a driver in which hidden objects do not exist."""
        driver = session.driver

        def domain(ref: DomainRef) -> Verdict:
            return self._may(session, seen, domain_subject(driver, ref))

        view = DriverView(driver, domain, lambda ref: self.sees(session, ref))
        narrowed: Any = _SessionView(session, view)
        return narrowed  # type: ignore[no-any-return]


class _SessionView:
    """A session but for its driver, for one call."""

    def __init__(self, session: Session, driver: DriverView) -> None:
        self._session = session
        self.driver = driver

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the session has
        return getattr(self._session, name)


def domain_subject(driver: Driver, ref: DomainRef) -> Subject:
    """A domain as rules see it."""
    try:
        domain = driver.domain_by_uuid(ref.uuid)
    except NoDomain:
        return _absent(ref.name, ref.uuid)
    return Subject("domain", domain.ref.name, domain.ref.uuid, domain)


def _secret_subject(uuid: bytes) -> Subject:
    return Subject("secret", str(UUID(bytes=uuid)), uuid)


_HIDDEN: Final[dict[str, tuple[Permission, Callable[[bytes], DriverError]]]] = {
    "domain": (SEES_DOMAIN, NoDomain.of_uuid),
    "secret": (SEES_SECRET, NoSecret.of_uuid),
}


def _locator(procedure: Procedure) -> Locate | None:
    """How to find the object among the arguments; None when the connection is meant."""
    fields = procedure.args.fields if procedure.args else ()
    if not fields or fields[0].shape is not Shape.ONE:
        return None
    return _LOCATORS.get(fields[0].type_name)


def _of_domain(session: Session, args: Wire) -> Subject:
    return _existing(session.driver.domain_by_uuid(args[0][_DOMAIN_UUID]))


def _of_named(session: Session, args: Wire) -> Subject:
    """A checkpoint or snapshot is as accessible as its domain."""
    return _existing(session.driver.domain_by_uuid(args[0][1][_DOMAIN_UUID]))


def _of_secret(_session: Session, args: Wire) -> Subject:
    return _secret_subject(args[0][0])


_LOCATORS: Final[dict[str, Locate]] = {
    DOMAIN: _of_domain,
    CHECKPOINT: _of_named,
    SNAPSHOT: _of_named,
    _HIDDEN_VALUE: _of_secret,
}


def _existing(domain: Domain) -> Subject:
    return Subject("domain", domain.ref.name, domain.ref.uuid, domain)


def _nobody(named: Wire) -> Subject:
    """A domain that is not there: it, or the owner of a part.

    Whoever asks may give a hidden one the name of one that is allowed; so the name says nothing.
    """
    return _absent("", (named[-1] if isinstance(named[-1], tuple) else named)[_DOMAIN_UUID])


def _absent(name: str, uuid: bytes) -> Subject:
    return Subject("domain", name, uuid, ABSENT)


def _concerned(driver: Driver, name: str, uuid: bytes) -> Steps[list[Subject]]:
    """What the document describes, then the domain that has its UUID, or else its name."""
    subjects = [Subject("domain", name, uuid)]
    try:
        known = uuid or (yield driver.domain_lookup_by_name(name)).uuid
        subjects.append(_existing(driver.domain_by_uuid(known)))
    except NoDomain:
        return subjects
    return subjects


def _asked(wanted: tuple[Demand, ...], args: Wire) -> list[Demand]:
    return [demand for demand in wanted if demand.needed is None or demand.needed(args)]


def _reason(missing: Permission, subject: Subject) -> str:
    what = f"{subject.kind} {subject.name}".rstrip()
    return f"'{missing}' is not granted on {what}; ask for it in the access rules"
