"""What becomes of an accepted socket: decrypted where it has to be, known, served, let go.

Holds the clients that are connected. Knows no frame and no call.
"""

import logging
import socket

import trio

from virtbackupd.server import audit
from virtbackupd.server.client import Client
from virtbackupd.server.identity import Identity, Transport, of_network, of_unix
from virtbackupd.server.limits import Seat
from virtbackupd.server.listeners import Listener
from virtbackupd.server.login import NO_LOGIN, Authentication, NoServerError
from virtbackupd.server.services import Services
from virtbackupd.server.tls import LeftError, RefusedError, TlsServer

log = logging.getLogger(__name__)

STOP_GRACE = 5.0
"""Seconds that running calls and unread replies may take when the daemon ends."""


class Reception:
    """The connected clients and the nursery they live in."""

    def __init__(
        self,
        nursery: trio.Nursery,
        services: Services,
        authentication: Authentication,
        tls: TlsServer | None = None,
    ) -> None:
        """There has to be a `tls` when a listener asks for it."""
        self._nursery = nursery
        self._services = services
        self._authentication = authentication
        self._tls = tls
        self._connected: dict[Client, None] = {}

    @property
    def clients(self) -> list[Client]:
        """Those that are connected, the oldest first."""
        return list(self._connected)

    def receive(self, sock: socket.socket, listener: Listener, seat: Seat) -> None:
        """Serve the socket; the seat is free again once it is closed."""
        if not listener.asks:
            seat.known()
        self._nursery.start_soon(self._serve, sock, listener, seat)

    def stop(self) -> None:
        """Each client finishes what it is at; who does not within the grace is cut off."""
        self._nursery.cancel_scope.deadline = trio.current_time() + STOP_GRACE
        for client in self.clients:
            client.stop()

    async def _serve(self, sock: socket.socket, listener: Listener, seat: Seat) -> None:
        try:
            with sock:
                await self._by_transport(sock, listener, seat)
        except Exception:
            log.exception("a bug of ours ended a connection")
        finally:
            seat.leave()

    async def _by_transport(self, sock: socket.socket, listener: Listener, seat: Seat) -> None:
        try:
            identity = _identity(sock, listener)
        except OSError as error:
            log.info("a client left before it was served: %s", error)
            return
        if not listener.tls:
            await self._converse(sock, listener, identity, seat)
            return
        if self._tls is None:
            raise NoServerError("nothing is set up for clients with TLS")
        try:
            async with self._tls.admitted(sock) as admitted:
                known = identity.certified(admitted.dn)
                await self._converse(admitted.socket, listener, known, seat)
        except RefusedError as error:
            self._services.counters.refused_tls += 1
            log.info("refusing a TLS client: %s", error)
            if not isinstance(error, LeftError):
                audit.stranger(identity, "tls", str(error))

    async def _converse(
        self, sock: socket.socket, listener: Listener, identity: Identity, seat: Seat
    ) -> None:
        login = self._authentication.login(listener.scheme, identity)
        if login is NO_LOGIN:
            seat.known()
        self._services.counters.accepted += 1
        client = Client(
            sock,
            self._services,
            read_only=listener.read_only,
            secure=listener.secure,
            identity=identity,
            login=login,
            known=seat.known,
        )
        self._connected[client] = None
        try:
            await client.serve()
        finally:
            del self._connected[client]


def _identity(sock: socket.socket, listener: Listener) -> Identity:
    if sock.family == socket.AF_UNIX:
        return of_unix(sock, read_only=listener.read_only)
    return of_network(sock, Transport.TLS if listener.tls else Transport.TCP)
