"""The server's side of one connection, without the connection: bytes in, messages out.

Knows frames and their limits, not what is in them and not where the bytes come from. A security
layer negotiated by SASL belongs between the transport and this class: it hands over plain bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from virtbackupd.protocol import message
from virtbackupd.protocol.errors import ProtocolError, TooLongError
from virtbackupd.protocol.message import (
    HEADER,
    KEEPALIVE_PROGRAM,
    KEEPALIVE_VERSION,
    MAX_FDS,
    MAX_FRAME,
    PING,
    PONG,
    Call,
    CallWithFds,
    Incoming,
    KeepalivePing,
    KeepalivePong,
    MessageType,
    Stray,
    StreamData,
    StreamHole,
)

_LENGTH_SIZE = 4
_FD_COUNT_SIZE = 4
_HEADER_SIZE = HEADER.size
_unpack_header = HEADER.unpack_from
_CALL = int(MessageType.CALL)


@dataclass(frozen=True, slots=True)
class Limits:
    """The longest frame, its length word included.

    Before authentication a peer gets less: the most SASL data, at four bytes each, and some more.
    """

    authenticated: int = MAX_FRAME
    anonymous: int = 327_680


class ServerConnection:
    """Cuts a client's bytes into messages.

    The bytes that stand for passed descriptors are taken off the stream with their frame.
    """

    reply = staticmethod(message.reply)
    error_reply = staticmethod(message.error_reply)
    event = staticmethod(message.event)
    stream_data = staticmethod(message.stream_data)
    stream_finish = staticmethod(message.stream_finish)
    stream_abort = staticmethod(message.stream_abort)
    stream_hole = staticmethod(message.stream_hole)
    ping = staticmethod(message.ping)
    pong = staticmethod(message.pong)

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._max_frame = self._limits.anonymous
        self._buffer = bytearray()
        self._wanted = 0
        """What the frame at the head of the buffer takes, as far as known; 0: not looked at."""
        self.completed = 0
        """How often a message that had begun came to its end: it tells one from the next."""

    @property
    def unfinished(self) -> bool:
        """Whether a message has begun and is not all there."""
        return bool(self._buffer)

    @property
    def wanted(self) -> int:
        """Bytes of the message that has begun, as far as known; or 0."""
        return max(self._wanted, len(self._buffer))

    @property
    def authenticated(self) -> bool:
        return self._max_frame == self._limits.authenticated

    @authenticated.setter
    def authenticated(self, value: bool) -> None:
        self._max_frame = self._limits.authenticated if value else self._limits.anonymous

    def receive_data(self, chunk: bytes) -> list[Incoming]:
        """The messages that this chunk completes; an unfinished one is kept for the next.

        Raises `ProtocolError`; the connection is of no use then.
        """
        if not self._buffer:
            call = self._lone_call(chunk)
            if call is not None:
                return [call]
            messages, used = self._messages(chunk)
            if used < len(chunk):
                self._buffer += chunk[used:]
            return messages
        self._buffer += chunk
        if len(self._buffer) < self._wanted:
            return []
        messages, used = self._messages(bytes(self._buffer))
        del self._buffer[:used]
        self.completed += bool(used)
        return messages

    def receive_eof(self) -> None:
        """Raises `ProtocolError` when the peer left in the middle of a frame."""
        if self._buffer:
            raise ProtocolError(f"the peer left after {len(self._buffer)} bytes of a message")

    def _lone_call(self, chunk: bytes) -> Call | None:
        """The commonest chunk by far, one call and nothing else, is read without detours."""
        if not _HEADER_SIZE <= len(chunk) <= self._max_frame:
            return None
        length, program, version, procedure, kind, serial, status = _unpack_header(chunk)
        if length != len(chunk) or kind != _CALL:
            return None
        return Call(program, version, procedure, serial, status, chunk[_HEADER_SIZE:])

    def _messages(self, data: bytes) -> tuple[list[Incoming], int]:
        messages: list[Incoming] = []
        start, end = 0, len(data)
        while end - start >= _LENGTH_SIZE:
            length = self._frame_length(data, start)
            self._wanted = length
            if end - start < length:
                return messages, start
            incoming, extra = _frame(data, start, length)
            self._wanted = length + extra
            if end - start < self._wanted:
                return messages, start
            messages.append(incoming)
            start += self._wanted
        self._wanted = 0
        return messages, start

    def _frame_length(self, data: bytes, start: int) -> int:
        length = int.from_bytes(data[start : start + _LENGTH_SIZE], "big")
        if not HEADER.size <= length <= self._max_frame:
            kind = TooLongError if length > self._max_frame else ProtocolError
            raise kind(
                f"a message of {length} bytes; {HEADER.size} to {self._max_frame} are allowed"
            )
        return length


def _frame(data: bytes, start: int, length: int) -> tuple[Incoming, int]:
    """The message, and how many bytes behind the frame belong to it."""
    _, program, version, procedure, kind, serial, status = HEADER.unpack_from(data, start)
    payload = data[start + HEADER.size : start + length]
    if kind == MessageType.CALL:
        return Call(program, version, procedure, serial, status, payload), 0
    if kind == MessageType.CALL_WITH_FDS:
        call = _call_with_fds(Call(program, version, procedure, serial, status, payload))
        return call, call.fd_count
    build = _BUILDERS.get(kind)
    if build is None:
        return Stray(program, kind), 0
    return build(program, version, procedure, serial, status, payload), 0


def _call_with_fds(call: Call) -> CallWithFds:
    if len(call.payload) < _FD_COUNT_SIZE:
        raise ProtocolError("a call with descriptors that does not say how many")
    count = int.from_bytes(call.payload[:_FD_COUNT_SIZE], "big")
    if count > MAX_FDS:
        raise ProtocolError(f"a call with {count} descriptors; {MAX_FDS} are allowed")
    return CallWithFds(*call[:5], call.payload[_FD_COUNT_SIZE:], count)


_KEEPALIVE: dict[tuple[int, int, int], Incoming] = {
    (KEEPALIVE_PROGRAM, KEEPALIVE_VERSION, PING): KeepalivePing(),
    (KEEPALIVE_PROGRAM, KEEPALIVE_VERSION, PONG): KeepalivePong(),
}


def _keepalive(
    program: int, version: int, procedure: int, _serial: int, _status: int, _payload: bytes
) -> Incoming:
    """Clients have no events to send: anything but keepalive is a stray."""
    stray = Stray(program, MessageType.MESSAGE)
    return _KEEPALIVE.get((program, version, procedure), stray)


_BUILDERS: dict[int, Callable[[int, int, int, int, int, bytes], Incoming]] = {
    MessageType.MESSAGE: _keepalive,
    MessageType.STREAM: StreamData,
    MessageType.STREAM_HOLE: StreamHole,
}
