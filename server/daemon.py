"""The whole daemon as nested lifetimes: drivers around services around clients around accepting.

What is inside ends first. Ready means that every socket accepts. Knows no frame and no option.
"""

import gc
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from virtbackupd.drivers import Driver, DriverFactory, DriverOptions
from virtbackupd.protocol import schema
from virtbackupd.server.client import Client
from virtbackupd.server.dispatch import Dispatcher
from virtbackupd.server.events import EventRouter
from virtbackupd.server.handlers import all_handlers
from virtbackupd.server.keepalive import KeepalivePolicy, KeepaliveTicker
from virtbackupd.server.listeners import Listener, accept_forever, close_all
from virtbackupd.server.poller import Poller
from virtbackupd.server.services import Services
from virtbackupd.server.session import DriverTable

log = logging.getLogger(__name__)

STOP_GRACE = 5.0
"""Seconds that running calls and unread replies may take when the daemon ends."""

COLLECTOR_THRESHOLDS = (20_000, 20, 50)


@dataclass(frozen=True, slots=True)
class Limits:
    """Named as in libvirtd.conf."""

    max_clients: int = 5000
    max_client_requests: int = 5
    keepalive: KeepalivePolicy = field(default_factory=KeepalivePolicy)


@dataclass(frozen=True, slots=True)
class DriverChoice:
    """Which driver answers a scheme; schemes of the same `name` share one driver."""

    scheme: str
    name: str
    factory: DriverFactory


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """All that `run` needs; sockets listen already."""

    listeners: Sequence[Listener]
    drivers: Sequence[DriverChoice]
    state_dir: Path
    world: Path | None = None
    limits: Limits = field(default_factory=Limits)


async def run(config: DaemonConfig, on_ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; then stop in order, within deadlines."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:

        async def wait_for_signal() -> None:
            number = await anext(aiter(signals))
            log.info("stopping on %s", signal.Signals(number).name)

        await serve(config, on_ready, wait_for_signal)


async def serve(
    config: DaemonConfig,
    on_ready: Callable[[], None],
    wait_for_end: Callable[[], Awaitable[None]],
    *,
    task_status: trio.TaskStatus[Services] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `wait_for_end` returns. Being cancelled instead cuts everybody off."""
    try:
        async with (
            _opened_drivers(config) as drivers,
            _services(drivers, config.limits) as shared,
            _client_nursery() as clients,
            trio.open_nursery() as accepting,
        ):
            _accept_all(config, shared, clients, accepting)
            _calm_collector()
            on_ready()
            task_status.started(shared)
            await wait_for_end()
            accepting.cancel_scope.cancel()
    finally:
        close_all(config.listeners)


@asynccontextmanager
async def _opened_drivers(config: DaemonConfig) -> AsyncIterator[dict[str, Driver]]:
    """By scheme; each driver is opened once and closed in reverse order."""
    opened: dict[str, Driver] = {}
    by_scheme: dict[str, Driver] = {}
    options = DriverOptions(config.state_dir, config.world)
    async with AsyncExitStack() as stack:
        for choice in config.drivers:
            if choice.name not in opened:
                opened[choice.name] = await stack.enter_async_context(choice.factory(options))
            by_scheme[choice.scheme] = opened[choice.name]
        yield by_scheme


@asynccontextmanager
async def _services(drivers: dict[str, Driver], limits: Limits) -> AsyncIterator[Services]:
    """What runs beside the clients and outlives them."""
    description = schema.load()
    router = EventRouter(description)
    poller = Poller()
    ticker = KeepaliveTicker(limits.keepalive)
    async with trio.open_nursery() as nursery:
        with router.subscribed(drivers):
            nursery.start_soon(router.run)
            nursery.start_soon(ticker.run)
            nursery.start_soon(poller.run)
            yield Services(
                Dispatcher(description, all_handlers()),
                DriverTable(drivers),
                router,
                ticker,
                poller,
                limits.max_client_requests,
            )
            nursery.cancel_scope.cancel()


def _calm_collector() -> None:
    """What is loaded by now stays; and a reply with thousands of tuples is no garbage yet.

    With Python's own thresholds the collector took half the time of a list of 1,000 domains.
    """
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


class _Clients:
    """The connected clients and the nursery they live in."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._connected: dict[Client, None] = {}

    def add(self, client: Client, gone: Callable[[], None]) -> None:
        self._connected[client] = None
        self._nursery.start_soon(self._serve, client, gone)

    def stop(self) -> None:
        """Each client finishes what it is at; who does not within the grace is cut off."""
        self._nursery.cancel_scope.deadline = trio.current_time() + STOP_GRACE
        for client in tuple(self._connected):
            client.stop()

    async def _serve(self, client: Client, gone: Callable[[], None]) -> None:
        try:
            await client.serve()
        except Exception:
            log.exception("a bug of ours ended a connection")
        finally:
            del self._connected[client]
            gone()


@asynccontextmanager
async def _client_nursery() -> AsyncIterator[_Clients]:
    async with trio.open_nursery() as nursery:
        clients = _Clients(nursery)
        yield clients
        clients.stop()


def _accept_all(
    config: DaemonConfig, shared: Services, clients: _Clients, accepting: trio.Nursery
) -> None:
    limit = trio.Semaphore(config.limits.max_clients)

    def handle(accepted: socket.socket, listener: Listener) -> None:
        shared.counters.accepted += 1
        client = Client(accepted, shared, read_only=listener.read_only, secure=listener.secure)
        clients.add(client, limit.release)

    for listener in config.listeners:
        accepting.start_soon(partial(accept_forever, listener, limit, handle))
