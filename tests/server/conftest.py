"""A server in this process, with a scripted driver and as many raw clients as a test asks for."""

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import trio
from raw_client import RawClient
from scripted_driver import ScriptedDriver

from virtbackupd.protocol import schema
from virtbackupd.server.client import Client
from virtbackupd.server.dispatch import Dispatcher
from virtbackupd.server.events import EventRouter
from virtbackupd.server.handlers import all_handlers
from virtbackupd.server.keepalive import KeepalivePolicy, KeepaliveTicker
from virtbackupd.server.limits import Limits
from virtbackupd.server.login import NO_LOGIN, Login
from virtbackupd.server.poller import Poller
from virtbackupd.server.services import Services
from virtbackupd.server.session import DriverTable


@dataclass
class Server:
    """What a test may do to the server."""

    driver: ScriptedDriver
    services: Services
    nursery: trio.Nursery
    clients: list[Client] = field(default_factory=list)
    ended: list[Client] = field(default_factory=list)
    peers: list[RawClient] = field(default_factory=list)

    def connect(self, *, read_only: bool = False, login: Login = NO_LOGIN) -> RawClient:
        """A client whose connection is not open yet."""
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        client = Client(ours, self.services, read_only=read_only, login=login)
        self.clients.append(client)
        self.nursery.start_soon(self._serve, client)
        self.peers.append(RawClient(theirs))
        return self.peers[-1]

    async def opened(self, *, read_only: bool = False) -> RawClient:
        client = self.connect(read_only=read_only)
        await client.open()
        return client

    async def _serve(self, client: Client) -> None:
        await client.serve()
        self.ended.append(client)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    driver = ScriptedDriver()
    drivers = {"test": driver, "qemu": driver}
    description = schema.load()
    limits = Limits(max_client_requests=2)
    router = EventRouter(description, limits)
    ticker = KeepaliveTicker(KeepalivePolicy(interval=0.2, count=2))
    poller = Poller()
    services = Services(
        Dispatcher(description, all_handlers()),
        DriverTable(drivers),
        router,
        ticker,
        poller,
        limits,
    )
    async with trio.open_nursery() as nursery:
        with router.subscribed(drivers):
            for service in (router.run, ticker.run, poller.run):
                nursery.start_soon(service)
            server = Server(driver, services, nursery)
            yield server
            for peer in server.peers:
                peer.close()
        nursery.cancel_scope.cancel()


@pytest.fixture
async def client(server: Server) -> RawClient:
    """An open read-write connection."""
    return await server.opened()
