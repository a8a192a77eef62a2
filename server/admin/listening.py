"""Accepts on the administration socket: root and the user of the daemon, and few at a time.

Knows no frame and no call.
"""

import logging
import os
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import trio

from virtbackupd.drivers.clock import Clock
from virtbackupd.drivers.enums import TypedParameterType
from virtbackupd.drivers.events import TypedParameter
from virtbackupd.server.admin.connection import AdminClient, refuse
from virtbackupd.server.admin.house import House, Server

log = logging.getLogger(__name__)

SERVER_NAME: Final = "admin"
_CREDENTIALS: Final = struct.Struct("iii")
"""`struct ucred` of unix(7): process, user, group."""


@dataclass(slots=True)
class AdminServer:
    """The callers of one daemon's administration socket."""

    house: House
    clock: Clock
    reached: Counter[str] = field(default_factory=Counter)
    """How often somebody was refused, by the name of the limit."""
    clients: dict[int, AdminClient] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def entry(self, server: Server) -> None:
        """Take the server's place in the house, and its limit of clients."""
        server.connected = self.clients.values
        self.house.servers[server.name] = server

    async def serve(self, listening: socket.socket) -> None:
        """Accept until cancelled; leaving closes all connections."""
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening.dup()))
        await trio.serve_listeners(self._handle, [listener])

    async def _handle(self, stream: trio.SocketStream) -> None:
        async with stream:
            process, user, group = _peer(stream.socket)
            limit = self.house.servers[SERVER_NAME].limits.clients
            if user not in (0, os.getuid()):
                log.warning("user %d may not use the administration socket", user)
            elif len(self.clients) >= limit:
                self.reached["admin_max_clients"] += 1
                reason = f"administration connections are limited to {limit} (admin_max_clients)"
                log.warning("%s: refusing one", reason)
                await refuse(stream, reason)
            else:
                await self._serve(stream, _facts(process, user, group))

    async def _serve(self, stream: trio.SocketStream, facts: list[TypedParameter]) -> None:
        number = next(self._numbers)
        client = AdminClient(stream, self.house, number, self.clock.time(), facts)
        self.clients[number] = client
        try:
            await client.serve()
        finally:
            del self.clients[number]


def _peer(connected: trio.socket.SocketType) -> tuple[int, int, int]:
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, group = _CREDENTIALS.unpack(raw)
    return process, user, group


def _facts(process: int, user: int, group: int) -> list[TypedParameter]:
    return [
        TypedParameter("readonly", TypedParameterType.BOOLEAN, 0),
        TypedParameter("unix_user_id", TypedParameterType.INT, user),
        TypedParameter("unix_group_id", TypedParameterType.INT, group),
        TypedParameter("unix_process_id", TypedParameterType.INT, process),
    ]
