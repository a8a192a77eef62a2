"""Frames: what a connection hands out, and the bytes of what a server sends.

A frame is a length word, six header words and a payload. The module makes single frames and knows
neither what the payload of a procedure looks like nor which frame is expected next.
"""

import struct
from enum import IntEnum
from functools import cache
from typing import NamedTuple, TypeAlias

from virtbackupd.protocol import schema
from virtbackupd.protocol.errors import ProtocolError, RemoteError, XdrEncodeError, XdrError
from virtbackupd.protocol.xdr import Codec


class MessageType(IntEnum):
    CALL = 0
    REPLY = 1
    MESSAGE = 2
    STREAM = 3
    CALL_WITH_FDS = 4
    REPLY_WITH_FDS = 5
    STREAM_HOLE = 6


class Status(IntEnum):
    OK = 0
    ERROR = 1
    CONTINUE = 2


HEADER = struct.Struct(">IIIiiIi")
"""Length, program, version, procedure, type, serial, status."""
MAX_FRAME = 33_554_436
MAX_PAYLOAD = MAX_FRAME - HEADER.size
MAX_FDS = 32
KEEPALIVE_PROGRAM = 0x6B656570
KEEPALIVE_VERSION = 1
EVENT_SERIAL = 1
"""Events carry no serial by the documentation; libvirtd sends 1, and so does this server."""
_ERROR_TEXT_LIMIT = 65_536


class Call(NamedTuple):
    """A request. `payload` is as it came: it is decoded once the procedure is known."""

    program: int
    version: int
    procedure: int
    serial: int
    status: int
    payload: bytes


class CallWithFds(NamedTuple):
    """A request with passed descriptors, which themselves came beside the bytes."""

    program: int
    version: int
    procedure: int
    serial: int
    status: int
    payload: bytes
    fd_count: int


class StreamData(NamedTuple):
    """A packet of the stream that the call with this procedure and serial opened.

    CONTINUE with data is data, OK ends the stream, ERROR aborts it.
    """

    program: int
    version: int
    procedure: int
    serial: int
    status: int
    data: bytes


class StreamHole(NamedTuple):
    """A part of a sparse stream that is all zeros."""

    program: int
    version: int
    procedure: int
    serial: int
    status: int
    payload: bytes

    def length(self) -> int:
        """To be asked for a stream that exists; a hole of any other stream is to be dropped."""
        try:
            length: int = _codec("stream_hole").decode(self.payload)[0][0]
        except XdrError as error:
            raise ProtocolError(f"stream {self.serial}: a hole without its length") from error
        if length < 0:
            raise ProtocolError(f"stream {self.serial}: a hole of {length} bytes")
        return length


class KeepalivePing(NamedTuple):
    """To be answered with a pong at once, before authentication too."""


class KeepalivePong(NamedTuple):
    """The answer to a ping."""


class Stray(NamedTuple):
    """A frame that libvirt drops without a word: replies, events and unknown types."""

    program: int
    type: int


Request: TypeAlias = Call | CallWithFds
StreamPacket: TypeAlias = Request | StreamData | StreamHole
"""Whatever names a stream by its program, version, procedure and serial."""
Incoming: TypeAlias = (
    Call | CallWithFds | StreamData | StreamHole | KeepalivePing | KeepalivePong | Stray
)


@cache
def _codec(type_name: str) -> Codec:
    return schema.load().codec(type_name)


def reply(call: Request, payload: bytes) -> bytes:
    """Raises `XdrEncodeError` when the result is too long for one frame."""
    return _answer(call, MessageType.REPLY, Status.OK, payload)


def error_reply(call: Request, error: RemoteError) -> bytes:
    return _answer(call, MessageType.REPLY, Status.ERROR, encode_error(error))


def event(program: int, procedure: int, payload: bytes, version: int = 1) -> bytes:
    source = Call(program, version, procedure, EVENT_SERIAL, Status.OK, b"")
    return _answer(source, MessageType.MESSAGE, Status.OK, payload)


def stream_data(stream: StreamPacket, data: bytes) -> bytes:
    """No data at all means: the server has no more to send."""
    return _answer(stream, MessageType.STREAM, Status.CONTINUE, data)


def stream_finish(stream: StreamPacket) -> bytes:
    """Confirms the end that the client announced, or its abort."""
    return _answer(stream, MessageType.STREAM, Status.OK, b"")


def stream_abort(stream: StreamPacket, error: RemoteError) -> bytes:
    return _answer(stream, MessageType.STREAM, Status.ERROR, encode_error(error))


def stream_hole(stream: StreamPacket, length: int) -> bytes:
    payload = _codec("stream_hole").encode((length, 0))
    return _answer(stream, MessageType.STREAM_HOLE, Status.CONTINUE, payload)


def ping() -> bytes:
    return _PING


def pong() -> bytes:
    return _PONG


def encode_error(error: RemoteError) -> bytes:
    """The payload of a refusal. Over-long texts are cut: a refusal has to arrive."""
    texts = [_clip(text) for text in (error.message, error.str1, error.str2, error.str3)]
    fields = (error.code, error.domain, texts[0], error.level, None, *texts[1:])
    return _codec("remote_error").encode((*fields, error.int1, error.int2, None))


def decode_error(payload: bytes) -> RemoteError:
    """Raises `XdrError`."""
    fields = _codec("remote_error").decode(payload)[0]
    code, domain, message, level, _, str1, str2, str3, int1, int2, _ = fields
    return RemoteError(code, domain, message or "", level, str1, str2, str3, int1, int2)


def _clip(text: str | None) -> str | None:
    return text if text is None else text[:_ERROR_TEXT_LIMIT]


def _answer(source: StreamPacket, kind: MessageType, status: Status, payload: bytes) -> bytes:
    program, version, procedure, serial = source[:4]
    length = HEADER.size + len(payload)
    if length > MAX_FRAME:
        raise XdrEncodeError(f"{len(payload)} bytes do not fit one message of {MAX_PAYLOAD}")
    return HEADER.pack(length, program, version, procedure, kind, serial, status) + payload


def _keepalive(procedure: int) -> bytes:
    source = Call(KEEPALIVE_PROGRAM, KEEPALIVE_VERSION, procedure, 0, Status.OK, b"")
    return _answer(source, MessageType.MESSAGE, Status.OK, b"")


PING, PONG = 1, 2
_PING, _PONG = _keepalive(PING), _keepalive(PONG)
