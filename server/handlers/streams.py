"""Streams: a call opens one, and from then on frames with the call's serial belong to it.

A stream ends when the client finishes or aborts it, when the guest's end closes and the client says
so, or with the client. What a stream has to send waits until the client has read what went before.
"""

import logging
from collections.abc import Awaitable
from functools import partial
from typing import NamedTuple, TypeAlias

import trio

from virtbackupd.drivers.errors import DriverError, InternalError
from virtbackupd.drivers.interface import ConsoleStream
from virtbackupd.protocol.message import (
    Request,
    Status,
    StreamData,
    StreamHole,
    StreamPacket,
    stream_abort,
    stream_data,
    stream_finish,
)
from virtbackupd.server import errors
from virtbackupd.server.limits import Limits
from virtbackupd.server.session import Link, Session
from virtbackupd.server.translate import Handler, Wire

log = logging.getLogger(__name__)

CHUNK = 262_120
"""The most that clients of every age take in one frame."""

Key: TypeAlias = tuple[int, int, int]


class _Stream(NamedTuple):
    console: ConsoleStream
    scope: trio.CancelScope

    def close(self) -> None:
        self.console.close()
        self.scope.cancel()


class StreamTable:
    """The open streams of one client, by the call that opened them."""

    __slots__ = ("_closed", "_limits", "_open")

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._open: dict[Key, _Stream] | None = None
        self._closed = False

    def add(self, call: Request, console: ConsoleStream) -> trio.CancelScope:
        """The scope in which the new stream's output is to be sent."""
        if self._closed:
            console.close()
            raise InternalError("the client left before its stream was open")
        opened = self._open = self._open if self._open is not None else {}
        self.remove(call)
        if len(opened) >= self._limits.max_client_streams:
            self._limits.reached["max_client_streams"] += 1
            console.close()
            raise InternalError(
                f"one client may have {len(opened)} streams open (max_client_streams); close one"
                " first"
            )
        stream = opened[_key(call)] = _Stream(console, trio.CancelScope())
        return stream.scope

    def receive(self, packet: StreamData, link: Link) -> None:
        """A frame of the client; one of no open stream is dropped, as libvirt does."""
        stream = (self._open or {}).get(_key(packet))
        if stream is None:
            return
        if packet.status == Status.CONTINUE:
            stream.console.send_nowait(packet.data)
        else:
            self.remove(packet)
            link.send(stream_finish(packet))

    def has(self, packet: StreamHole) -> bool:
        return _key(packet) in (self._open or {})

    def remove(self, call: StreamPacket) -> None:
        stream = (self._open or {}).pop(_key(call), None)
        if stream is not None:
            stream.close()

    def close(self) -> None:
        for stream in (self._open or {}).values():
            stream.close()
        self._open = None
        self._closed = True


def _key(source: StreamPacket) -> Key:
    return source.program, source.procedure, source.serial


async def _open_console(session: Session, args: Wire, call: Request) -> None:
    domain, dev_name, flags = args
    opened = session.driver.domain_by_uuid(domain[1]).open_console(dev_name, flags)
    console = await opened if isinstance(opened, Awaitable) else opened
    scope = session.streams.add(call, console)
    session.link.start(partial(_send_output, session, console, call, scope))


async def _send_output(
    session: Session, console: ConsoleStream, call: Request, scope: trio.CancelScope
) -> None:
    with scope:
        try:
            await _copy(session.link, console, call)
        except DriverError as error:
            session.streams.remove(call)
            session.link.send(stream_abort(call, errors.refusal(error, session.scheme)))


async def _copy(link: Link, console: ConsoleStream, call: Request) -> None:
    """Send what the guest says. The empty frame at its end asks the client to finish."""
    data = b"begin"
    while data:
        await link.drained()
        data = await console.receive()
        for start in range(0, len(data) or 1, CHUNK):
            link.send(stream_data(call, data[start : start + CHUNK]))


HANDLERS: dict[str, Handler] = {"DOMAIN_OPEN_CONSOLE": _open_console}
