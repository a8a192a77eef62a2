"""The NBD server: listening sockets, one task per client, and the fast way out for disk contents.

Decides when bytes move; which bytes is the business of `nbd_negotiation` and `nbd_transmission`.
A client that stops reading stalls only itself, and one that breaks the protocol loses only its own
connection. The server ends when it is cancelled.
"""

import errno
import logging
import socket
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec
import trio

from virtbackupd.drivers.clock import Clock
from virtbackupd.drivers.figures import NbdFigures
from virtbackupd.drivers.limits import limits as driver_limits
from virtbackupd.drivers.memory.nbd_export import NbdExport, NbdLimits, Observer
from virtbackupd.drivers.memory.nbd_faults import FaultyLine, Line, NbdFaults
from virtbackupd.drivers.memory.nbd_negotiation import Negotiation
from virtbackupd.drivers.memory.nbd_protocol import Buffers, NbdViolation
from virtbackupd.drivers.memory.nbd_tls import CHUNK, TlsSession
from virtbackupd.drivers.memory.nbd_transmission import Transmission

_log = logging.getLogger(__name__)

_RECEIVE: Final = 65536
"""Bytes taken at once: over two thousand pipelined requests."""
_GATHER: Final = 1 << 18
"""Bytes collected before they are sent: small replies share a system call."""
_IOV_MAX: Final = 1024
_TURN: Final = 0.002
"""Seconds one client may keep the event loop before the other tasks get a turn."""
_SEND_BUFFER: Final = 4 << 20


class UnixAddress(msgspec.Struct, frozen=True):
    """A socket in the file system."""

    path: str


class TcpAddress(msgspec.Struct, frozen=True):
    """A TCP port; port 0 takes a free one."""

    host: str
    port: int


NbdAddress = UnixAddress | TcpAddress


async def open_listeners(address: NbdAddress) -> list[trio.SocketListener]:
    """Listen on an address, or raise OSError. A stale socket file is replaced."""
    match address:
        case UnixAddress(path):
            return [_open_unix(path)]
        case TcpAddress(host, port):
            return await trio.open_tcp_listeners(port, host=host or None)


def close_listeners(
    listeners: Sequence[trio.SocketListener], address: NbdAddress, *, leave: bool = False
) -> None:
    """Give up an address now: the sockets and, for a path, its file unless that is to be left.

    A server on it must have been cancelled before, or it fails instead of ending.
    """
    for listener in listeners:
        listener.socket.close()
    if listeners and isinstance(address, UnixAddress) and not leave:
        Path(address.path).unlink(missing_ok=True)


class NbdServer:
    """A running server; gone when `serve_nbd` has returned."""

    def __init__(
        self,
        exports: Mapping[str, NbdExport],
        limits: NbdLimits,
        observer: Observer | None,
        clock: Clock,
        faults: NbdFaults | None = None,
        figures: NbdFigures | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._tls = tls
        self.exports = exports
        self.connections = 0
        self._limits = limits
        self._observer = observer
        self._clock = clock
        self._faults = faults
        self._figures = figures or NbdFigures()

    async def serve_client(self, stream: trio.SocketStream) -> None:
        """Serve one connection to its end, whatever that is."""
        if self.connections >= self._limits.connections:
            driver_limits().reached["max_nbd_clients"] += 1
            self._figures.refused += 1
            stream.socket.close()
            return
        self.connections += 1
        self._figures.clients += 1
        self._figures.accepted += 1
        channel = _Channel(stream)
        try:
            if self._faults is None:
                await self._talk(channel, channel)
            else:
                await self._talk_faultily(channel, self._faults)
        except NbdViolation as violation:
            _log.info("NBD client dropped: %s", violation)
        except OSError as error:
            _log.debug("NBD client lost: %s", error)
        finally:
            self.connections -= 1
            self._figures.clients -= 1
            channel.close()

    async def _talk_faultily(self, channel: "_Channel", faults: NbdFaults) -> None:
        line = FaultyLine(channel, faults)
        try:
            await line.opened()
            await self._talk(line, channel)
        finally:
            line.close()

    async def _talk(self, line: Line, channel: "_Channel") -> None:
        negotiation = Negotiation(self.exports, self._limits, tls=self._tls is not None)
        with self._clock.deadline(self._limits.negotiation_seconds, "NBD negotiation"):
            await _negotiate(line, negotiation)
            if self._tls is not None and negotiation.starting_tls:
                await channel.start_tls(self._tls)
                negotiation.starting_tls = False
                await _go_on(line, negotiation)
        if negotiation.session is not None:
            transmission = Transmission(negotiation.session, self._limits, self._observer)
            await _transmit(line, transmission, negotiation.rest)


def _configured() -> NbdLimits:
    return NbdLimits(connections=driver_limits().max_nbd_clients)


async def serve_nbd(
    listeners: Sequence[trio.SocketListener],
    exports: Sequence[NbdExport],
    *,
    limits: NbdLimits | None = None,
    observer: Observer | None = None,
    clock: Clock | None = None,
    faults: NbdFaults | None = None,
    figures: NbdFigures | None = None,
    tls: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[NbdServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the exports until cancelled, which closes the listeners.

    A socket file is removed by `close_listeners`, at an instant of the caller's choosing: here it
    might already belong to the next server on that path.
    """
    named = {export.name: export for export in exports}
    server = NbdServer(
        named, limits or _configured(), observer, clock or Clock(), faults, figures, tls
    )
    async with trio.open_nursery() as nursery:
        for listener in listeners:
            nursery.start_soon(trio.serve_listeners, server.serve_client, [listener])
        task_status.started(server)


class _Channel:
    """A socket tried at once and waited for only when it would block."""

    watching: Final = False

    def __init__(self, stream: trio.SocketStream) -> None:
        # Trio's own socket methods pass through the scheduler on every call.
        self._socket = socket.socket(fileno=stream.socket.detach())
        self._socket.settimeout(0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._turn_ends = perf_counter() + _TURN
        self._tls: TlsSession | None = None

    def close(self) -> None:
        self._socket.close()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """OSError, which TLS's own errors are, when the peer fails at it."""
        session = TlsSession(context)
        done = session.handshake()
        while not done:
            await self._send_plain([session.pending()])
            session.receive(await self._receive_plain())
            done = session.handshake()
        await self._send_plain([session.pending()])
        self._tls = session

    async def receive(self) -> bytes:
        """Some bytes; none at the end of the stream."""
        if self._tls is None:
            return await self._receive_plain()
        while (data := self._tls.read()) is None:
            self._tls.receive(await self._receive_plain())
        await self.breathe()
        return data

    async def send(self, buffers: Buffers) -> None:
        """All the buffers, in order."""
        if self._tls is None:
            await self._send_plain(buffers)
            return
        for buffer in buffers:
            whole = memoryview(buffer)
            for start in range(0, len(whole), CHUNK):
                self._tls.write(whole[start : start + CHUNK])
                await self._send_plain([self._tls.pending()])

    async def _receive_plain(self) -> bytes:
        while True:
            try:
                return self._socket.recv(_RECEIVE)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._socket)
                self._turn_ends = perf_counter() + _TURN

    async def _send_plain(self, buffers: Buffers) -> None:
        start = 0
        while start < len(buffers):
            try:
                sent = self._socket.sendmsg(buffers[start : start + _IOV_MAX])
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)
                self._turn_ends = perf_counter() + _TURN
            else:
                start = _advance(buffers, start, sent)
                await self.breathe()

    async def reply(self, transmission: Transmission, reply: Buffers) -> None:
        """Replies are sent together, by `send`, as long as nobody watches them."""
        del transmission
        await self.send(reply)

    async def breathe(self) -> None:
        """Give the other tasks a turn when this one has lasted long enough."""
        if perf_counter() >= self._turn_ends:
            await trio.lowlevel.checkpoint()
            self._turn_ends = perf_counter() + _TURN


def _open_unix(path: str) -> trio.SocketListener:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        listening.bind(path)
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    return trio.SocketListener(trio.socket.from_stdlib_socket(listening))


def _remove_stale(path: str) -> None:
    """A socket that nobody answers on was left behind; one that answers stays in the way."""
    if not Path(path).is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)
        refused = probe.connect_ex(path) == errno.ECONNREFUSED
    if refused:
        Path(path).unlink(missing_ok=True)


def _advance(buffers: Buffers, start: int, sent: int) -> int:
    """Where to go on after `sent` bytes; a buffer sent in part is cut."""
    while start < len(buffers):
        size = len(buffers[start])
        if sent < size:
            buffers[start] = memoryview(buffers[start])[sent:]
            break
        sent -= size
        start += 1
    return start


async def _negotiate(channel: Line, negotiation: Negotiation) -> None:
    await channel.send([negotiation.greeting()])
    await _go_on(channel, negotiation)


async def _go_on(channel: Line, negotiation: Negotiation) -> None:
    """Until there is something to serve, nothing to be served, or TLS to be begun."""
    while not (negotiation.session or negotiation.closed or negotiation.starting_tls):
        data = await channel.receive()
        if not data:
            return
        await channel.send([negotiation.receive(data)])


async def _transmit(channel: Line, transmission: Transmission, data: bytes | bytearray) -> None:
    while not transmission.finished:
        gathered: Buffers = []
        size = 0
        for reply in transmission.receive(data):
            if channel.watching:
                await channel.reply(transmission, reply)
                continue
            gathered += reply
            size += sum(map(len, reply))
            if size >= _GATHER or len(gathered) >= _IOV_MAX:
                await channel.send(gathered)
                gathered, size = [], 0
            await channel.breathe()
        await channel.send(gathered)
        data = await channel.receive() if not transmission.finished else b""
        if not data:
            return
