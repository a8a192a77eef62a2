"""Log lines of calls: one for each call, and on all others which call they belong to.

As long as the level of this category hides them, calls go to the dispatcher as if nothing stood
before it. What may be secret is left out by the transcript. Knows no socket.
"""

import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import NamedTuple

from virtbackupd.drivers.clock import Clock
from virtbackupd.protocol.message import Request
from virtbackupd.protocol.schema import Schema
from virtbackupd.server.dispatch import Answering, public_name
from virtbackupd.server.log_syntax import Levels
from virtbackupd.server.session import Session
from virtbackupd.server.transcript import Entry, TranscribedDispatcher, Transcript

log = logging.getLogger(__name__)


class _Current(NamedTuple):
    client: int
    procedure: str


_CURRENT: ContextVar[_Current | None] = ContextVar("CURRENT_CALL", default=None)


def name_call(record: logging.LogRecord) -> bool:
    """A filter of logging that adds the call in whose task a message is logged."""
    current = _CURRENT.get()
    if current is not None and not hasattr(record, "client"):
        record.client, record.procedure = current
    return True


class CallLog:
    """Stands before a dispatcher; `answer` is that one's own while nothing is to be logged."""

    __slots__ = ("_plain", "_told", "answer")

    answer: Callable[[Session, Request], bytes | Awaitable[bytes]]

    def __init__(self, dispatcher: Answering, schema: Schema, clock: Clock) -> None:
        self._plain = dispatcher.answer
        transcript = Transcript(clock, limit=1)
        transcript.sink = _tell
        transcribed = TranscribedDispatcher(dispatcher, schema, transcript)
        self._told = _Named(transcribed, schema).answer
        self.answer = self._plain

    def follow(self, levels: Levels) -> None:
        """Begin or end to log, as the levels say."""
        told = levels.of(__name__) <= logging.DEBUG
        self.answer = self._told if told else self._plain


class _Named:
    """Lets everything that is logged within a call know the call."""

    def __init__(self, dispatcher: Answering, schema: Schema) -> None:
        self._dispatcher = dispatcher
        self._procedures = schema.by_number

    def answer(self, session: Session, call: Request) -> bytes | Awaitable[bytes]:
        current = self._current(session, call)
        token = _CURRENT.set(current)
        try:
            answer = self._dispatcher.answer(session, call)
        finally:
            _CURRENT.reset(token)
        return answer if isinstance(answer, bytes) else _later(answer, current)

    def _current(self, session: Session, call: Request) -> _Current:
        procedure = self._procedures.get((call.program, call.procedure))
        name = public_name(procedure.name) if procedure else f"{call.program:#x}/{call.procedure}"
        return _Current(session.link.number, name)


async def _later(waiting: Awaitable[bytes], current: _Current) -> bytes:
    """Runs in a task of the call's own, so nothing has to be put back."""
    _CURRENT.set(current)
    return await waiting


def _tell(entry: Entry) -> None:
    outcome = f"error {entry.code}: {entry.result}" if entry.code else entry.result
    fields = {
        "client": entry.clients[0],
        "procedure": entry.name,
        "domain": entry.domain or None,
        "duration": round(entry.milliseconds, 3),
    }
    log.debug("(%s) = %s", entry.arguments, outcome, extra=fields)
