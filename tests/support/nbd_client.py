"""A small blocking NBD client: the block status and the bytes of one export, as backup programs do.

Speaks fixed newstyle with structured replies and one metadata context, over Unix sockets. It checks
what it has to rely on and knows nothing of libvirt.
"""

import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

PATIENCE = 60.0
OPTION_MAGIC = 0x49484156454F5054
REQUEST_MAGIC = 0x25609513
CHUNK_MAGIC = 0x668E33EF
OPTION = struct.Struct(">QII")
OPTION_REPLY = struct.Struct(">QIII")
REQUEST = struct.Struct(">IHHQQI")
CHUNK = struct.Struct(">IHHQI")
EXTENT = struct.Struct(">II")
READ, DISCONNECT, BLOCK_STATUS = 0, 2, 7
DATA, HOLE, STATUS = 1, 2, 5
LAST = 1
GO, STRUCTURED_REPLY, SET_META_CONTEXT = 7, 8, 10
ACK, ERROR = 1, 1 << 31
LONGEST_READ = 1 << 25
LONGEST_STATUS = (1 << 32) - (1 << 16)
ALLOCATION = "base:allocation"


class Extent(NamedTuple):
    """A part of an export, with the flags of the metadata context."""

    offset: int
    length: int
    flags: int


class NbdClient:
    """One connection to one export."""

    def __init__(self, path: Path, export: str, context: str = ALLOCATION) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        self._cookie = 0
        self.size = 0
        try:
            self._socket.connect(str(path))
            self._negotiate(export.encode(), context.encode())
        except BaseException:
            self._socket.close()
            raise

    def extents(self) -> list[Extent]:
        """The whole export, as one chain of extents."""
        found: list[Extent] = []
        offset = 0
        while offset < self.size:
            length = min(self.size - offset, LONGEST_STATUS)
            for part in self._block_status(offset, length):
                found.append(part)
                offset += part.length
        return found

    def read(self, offset: int, length: int) -> bytes:
        """Any number of bytes, in as few requests as the protocol lets one rely on."""
        data = bytearray(length)
        for begin in range(0, length, LONGEST_READ):
            self._read_into(memoryview(data)[begin : begin + LONGEST_READ], offset + begin)
        return bytes(data)

    def wait_at_most(self, seconds: float) -> None:
        """From now on TimeoutError when so long nothing comes."""
        self._socket.settimeout(seconds)

    def begin_reading(self, offset: int, length: int) -> None:
        """Ask for many bytes and take none; returns when the server has begun to send them."""
        self._send(READ, offset, length)
        assert select.select([self._socket], [], [], PATIENCE)[0]

    def hang_up(self) -> None:
        """Without a word; the server may have done so before."""
        self._socket.close()

    def close(self) -> None:
        with self._socket:
            self._send(DISCONNECT, 0, 0)

    def _negotiate(self, export: bytes, context: bytes) -> None:
        self._receive(18)
        self._socket.sendall(struct.pack(">I", 3))
        self._option(STRUCTURED_REPLY)
        name = struct.pack(">I", len(export)) + export
        self._option(SET_META_CONTEXT, name + struct.pack(">II", 1, len(context)) + context)
        for information in self._option(GO, name + struct.pack(">H", 0)):
            if information[:2] == b"\0\0":
                (self.size,) = struct.unpack_from(">Q", information, 2)

    def _option(self, option: int, payload: bytes = b"") -> list[bytes]:
        """What was answered before the acknowledgement."""
        self._socket.sendall(OPTION.pack(OPTION_MAGIC, option, len(payload)) + payload)
        answers: list[bytes] = []
        while True:
            _, _, kind, length = OPTION_REPLY.unpack(self._receive(OPTION_REPLY.size))
            payload = self._receive(length)
            if kind == ACK:
                return answers
            if kind & ERROR:
                raise ConnectionError(f"NBD option {option} refused, {kind:#x}: {payload!r}")
            answers.append(payload)

    def _block_status(self, offset: int, length: int) -> Iterator[Extent]:
        for kind, payload in self._request(BLOCK_STATUS, offset, length):
            if kind == STATUS:
                for extent, flags in EXTENT.iter_unpack(payload[4:]):
                    yield Extent(offset, extent, flags)
                    offset += extent

    def _read_into(self, target: memoryview, offset: int) -> None:
        for kind, payload in self._request(READ, offset, len(target)):
            if kind == DATA:
                begin = int.from_bytes(payload[:8], "big") - offset
                target[begin : begin + len(payload) - 8] = payload[8:]

    def _request(self, command: int, offset: int, length: int) -> Iterator[tuple[int, bytes]]:
        """The chunks of the reply; ConnectionError for one that tells of an error."""
        self._send(command, offset, length)
        flags = 0
        while not flags & LAST:
            magic, flags, kind, cookie, size = CHUNK.unpack(self._receive(CHUNK.size))
            payload = self._receive(size)
            if (magic, cookie) != (CHUNK_MAGIC, self._cookie) or kind & 1 << 15:
                raise ConnectionError(f"NBD request {command} failed, {kind:#x}: {payload!r}")
            yield kind, payload

    def _send(self, command: int, offset: int, length: int) -> None:
        self._cookie += 1
        self._socket.sendall(REQUEST.pack(REQUEST_MAGIC, 0, command, self._cookie, offset, length))

    def _receive(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            part = self._socket.recv(count - len(data))
            if not part:
                raise ConnectionError("the NBD server closed the connection")
            data += part
        return bytes(data)


@contextmanager
def nbd_client(path: Path, export: str, context: str = ALLOCATION) -> Iterator[NbdClient]:
    client = NbdClient(path, export, context)
    try:
        yield client
    finally:
        client.close()
