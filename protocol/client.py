"""The client's side of the same frames, for our own tools and for tests.

As pure as the server's side. It is no libvirt client: it sends what it is told and reads what a
server sends, whatever that is.
"""

from dataclasses import dataclass
from typing import Any

from virtbackupd.protocol.errors import ProtocolError, RemoteError
from virtbackupd.protocol.message import (
    HEADER,
    MAX_FRAME,
    MessageType,
    Status,
    decode_error,
)
from virtbackupd.protocol.procedures import Procedure

_LENGTH_SIZE = 4


@dataclass(frozen=True, slots=True)
class Frame:
    """Any frame that a server may send."""

    program: int
    version: int
    procedure: int
    kind: int
    serial: int
    status: int
    payload: bytes

    def error(self) -> RemoteError | None:
        return decode_error(self.payload) if self.status == Status.ERROR else None


def encode_frame(frame: Frame) -> bytes:
    length = HEADER.size + len(frame.payload)
    header = (frame.program, frame.version, frame.procedure, frame.kind, frame.serial)
    return HEADER.pack(length, *header, frame.status) + frame.payload


def encode_call(procedure: Procedure, serial: int, args: tuple[Any, ...] = ()) -> bytes:
    payload = procedure.encode_args(args)
    program, number = procedure.program, procedure.number
    return encode_frame(Frame(program, 1, number, MessageType.CALL, serial, Status.OK, payload))


def decode_frame(data: bytes) -> Frame:
    """The one frame that `data` is."""
    _, program, version, procedure, kind, serial, status = HEADER.unpack_from(data)
    return Frame(program, version, procedure, kind, serial, status, data[HEADER.size :])


class FrameReader:
    """Cuts a server's bytes into frames; ProtocolError when a length cannot be that of a frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive_data(self, chunk: bytes) -> list[Frame]:
        self._buffer += chunk
        frames = []
        while (frame := self._take()) is not None:
            frames.append(frame)
        return frames

    def _take(self) -> Frame | None:
        if len(self._buffer) < _LENGTH_SIZE:
            return None
        length = int.from_bytes(self._buffer[:_LENGTH_SIZE], "big")
        if not HEADER.size <= length <= MAX_FRAME:
            raise ProtocolError(f"a frame of {length} bytes")
        if len(self._buffer) < length:
            return None
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        return decode_frame(data)
