"""What clients asked, what they got and which events they were told: the last calls, for people.

A transcript stands before the dispatcher, so a daemon without one pays nothing. What may be secret
is never kept. Nothing is decided here and no file is known: who wants entries as they come gives a
sink.
"""

import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from virtbackupd.drivers.clock import Clock
from virtbackupd.protocol.errors import XdrError
from virtbackupd.protocol.message import HEADER, Request, Status, decode_error
from virtbackupd.protocol.procedures import Procedure, StructInfo
from virtbackupd.protocol.schema import Schema
from virtbackupd.server.dispatch import Answering, public_name
from virtbackupd.server.session import Session
from virtbackupd.server.translate import Wire

LIMIT: Final = 1000
"""Calls and events that are kept; the oldest go first."""
CLIP: Final = 160
"""Characters of one argument or result."""
DECODED: Final = 65_536
"""Bytes of a result beyond which only its length is told: a list of all domains takes long."""
HIDDEN: Final = "(hidden)"
SECRET_PROCEDURES: Final = frozenset(
    {
        "AUTH_SASL_START",
        "AUTH_SASL_STEP",
        "DOMAIN_SET_USER_PASSWORD",
        "SECRET_GET_VALUE",
        "SECRET_SET_VALUE",
    }
)
"""Neither arguments nor results of these are looked at."""

_SECRET_WORD = re.compile(r"passw|passphrase|secret|credential|private.?key", re.IGNORECASE)
_UUID_BYTES = 16
_STATUS = 6
"""Where the status stands in the header of a reply."""


class Entry(msgspec.Struct, frozen=True):
    """One call or event. Texts are cut short."""

    number: int
    """Counts from 1 and is never given twice."""
    time: float
    """When the call came or the event was delivered: seconds since 1970, by the daemon's clock."""
    clients: tuple[int, ...]
    """The caller, or all who were told; clients are numbered in the order they came."""
    name: str
    """As users know it: virDomainBackupBegin; an event's is that of its message."""
    domain: str
    arguments: str
    result: str = ""
    """Of a call that was refused, the message."""
    code: int = 0
    """The libvirt error code, 0 when there was none."""
    milliseconds: float = 0.0
    event: bool = False

    def __str__(self) -> str:
        clients = ",".join(map(str, self.clients))
        if self.event:
            return f"[{clients}] <- {self.name}({self.arguments})"
        outcome = f"error {self.code}: {self.result}" if self.code else self.result
        taken = f"{self.milliseconds:.1f} ms"
        return f"[{clients}] {self.name}({self.arguments}) = {outcome} ({taken})"


class _Begun(NamedTuple):
    """A call that waits for its answer."""

    time: float
    started: float
    client: int
    name: str
    domain: str
    arguments: str


class Transcript:
    """A bounded record. Read and written in the daemon's own thread only."""

    def __init__(self, clock: Clock | None = None, limit: int = LIMIT) -> None:
        self.sink: Callable[[Entry], None] | None = None
        """Told each entry as it is made; must not wait."""
        self._clock = clock or Clock()
        self._kept: deque[Entry] = deque(maxlen=limit)
        self._running: dict[int, _Begun] = {}
        self._tickets = 0
        self._count = 0

    @property
    def count(self) -> int:
        """The number of the last entry; to be given to `entries` later."""
        return self._count

    def entries(self, after: int = 0) -> list[Entry]:
        """What is kept of the entries behind that number, the oldest first."""
        return [entry for entry in self._kept if entry.number > after]

    def text(self, after: int = 0) -> str:
        """A line for each entry, and for each call that has no answer yet."""
        now = time.monotonic()
        waiting = [
            f"[{call.client}] {call.name}({call.arguments}) has no answer yet"
            f" ({now - call.started:.1f} s)"
            for call in self._running.values()
        ]
        return "\n".join([*map(str, self.entries(after)), *waiting])

    def clear(self) -> None:
        self._kept.clear()

    # What the daemon tells
    def begin(self, client: int, procedure: Procedure, args: Wire | None) -> int:
        """A call has come; the ticket is for `end`. `args` is None if they cannot be decoded."""
        self._tickets += 1
        self._running[self._tickets] = _Begun(
            self._clock.time(),
            time.monotonic(),
            client,
            public_name(procedure.name),
            _domain_of(args or ()),
            _fields(procedure.args, args, procedure.name),
        )
        return self._tickets

    def end(self, ticket: int, code: int, result: str) -> None:
        call = self._running.pop(ticket)
        taken = (time.monotonic() - call.started) * 1000
        self._keep(
            Entry(
                number=self._count + 1,
                time=call.time,
                clients=(call.client,),
                name=call.name,
                domain=call.domain,
                arguments=call.arguments,
                result=result,
                code=code,
                milliseconds=taken,
            )
        )

    def delivered(self, clients: Sequence[int], procedure: Procedure, body: Wire) -> None:
        """An event has been sent to some clients, each of which may have several callbacks."""
        told = (_shown(value) for value in body)
        self._keep(
            Entry(
                number=self._count + 1,
                time=self._clock.time(),
                clients=tuple(dict.fromkeys(clients)),
                name=public_name(procedure.name),
                domain=_domain_of(body),
                arguments=", ".join(told),
                event=True,
            )
        )

    def _keep(self, entry: Entry) -> None:
        self._count = entry.number
        self._kept.append(entry)
        if self.sink is not None:
            self.sink(entry)


class TranscribedDispatcher:
    """Answers as the dispatcher does, and has each call written down."""

    def __init__(self, dispatcher: Answering, schema: Schema, transcript: Transcript) -> None:
        self._dispatcher = dispatcher
        self._procedures = schema.by_number
        self._transcript = transcript

    def answer(self, session: Session, call: Request) -> bytes | Awaitable[bytes]:
        procedure = self._procedures.get((call.program, call.procedure))
        if procedure is None:
            return self._dispatcher.answer(session, call)
        ticket = self._transcript.begin(session.link.number, procedure, _decoded(procedure, call))
        answer = self._dispatcher.answer(session, call)
        if isinstance(answer, bytes):
            self._transcript.end(ticket, *_outcome(procedure, answer))
            return answer
        return self._later(ticket, procedure, answer)

    async def _later(self, ticket: int, procedure: Procedure, waiting: Awaitable[bytes]) -> bytes:
        outcome = (0, "the connection ended first")
        try:
            answer = await waiting
            outcome = _outcome(procedure, answer)
            return answer
        finally:
            self._transcript.end(ticket, *outcome)


def _decoded(procedure: Procedure, call: Request) -> Wire | None:
    try:
        return procedure.decode_args(call.payload)
    except XdrError:
        return None


def _outcome(procedure: Procedure, reply: bytes) -> tuple[int, str]:
    """Code and text of a reply frame; a fault may have left none."""
    if not reply:
        return 0, "no reply"
    payload = reply[HEADER.size :]
    if HEADER.unpack_from(reply)[_STATUS] == Status.ERROR:
        error = decode_error(payload)
        return error.code, _clipped(error.message)
    if procedure.ret is None:
        return 0, "ok"
    if len(payload) > DECODED:
        return 0, f"{len(payload)} bytes"
    return 0, _fields(procedure.ret, procedure.decode_ret(payload), procedure.name)


def _fields(struct: StructInfo | None, values: Wire | None, procedure: str) -> str:
    if struct is None:
        return ""
    if procedure in SECRET_PROCEDURES:
        return HIDDEN
    if values is None:
        return "(cannot be decoded)"
    shown = (_value(field.name, value) for field, value in zip(struct.fields, values, strict=False))
    return ", ".join(shown)


def _value(name: str, value: object) -> str:
    if name == "flags" and isinstance(value, int):
        return f"flags={value:#x}"
    return f"{name}={_shown(value)}"


def _shown(value: object) -> str:
    """By the value alone: names for objects, counts for lists, lengths for bytes."""
    if isinstance(value, str):
        return repr(_clipped(value))
    if isinstance(value, bytes):
        return value.hex() if len(value) == _UUID_BYTES else f"{len(value)} bytes"
    if isinstance(value, list):
        return f"[{len(value)} items]"
    if isinstance(value, tuple):
        return next((part for part in value if isinstance(part, str)), "(...)")
    return str(value)


def _clipped(text: str) -> str:
    """One line, which ends where a secret might begin."""
    text = " ".join(text[: CLIP * 8].split())
    found = _SECRET_WORD.search(text)
    if found and found.end() < CLIP:
        return f"{text[: found.end()]}... {HIDDEN}"
    return text if len(text) <= CLIP else f"{text[: CLIP - 3]}..."


def _is_domain(value: object) -> bool:
    """Name, UUID and id."""
    return (
        isinstance(value, tuple)
        and len(value) == 3
        and isinstance(value[0], str)
        and isinstance(value[1], bytes)
    )


def _domain_of(values: Wire) -> str:
    """The name of the first domain, also of one within a checkpoint or a snapshot."""
    for value in values:
        if _is_domain(value):
            return str(value[0])
        if isinstance(value, tuple) and (found := _domain_of(value)):
            return found
    return ""
