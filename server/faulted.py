"""Faults on calls: what stands between the dispatcher and its handlers while there are rules.

Only the calls that a rule is about are looked at when they come. Which fault happens is decided by
the engine; this module knows no driver.
"""

from collections.abc import Awaitable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import cache
from types import CoroutineType
from typing import Any, Final

import trio

from virtbackupd.drivers.clock import Clock
from virtbackupd.drivers.errors import AgentUnresponsive, DriverError, OperationFailed
from virtbackupd.drivers.events import DomainRef
from virtbackupd.drivers.faults.effects import (
    CallDrop,
    CallError,
    Delay,
    DomainEffect,
    Hang,
    Point,
)
from virtbackupd.drivers.faults.engine import Faults, Fired
from virtbackupd.drivers.faults.error_names import CODES, DOMAINS, find_number
from virtbackupd.protocol.errors import LEVEL_ERROR, RemoteError
from virtbackupd.protocol.message import Request
from virtbackupd.protocol.schema import Schema
from virtbackupd.server import errors
from virtbackupd.server.dispatch import Dispatcher, public_name
from virtbackupd.server.session import Session
from virtbackupd.server.translate import Handler, Result, Wire

LEVEL_WARNING: Final = 1
_AGENT_WORDS: Final = ("FSFREEZE", "FSTHAW", "FSTRIM", "AGENT", "GUEST_INFO", "FSINFO", "_TIME")
"""Procedures with such a part wait for the guest's agent."""
_REF: Final = (str, bytes, int)
"""The types of name, UUID and id, which make a domain on the wire."""


class ProcedureNames(AbstractSet[str]):
    """Every name that a rule may give to a call: that on the wire and the public one.

    Found when somebody asks, because most daemons never have a rule.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._found: frozenset[str] = frozenset()

    def _names(self) -> frozenset[str]:
        if not self._found:
            calls = (found for found in self._schema.by_number.values() if not found.is_event)
            self._found = frozenset(name for found in calls for name in _both(found.name))
        return self._found

    def __contains__(self, name: object) -> bool:
        return name in self._names()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())


class CallFaults:
    """Puts itself before the handlers of those calls that rules are about."""

    def __init__(
        self, dispatcher: Dispatcher, schema: Schema, faults: Faults, clock: Clock
    ) -> None:
        self._dispatcher = dispatcher
        self._faults = faults
        self._clock = clock
        faults.procedures = ProcedureNames(schema)
        faults.changed.append(self.look)
        if faults.active:
            self.look()

    def look(self) -> None:
        """There are other rules."""
        watched = bool(self._faults.watches(Point.CALL))
        self._dispatcher.interpose(self._between if watched else None)

    def _between(self, procedure: str, handle: Handler) -> Handler:
        names = _both(procedure)
        if not any(rule.spec.word.fits_any(*names) for rule in self._faults.watches(Point.CALL)):
            return handle

        def faulted(session: Session, args: Wire, request: Request) -> Result:
            words = [value for value in args if isinstance(value, str)]
            domain = _domain_of(args)
            fired = self._faults.call(names, domain, words)
            if not fired:
                return handle(session, args, request)
            struck = _Struck(self._faults, self._clock, session, procedure, domain, fired)
            if struck.takes_time:
                return struck.later(handle, args, request)
            return struck.at_once(handle, args, request)

        return faulted


class _Struck:
    """One call that faults strike."""

    __slots__ = ("_clock", "_domain", "_faults", "_fired", "_procedure", "_session")

    def __init__(
        self,
        faults: Faults,
        clock: Clock,
        session: Session,
        procedure: str,
        domain: DomainRef | None,
        fired: list[Fired],
    ) -> None:
        self._faults = faults
        self._clock = clock
        self._session = session
        self._procedure = procedure
        self._domain = domain
        self._fired = fired

    @property
    def takes_time(self) -> bool:
        return any(isinstance(fired.effect, Delay | Hang) for fired in self._fired)

    def at_once(self, handle: Handler, args: Wire, request: Request) -> Result:
        """In place where nothing has to be waited for, so that replies keep their order."""
        self._apply_all("before")
        result = handle(self._session, args, request)
        if type(result) is CoroutineType:
            return self._then(result)
        self._apply_all("after")
        return result

    async def later(self, handle: Handler, args: Wire, request: Request) -> Any:  # noqa: ANN401 - as Handler
        await self._wait_all("before")
        result = handle(self._session, args, request)
        if type(result) is CoroutineType:
            result = await result
        await self._wait_all("after")
        return result

    async def _then(self, waiting: Awaitable[Any]) -> Any:  # noqa: ANN401 - as Handler
        result = await waiting
        self._apply_all("after")
        return result

    def _due(self, at: str) -> list[Fired]:
        return [fired for fired in self._fired if getattr(fired.effect, "at", "") == at]

    def _apply_all(self, at: str) -> None:
        for fired in self._due(at):
            self._apply(fired)

    async def _wait_all(self, at: str) -> None:
        for fired in self._due(at):
            if isinstance(fired.effect, Delay):
                fired.done()
                await self._sleep(fired.effect.seconds)
            elif isinstance(fired.effect, Hang):
                fired.done()
                await self._hang(fired.effect)
            else:
                self._apply(fired)

    def _apply(self, fired: Fired) -> None:
        """What takes no time; raises what is sent in place of the call's own reply."""
        effect = fired.effect
        if isinstance(effect, DomainEffect):
            if self._domain is None:
                fired.missed()
            else:
                self._faults.perform(fired, self._domain)
            return
        fired.done()
        if isinstance(effect, CallError):
            raise errors.Injected(_error(effect, self._session.scheme))
        if isinstance(effect, CallDrop):
            reason = f"a fault drops it {effect.at} {public_name(self._procedure)}"
            self._session.link.cut(reason)
            raise errors.Injected(RemoteError(1, errors.REMOTE_ORIGIN, reason))

    async def _sleep(self, seconds: float) -> None:
        async def sleep() -> None:
            await self._clock.sleep(seconds, f"fault in {public_name(self._procedure)}")

        await _while_connected(self._session, sleep())

    async def _hang(self, effect: Hang) -> None:
        uuid = None if self._domain is None else self._domain.uuid
        name = public_name(self._procedure)
        if effect.seconds is None:
            await _while_connected(self._session, self._faults.hang(uuid))
            raise _unanswered(self._procedure, "the domain has stopped, or the fault is over")
        with self._clock.deadline(effect.seconds, f"fault in {name}"):
            await _while_connected(self._session, self._faults.hang(uuid))
        raise _unanswered(self._procedure, f"no answer within {effect.seconds:g} seconds")


async def _while_connected(session: Session, waiting: Awaitable[None]) -> None:
    """Wait, but no longer than the client is there: its calls run to their end when it leaves."""
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            await session.link.gone()
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        await waiting
        nursery.cancel_scope.cancel()


def _unanswered(procedure: str, reason: str) -> DriverError:
    if any(word in procedure for word in _AGENT_WORDS):
        return AgentUnresponsive(f"{public_name(procedure)} has no answer of the guest: {reason}")
    return OperationFailed(f"{public_name(procedure)} did not end: {reason}")


def _error(effect: CallError, scheme: str) -> RemoteError:
    """As libvirtd sends it: with the words that go with the code."""
    code = find_number(CODES, "VIR_ERR_", effect.code) or errors.INTERNAL.code
    given = None if effect.domain is None else find_number(DOMAINS, "VIR_FROM_", effect.domain)
    domain = errors.SCHEME_ORIGINS.get(scheme, errors.REMOTE_ORIGIN) if given is None else given
    level = LEVEL_WARNING if effect.level == "warning" else LEVEL_ERROR
    return errors.with_words(code, domain, effect.message or "a fault was asked for", level)


@cache
def _both(procedure: str) -> tuple[str, str]:
    return procedure, public_name(procedure)


def _domain_of(values: Sequence[object]) -> DomainRef | None:
    """The first domain, also of one within a checkpoint."""
    for value in values:
        if isinstance(value, tuple):
            if tuple(map(type, value)) == _REF:
                return DomainRef(*value)
            if (found := _domain_of(value)) is not None:
                return found
    return None
