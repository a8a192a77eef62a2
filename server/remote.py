"""A client of libvirt's protocol for the daemon's own tools: calls, their answers, and events.

One task uses a connection at a time. Pings are answered whenever something is awaited; every wait
has an end, and a peer that breaks the protocol or falls silent loses the connection. What calls
mean is not known here.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, TypeAlias

import trio

from virtbackupd.protocol import message, schema
from virtbackupd.protocol.client import Frame, FrameReader, encode_call
from virtbackupd.protocol.errors import ProtocolError, RemoteError, XdrEncodeError, XdrError
from virtbackupd.protocol.message import KEEPALIVE_PROGRAM, PING, MessageType
from virtbackupd.protocol.procedures import Procedure
from virtbackupd.server.remote_dial import CannotConnect, RemoteProblem, dial
from virtbackupd.server.remote_login import log_in
from virtbackupd.server.remote_uri import RemoteUri, UriError, parse_uri

CALL_PATIENCE: Final = 60.0
"""Seconds for the answer to a call; libvirt itself may wait 30 s for a job to end first."""
IN_FLIGHT: Final = 16
"""Calls that are sent before an answer is awaited."""
MAX_EVENTS: Final = 10_000
"""Events kept until somebody asks for them; what is more is dropped, the oldest first."""
_CHUNK: Final = 65_536

WireValue: TypeAlias = Any
"""Whatever the interface text says that a procedure takes or gives."""
Fields: TypeAlias = tuple[WireValue, ...]


class ConnectionLost(RemoteProblem):
    """The server closed the connection, fell silent, or sent what makes no sense."""


class Refused(RemoteProblem):
    """The server refused a call; the text is its own."""

    def __init__(self, error: RemoteError) -> None:
        super().__init__(error.message)
        self.code = error.code


class Event(NamedTuple):
    """An event that a callback was registered for."""

    name: str
    """The procedure's."""
    fields: Fields


class Remote:
    """An open connection; `uri` is what it was opened by."""

    def __init__(self, stream: trio.abc.Stream, uri: RemoteUri) -> None:
        self.uri = uri
        self._stream = stream
        self._reader = FrameReader()
        self._frames: deque[Frame] = deque()
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._serial = 0
        self._schema = schema.load()

    async def call(self, name: str, *args: WireValue) -> Fields:
        """The result; raises Refused or ConnectionLost."""
        (answer,) = await self.calls(name, [args])
        if isinstance(answer, Refused):
            raise answer
        return answer

    async def calls(self, name: str, many: Sequence[Fields]) -> list[Fields | Refused]:
        """The same call with several arguments, not one after the other; answers in their order."""
        procedure = self._schema.by_name[name]
        answers: list[Fields | Refused] = []
        for start in range(0, len(many), IN_FLIGHT):
            answers += await self._batch(procedure, many[start : start + IN_FLIGHT])
        return answers

    async def next_event(self) -> Event:
        """Waits as long as it takes: set a deadline around it."""
        while not self._events:
            self._take_aside(await self._frame())
        return self._events.popleft()

    async def events_until(self, deadline: float) -> list[Event]:
        """What has come when that moment of Trio's clock is there."""
        found: list[Event] = []
        with trio.move_on_at(deadline):
            while True:
                found.append(await self.next_event())
        return found

    async def _batch(self, procedure: Procedure, many: Sequence[Fields]) -> list[Fields | Refused]:
        try:
            with trio.fail_after(CALL_PATIENCE):
                serials = await self._send(procedure, many)
                answers = await self._answers(procedure, serials)
        except trio.TooSlowError:
            raise ConnectionLost(
                f"no answer to {procedure.name} for {CALL_PATIENCE:.0f} s: the server hangs, or a"
                " job of it does"
            ) from None
        return [answers[serial] for serial in serials]

    async def _send(self, procedure: Procedure, many: Sequence[Fields]) -> list[int]:
        first = self._serial + 1
        self._serial += len(many)
        serials = list(range(first, self._serial + 1))
        try:
            calls = [
                encode_call(procedure, serial, args)
                for serial, args in zip(serials, many, strict=True)
            ]
        except XdrEncodeError as error:
            raise RemoteProblem(f"{procedure.name} cannot be asked: {error}") from error
        await self._send_bytes(b"".join(calls))
        return serials

    async def _answers(
        self, procedure: Procedure, serials: Sequence[int]
    ) -> dict[int, Fields | Refused]:
        missing = set(serials)
        answers: dict[int, Fields | Refused] = {}
        while missing:
            frame = await self._frame()
            if frame.kind != MessageType.REPLY or frame.serial not in missing:
                self._take_aside(frame)
                continue
            missing.discard(frame.serial)
            answers[frame.serial] = _decoded(procedure, frame)
        return answers

    async def _frame(self) -> Frame:
        """The next that is no ping."""
        while True:
            while not self._frames:
                await self._receive()
            frame = self._frames.popleft()
            if frame.program != KEEPALIVE_PROGRAM:
                return frame
            if frame.procedure == PING:
                await self._send_bytes(message.pong())

    async def _receive(self) -> None:
        try:
            chunk = await self._stream.receive_some(_CHUNK)
        except trio.BrokenResourceError as error:
            raise ConnectionLost(f"the connection broke: {error.__cause__ or error}") from error
        if not chunk:
            raise ConnectionLost("the server closed the connection")
        try:
            self._frames.extend(self._reader.receive_data(bytes(chunk)))
        except ProtocolError as error:
            raise ConnectionLost(f"the server sends what is no libvirt protocol: {error}") from None

    async def _send_bytes(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as error:
            raise ConnectionLost(f"the connection broke: {error.__cause__ or error}") from error

    def _take_aside(self, frame: Frame) -> None:
        """Keep an event; anything else nobody waits for."""
        procedure = self._schema.by_number.get((frame.program, frame.procedure))
        if frame.kind == MessageType.MESSAGE and procedure is not None and procedure.declared:
            fields = _unpacked(procedure.name, procedure.decode_message, frame.payload)
            self._events.append(Event(procedure.name, fields))


@asynccontextmanager
async def connected(text: str, *, read_only: bool = False) -> AsyncIterator[Remote]:
    """An open connection, closed at the end of the block; raises RemoteProblem."""
    try:
        uri = parse_uri(text)
    except UriError as error:
        raise CannotConnect(str(error)) from None
    stream = await dial(uri, read_only=read_only)
    try:
        remote = Remote(stream, uri)
        await log_in(remote.call, uri)
        await remote.call("CONNECT_OPEN", uri.opened or None, int(read_only))
        yield remote
    finally:
        # Forcefully: a server that hangs must not keep the client from ending.
        await trio.aclose_forcefully(stream)


def _decoded(procedure: Procedure, frame: Frame) -> Fields | Refused:
    error = _unpacked(procedure.name, lambda _: frame.error(), frame.payload)
    if error is not None:
        return Refused(error)
    fields: Fields = _unpacked(procedure.name, procedure.decode_ret, frame.payload)
    return fields


def _unpacked(name: str, decode: Callable[[bytes], WireValue], payload: bytes) -> WireValue:
    try:
        return decode(payload)
    except XdrError as error:
        raise ConnectionLost(f"the server's answer to {name} makes no sense: {error}") from error
