"""The whole daemon as nested lifetimes: drivers around services around clients around accepting.

What is inside ends first. Ready means that every socket accepts. Knows no frame and no option.
"""

import gc
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import trio

from virtbackupd.drivers import Driver, DriverFactory, DriverOptions
from virtbackupd.drivers.clock import Clock
from virtbackupd.drivers.faults.engine import Faults
from virtbackupd.drivers.host_uuid import CHOSEN, HostUuid
from virtbackupd.drivers.limits import LIMITS, DriverLimits
from virtbackupd.drivers.profiles import NEWEST, Profile
from virtbackupd.protocol import schema
from virtbackupd.server import audit, transcript_file
from virtbackupd.server.call_log import CallLog, name_call
from virtbackupd.server.call_meter import CallMeter
from virtbackupd.server.config import Settings
from virtbackupd.server.dispatch import Answering, Before, Dispatcher
from virtbackupd.server.event_faults import EventFaults
from virtbackupd.server.events import EventRouter
from virtbackupd.server.faulted import CallFaults
from virtbackupd.server.handlers import all_handlers
from virtbackupd.server.idle import IdleWatch
from virtbackupd.server.keepalive import KeepaliveTicker
from virtbackupd.server.limits import Admission, Limits, limits_of, take_driver_limits
from virtbackupd.server.listeners import Listener, accept_forever, close_all
from virtbackupd.server.login import Authentication
from virtbackupd.server.logs import Logs
from virtbackupd.server.poller import Poller
from virtbackupd.server.reception import Reception
from virtbackupd.server.reloading import Reloading
from virtbackupd.server.services import Services
from virtbackupd.server.session import DriverTable
from virtbackupd.server.systemd import Notifier
from virtbackupd.server.tls import TlsServer
from virtbackupd.server.transcript import TranscribedDispatcher, Transcript

if TYPE_CHECKING:
    from virtbackupd.server.access.control import AccessDriver

log = logging.getLogger(__name__)

LIST_DOMAINS_ACTIVE = 1
"""VIR_CONNECT_LIST_DOMAINS_ACTIVE."""
COLLECTOR_THRESHOLDS = (20_000, 20, 50)


class DriverChoice(msgspec.Struct, frozen=True):
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
    clock: Clock = field(default_factory=Clock)
    profile: Profile = NEWEST
    faults: Faults = field(default_factory=Faults)
    """What is to go wrong; rules may be added while the daemon runs."""
    transcript: Transcript | None = None
    """Where calls and events are written down; None costs nothing."""
    transcript_file: Path | None = None
    """Where the transcript, which there has to be, is written as it grows."""
    tables: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Settings of drivers, by the driver's name."""
    control: Sequence[Listener] = ()
    """Sockets of the control endpoint, which there is none without."""
    control_anywhere: bool = False
    """Whether control requests may name this machine in any way."""
    metrics: Sequence[Listener] = ()
    """Sockets where metrics are shown; nothing is counted for them without."""
    host_uuid: HostUuid = field(default_factory=HostUuid)
    driver_limits: DriverLimits = field(default_factory=DriverLimits)
    admin: Listener | None = None
    """The socket for administrators, if there is one."""
    reloading: Reloading | None = None
    """What SIGHUP begins; None ends the daemon on it, as for any program."""
    notifier: Notifier = field(default_factory=Notifier)
    """Whom the daemon tells how it is."""
    timeout: float = 0
    """Seconds without a client and a running domain after which the daemon ends; 0 is never."""
    logs: Logs | None = None
    """The logging of the process, to tell calls there; None leaves logging to the caller."""
    access: "Sequence[AccessDriver]" = ()
    """Who decides what a client may do; all have to agree. Without any everything is allowed."""
    authentication: Authentication = field(default_factory=Authentication)
    tls: TlsServer | None = None
    """There has to be one when a listener wants it."""
    advertise: str = ""
    """The name that reaches this machine from outside, for NBD servers of backups."""
    calm_collector: bool = True
    """Whether the garbage collector of the whole process is set for a daemon of its own."""


async def run(config: DaemonConfig, on_ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT; then stop in order, within deadlines."""
    reload = (signal.SIGHUP,) if config.reloading else ()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, *reload) as signals:

        async def wait_for_signal() -> None:
            async for number in signals:
                if number != signal.SIGHUP or config.reloading is None:
                    log.info("stopping on %s", signal.Signals(number).name)
                    return
                await _reload(config.reloading, config.notifier)

        await serve(config, on_ready, wait_for_signal)


async def _reload(reloading: Reloading, notifier: Notifier) -> None:
    log.info("reading the configuration again")
    notifier.reloading()
    failed = await reloading.reload()
    notifier.ready(f"Ready; not reloaded: {failed[0]}" if failed else "Ready")


async def serve(
    config: DaemonConfig,
    on_ready: Callable[[], None],
    wait_for_end: Callable[[], Awaitable[None]],
    *,
    task_status: trio.TaskStatus[Services] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `wait_for_end` returns. Being cancelled instead cuts everybody off."""
    LIMITS.set(config.driver_limits)
    CHOSEN.set(config.host_uuid)
    if config.calm_collector:
        # While a large world is made, looking for garbage takes as long as making it.
        gc.disable()
    try:
        async with (
            _opened_drivers(config) as drivers,
            _services(drivers, config) as shared,
            _transcript_written(config),
            _controlled(config, shared),
            _reception(config, shared) as reception,
            _administered(config, shared, reception),
            _measured(config, shared, reception, drivers),
            trio.open_nursery() as accepting,
        ):
            _accept_all(config, shared, reception, accepting)
            if config.calm_collector:
                _calm_collector()
            on_ready()
            config.notifier.ready("Ready")
            accepting.start_soon(config.notifier.beat)
            task_status.started(shared)
            await _first_of(wait_for_end, shared.idle.over)
            config.notifier.stopping()
            accepting.cancel_scope.cancel()
    finally:
        for name in config.faults.unmatched():
            log.warning("the fault %s never took effect", name)
        if config.calm_collector:
            gc.enable()
        admin = [config.admin] if config.admin else []
        close_all([*config.listeners, *config.control, *config.metrics, *admin])


async def _first_of(*ends: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:

        async def wait(end: Callable[[], Awaitable[None]]) -> None:
            await end()
            nursery.cancel_scope.cancel()

        for end in ends:
            nursery.start_soon(wait, end)


@asynccontextmanager
async def _opened_drivers(config: DaemonConfig) -> AsyncIterator[dict[str, Driver]]:
    """By scheme; each driver is opened once and closed in reverse order."""
    opened: dict[str, Driver] = {}
    by_scheme: dict[str, Driver] = {}
    options = DriverOptions(
        config.state_dir,
        config.world,
        clock=config.clock,
        profile=config.profile,
        faults=config.faults,
        advertise=config.advertise,
    )
    async with AsyncExitStack() as stack:
        for choice in config.drivers:
            if choice.name not in opened:
                own = replace(options, settings=config.tables.get(choice.name, {}))
                opened[choice.name] = await stack.enter_async_context(choice.factory(own))
            by_scheme[choice.scheme] = opened[choice.name]
        yield by_scheme


@asynccontextmanager
async def _services(drivers: dict[str, Driver], config: DaemonConfig) -> AsyncIterator[Services]:
    """What runs beside the clients and outlives them."""
    limits = config.limits
    description = schema.load()
    router = EventRouter(description, limits)
    poller = Poller()
    ticker = KeepaliveTicker(limits.keepalive, config.clock)
    async with trio.open_nursery() as nursery:
        with router.subscribed(drivers), audit.jobs_audited(drivers):
            EventFaults(config.faults, config.clock, nursery).follow(router)
            nursery.start_soon(router.run)
            nursery.start_soon(ticker.run)
            nursery.start_soon(poller.run)
            admission = Admission(limits)
            if config.reloading is not None:
                config.reloading.hooks.append(partial(_adapt, limits, admission, ticker))
            answering = _answering(config, router)
            calls = CallMeter(answering, description) if config.metrics else None
            yield Services(
                calls or answering,
                DriverTable(drivers),
                router,
                ticker,
                poller,
                limits,
                config.clock,
                transcript=config.transcript,
                admission=admission,
                idle=IdleWatch(admission, partial(_machines_run, drivers), config.timeout),
                reloading=config.reloading,
                logs=config.logs,
                calls=calls,
            )
            nursery.cancel_scope.cancel()


async def _adapt(
    limits: Limits, admission: Admission, ticker: KeepaliveTicker, settings: Settings
) -> None:
    limits.take(limits_of(settings))
    ticker.take(limits.keepalive)
    take_driver_limits(settings)
    admission.reconsider()


async def _machines_run(drivers: Mapping[str, Driver]) -> bool:
    """Whether a domain is active: ending would end it, or leave it without anybody to see to it."""
    for driver in {id(driver): driver for driver in drivers.values()}.values():
        answer = driver.list_all_domains(LIST_DOMAINS_ACTIVE)
        if await answer if isinstance(answer, Awaitable) else answer:
            return True
    return False


@asynccontextmanager
async def _beside(work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """With a task that is ended with the block."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _controlled(config: DaemonConfig, shared: Services) -> AsyncIterator[None]:
    """With the control endpoint beside, if there is one."""
    if not config.control:
        yield
        return
    from virtbackupd.server.control_endpoint import serve_control  # noqa: PLC0415 - rarely used

    anywhere = config.control_anywhere
    async with _beside(partial(serve_control, config.control, shared, anywhere=anywhere)):
        yield


@asynccontextmanager
async def _administered(
    config: DaemonConfig, shared: Services, reception: Reception
) -> AsyncIterator[None]:
    """With the administration socket beside, if there is one."""
    if config.admin is None:
        yield
        return
    async with _beside(partial(_administer, config, config.admin, shared, reception)):
        yield


async def _administer(
    config: DaemonConfig, listener: Listener, shared: Services, reception: Reception
) -> None:
    """Make what administration needs for the first who comes: with most daemons nobody does."""
    await trio.lowlevel.wait_readable(listener.socket)
    from virtbackupd.server.admin.furnish import serve_admin  # noqa: PLC0415 - rarely used

    await serve_admin(listener, shared, reception, config.profile.libvirt.number, config.tls)


@asynccontextmanager
async def _measured(
    config: DaemonConfig, shared: Services, reception: Reception, drivers: Mapping[str, Driver]
) -> AsyncIterator[None]:
    """With metrics beside, if somebody wants them."""
    if shared.calls is None:
        yield
        return
    from virtbackupd.server.metrics import Sources, tallied  # noqa: PLC0415 - rarely used
    from virtbackupd.server.metrics_endpoint import serve_metrics  # noqa: PLC0415 - rarely used

    named = {choice.name: drivers[choice.scheme] for choice in config.drivers}
    with tallied(named) as tallies:
        sources = Sources(
            shared,
            shared.calls,
            lambda: reception.clients,
            named,
            tallies,
            config.faults,
            config.driver_limits,
        )
        async with _beside(partial(serve_metrics, config.metrics, sources)):
            yield


@asynccontextmanager
async def _transcript_written(config: DaemonConfig) -> AsyncIterator[None]:
    if config.transcript is None or config.transcript_file is None:
        yield
        return
    async with transcript_file.written(config.transcript, config.transcript_file):
        yield


def _guarding(access: "Sequence[AccessDriver]") -> Before | None:
    if not access:
        return None
    from virtbackupd.server.access.control import AccessControl  # noqa: PLC0415 - rarely used
    from virtbackupd.server.access.guard import Guard  # noqa: PLC0415 - rarely used

    return Guard(AccessControl(access), audit.refused).before


def _answering(config: DaemonConfig, router: EventRouter) -> Answering:
    """The dispatcher, with a transcript before it where one is kept."""
    description = schema.load()
    plain = Dispatcher(description, all_handlers(), config.profile, _guarding(config.access))
    CallFaults(plain, description, config.faults, config.clock)
    dispatcher: Answering = plain
    if config.transcript is not None:
        router.observer = config.transcript.delivered
        dispatcher = TranscribedDispatcher(dispatcher, description, config.transcript)
    return _logged(config.logs, CallLog(dispatcher, description, config.clock))


def _logged(logs: Logs | None, calls: CallLog) -> Answering:
    """Tell calls as the levels of the log say, also when they change."""
    if logs is not None:
        logs.name_with(name_call)
        logs.on_change.append(calls.follow)
        calls.follow(logs.levels)
    return calls


def _calm_collector() -> None:
    """What is loaded by now stays; and a reply with thousands of tuples is no garbage yet.

    With Python's own thresholds the collector took half the time of a list of 1,000 domains.
    """
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
    gc.enable()


@asynccontextmanager
async def _reception(config: DaemonConfig, shared: Services) -> AsyncIterator[Reception]:
    """Where clients live; in the end each finishes what it is at."""
    try:
        async with trio.open_nursery() as nursery:
            reception = Reception(nursery, shared, config.authentication, config.tls)
            yield reception
            reception.stop()
    finally:
        config.authentication.close()
        for driver in config.access:
            driver.close()


def _accept_all(
    config: DaemonConfig, shared: Services, reception: Reception, accepting: trio.Nursery
) -> None:
    def handle(accepted: socket.socket, listener: Listener) -> None:
        reception.receive(accepted, listener, shared.admission.seat())

    for listener in config.listeners:
        door = shared.admission.door(login=listener.asks)
        accepting.start_soon(partial(accept_forever, listener, door, handle))
