"""A client that sends the frames it is told to and shows those it gets, over any connected socket.

Nothing is retried and every wait has an end, so that a test sees exactly what the server did.
"""

import socket
from typing import Any

import trio

from virtbackupd.protocol import schema
from virtbackupd.protocol.client import Frame, decode_frame, encode_call, encode_frame
from virtbackupd.protocol.errors import RemoteError

PATIENCE = 60.0
"""Seconds for anything the server has to do at once."""


class RawClient:
    """One connection; serials count up from 0 as those of the stock client do."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(0)
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._buffer = b""
        self._serial = -1
        self.procedures = schema.load().by_name

    def call_bytes(self, name: str, *args: Any) -> bytes:  # noqa: ANN401 - any wire value
        """The next call, not sent yet."""
        self._serial += 1
        return encode_call(self.procedures[name], self._serial, args)

    async def send(self, data: bytes) -> None:
        with trio.fail_after(PATIENCE):
            await self._stream.send_all(data)

    async def send_frame(self, frame: Frame) -> None:
        await self.send(encode_frame(frame))

    async def start(self, name: str, *args: Any) -> int:  # noqa: ANN401 - any wire value
        """Send a call and do not wait for its reply; returns its serial."""
        await self.send(self.call_bytes(name, *args))
        return self._serial

    async def receive(self) -> Frame | None:
        """The next frame, or None when the server has closed."""
        with trio.fail_after(PATIENCE):
            while len(self._buffer) < 4 or len(self._buffer) < self._wanted():
                chunk = await self._receive_some()
                if not chunk:
                    return None
                self._buffer += chunk
        length = self._wanted()
        data, self._buffer = self._buffer[:length], self._buffer[length:]
        return decode_frame(data)

    async def frame(self) -> Frame:
        """The next frame, which has to come."""
        frame = await self.receive()
        assert frame is not None, "the server has closed the connection"
        return frame

    async def call(self, name: str, *args: Any) -> tuple[Any, ...]:  # noqa: ANN401 - any wire value
        """The result of a call that has to succeed and is answered next."""
        await self.start(name, *args)
        reply = await self.frame()
        assert reply.error() is None, reply.error()
        return self.procedures[name].decode_ret(reply.payload)

    async def refused(self, name: str, *args: Any) -> RemoteError:  # noqa: ANN401 - any wire value
        """The refusal of a call that has to fail and is answered next."""
        await self.start(name, *args)
        error = (await self.frame()).error()
        assert error is not None, f"{name} succeeded"
        return error

    async def open(self, uri: str = "test:///default", flags: int = 0) -> None:
        await self.call("CONNECT_OPEN", uri, flags)

    async def is_silent(self) -> bool:
        """Whether nothing comes before the answer to a ping that is sent now."""
        await self.send_frame(Frame(0x6B656570, 1, 1, 2, 0, 0, b""))
        return (await self.frame()).program == 0x6B656570

    def close(self) -> None:
        self._stream.socket.close()

    def _wanted(self) -> int:
        return int.from_bytes(self._buffer[:4], "big")

    async def _receive_some(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(65_536))
        except trio.BrokenResourceError:
            return b""
