"""A server with the in-memory hypervisor and access rules, and clients of whatever identity."""

import socket
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio
from raw_client import RawClient

from virtbackupd.drivers.events import DomainRef
from virtbackupd.drivers.interface import Driver, DriverOptions
from virtbackupd.drivers.memory import open_driver
from virtbackupd.protocol import schema
from virtbackupd.server.access.control import AccessControl, AccessDriver, Subject, Verdict
from virtbackupd.server.access.guard import Guard
from virtbackupd.server.access.permissions import Permission
from virtbackupd.server.client import Client
from virtbackupd.server.dispatch import Dispatcher
from virtbackupd.server.events import EventRouter
from virtbackupd.server.handlers import all_handlers
from virtbackupd.server.identity import Identity
from virtbackupd.server.keepalive import KeepalivePolicy, KeepaliveTicker
from virtbackupd.server.limits import Limits
from virtbackupd.server.poller import Poller
from virtbackupd.server.services import Services
from virtbackupd.server.session import DriverTable

WORLD = """
[[domains]]
name = "web-1"
[[domains.disks]]
target = "vda"
size = "1 MiB"
[[domains.checkpoints]]
name = "monday"

[[domains]]
name = "web-2"
state = "shutoff"

[[domains]]
name = "db"
[[domains.checkpoints]]
name = "tuesday"
[[domains.disks]]
target = "vda"
size = "1 MiB"
"""
ALICE = Identity(sasl_name="alice")
BOB = Identity(sasl_name="bob")


@dataclass
class Site:
    """What a test may do to the server."""

    driver: Driver
    services: Services
    nursery: trio.Nursery
    refusals: list[tuple[str, str]]
    questions: list[str]
    """Permissions that the access driver was asked for."""
    peers: list[RawClient] = field(default_factory=list)

    def connect(self, identity: Identity) -> RawClient:
        """A client whose connection is not open yet."""
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        client = Client(ours, self.services, identity=identity)
        self.nursery.start_soon(client.serve)
        self.peers.append(RawClient(theirs))
        return self.peers[-1]

    async def opened(self, identity: Identity = ALICE) -> RawClient:
        client = self.connect(identity)
        await client.open()
        return client

    async def domain(self, name: str) -> DomainRef:
        """As a client that may see it has it."""
        found = self.driver.domain_lookup_by_name(name)
        return await found if isinstance(found, Awaitable) else found


@dataclass
class Questioned:
    """An access driver that is listened to."""

    driver: AccessDriver
    questions: list[str]

    def allows(self, identity: Identity, permission: Permission, subject: Subject) -> Verdict:
        self.questions.append(str(permission))
        return self.driver.allows(identity, permission, subject)

    def close(self) -> None:
        self.driver.close()


@asynccontextmanager
async def serving(folder: Path, access: AccessDriver) -> AsyncIterator[Site]:
    world = folder / "world.toml"
    world.write_text(WORLD)
    refusals: list[tuple[str, str]] = []
    questions: list[str] = []
    guard = Guard(
        AccessControl([Questioned(access, questions)]),
        lambda name, _session, missing, _domain: refusals.append((name, missing)),
    )
    description = schema.load()
    async with AsyncExitStack() as stack:
        driver = await stack.enter_async_context(open_driver(DriverOptions(folder, world)))
        nursery = await stack.enter_async_context(trio.open_nursery())
        router, poller = EventRouter(description, Limits()), Poller()
        services = Services(
            Dispatcher(description, all_handlers(), before=guard.before),
            DriverTable({"test": driver}),
            router,
            KeepaliveTicker(KeepalivePolicy(interval=0)),
            poller,
            Limits(),
        )
        stack.enter_context(router.subscribed({"test": driver}))
        nursery.start_soon(router.run)
        nursery.start_soon(poller.run)
        site = Site(driver, services, nursery, refusals, questions)
        yield site
        for peer in site.peers:
            peer.close()
        nursery.cancel_scope.cancel()
