"""Making a definition into a running, still paused QEMU, and learning what there is to know of it.

Whatever fails leaves nothing behind but a line in the domain's log. What the world is told of a
start is `lifecycle`'s business.
"""

import shutil
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from virtbackupd.drivers.definitions.machine import read_machine
from virtbackupd.drivers.enums import DomainState, PausedReason, RunningReason
from virtbackupd.drivers.errors import InternalError
from virtbackupd.drivers.qemu import after_start, disk_figures, guest_memory, lifecycle, process
from virtbackupd.drivers.qemu.config import DomainPaths
from virtbackupd.drivers.qemu.live_xml import agent_channel, disk_aliases, with_terminals
from virtbackupd.drivers.qemu.prepare import Prepared, prepare
from virtbackupd.drivers.qemu.process import Launch, Process
from virtbackupd.drivers.qemu.qmp import Monitor, MonitorLost
from virtbackupd.drivers.qemu.run import Run
from virtbackupd.drivers.qemu.together import together
from virtbackupd.drivers.qemu.undo import undone_by

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.domain import DomainDefinition
    from virtbackupd.drivers.qemu.domain import QemuDomain

_CLEAN_UP_GRACE = 60.0

_STATES = {
    "running": (DomainState.RUNNING, RunningReason.UNKNOWN),
    "paused": (DomainState.PAUSED, PausedReason.USER),
    "prelaunch": (DomainState.PAUSED, PausedReason.STARTING_UP),
    "inmigrate": (DomainState.PAUSED, PausedReason.MIGRATION),
    "finish-migrate": (DomainState.PAUSED, PausedReason.MIGRATION),
    "postmigrate": (DomainState.PAUSED, PausedReason.SAVE),
    "save-vm": (DomainState.PAUSED, PausedReason.SAVE),
    "restore-vm": (DomainState.PAUSED, PausedReason.FROM_SNAPSHOT),
    "io-error": (DomainState.PAUSED, PausedReason.IOERROR),
    "watchdog": (DomainState.PAUSED, PausedReason.WATCHDOG),
    "shutdown": (DomainState.SHUTDOWN, 0),
    "suspended": (DomainState.PMSUSPENDED, 0),
    "guest-panicked": (DomainState.CRASHED, 0),
    "internal-error": (DomainState.PAUSED, PausedReason.UNKNOWN),
    "debug": (DomainState.PAUSED, PausedReason.UNKNOWN),
}
"""QEMU's RunState; `colo` is never entered."""


async def launch(
    domain: "QemuDomain", definition: "DomainDefinition", *, incoming: str | None = None
) -> Run:
    """Start QEMU with its processors held; the caller has the turn and watches over the run."""
    host = domain.host
    host.domains.activate(domain)
    domain.live = definition
    domain.enter(DomainState.PAUSED, PausedReason.STARTING_UP)
    paths = host.settings.run_paths(domain.ref.id, domain.ref.name)
    async with undone_by(partial(_forget, domain, paths), _CLEAN_UP_GRACE):
        prepared = await prepare(domain, definition, paths, incoming)
        domain.live, domain.nodes = prepared.definition, prepared.nodes
        domain.run = await _run(domain, prepared, paths)
    return domain.run


async def _run(domain: "QemuDomain", prepared: Prepared, paths: DomainPaths) -> Run:
    log_start = process.log_size(paths.log)
    launch = Launch(prepared.argv, prepared.env, paths, prepared.secrets)
    started = await trio.to_thread.run_sync(process.start, launch, domain.host.settings)
    try:
        monitor = await connect(domain, paths)
        run = Run(paths, started, monitor)
        domain.live = await after_start.settle(prepared.definition, monitor)
        await learn(domain, run)
    except BaseException as error:
        await _kill(started)
        if isinstance(error, MonitorLost):
            words = await trio.to_thread.run_sync(process.last_words, paths.log, log_start)
            raise _refusal(domain, paths, words) from None
        raise
    return run


def _refusal(domain: "QemuDomain", paths: DomainPaths, words: str) -> InternalError:
    cause = words or "it ended without a word"
    return InternalError(
        f"QEMU could not start domain {domain.ref.name}: {cause} (see {paths.log})"
    )


async def _kill(started: Process) -> None:
    with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLEAN_UP_GRACE):
        await started.end()
        await started.wait()
    started.close()


async def _forget(domain: "QemuDomain", paths: DomainPaths) -> None:
    lifecycle.failed_to_start(domain)
    await trio.to_thread.run_sync(shutil.rmtree, paths.folder, True)  # noqa: FBT003


async def connect(domain: "QemuDomain", paths: DomainPaths) -> Monitor:
    """Open the monitor; events go to the domain."""
    return await domain.host.bridge.open(
        paths.monitor, domain.dispatch_event, name=f"domain {domain.ref.name}"
    )


async def learn(domain: "QemuDomain", run: Run) -> None:
    """Ask what stays as it is for the whole run, and whether the guest's agent is there."""
    run.iothreads = domain.definition.view(read_machine).iothreads
    run.drives = domain.definition.view(disk_aliases)
    await together(
        (
            partial(_learn_threads, run),
            partial(_learn_devices, domain, run),
            partial(disk_figures.learn_capacities, domain, run),
            partial(guest_memory.learn, domain, run),
        )
    )


async def see_state(domain: "QemuDomain", run: Run) -> None:
    """Take over QEMU's state, where it has changed while we did not look."""
    status = (await run.monitor.execute("query-status"))["status"]
    state, reason = _STATES.get(status, (DomainState.PAUSED, PausedReason.UNKNOWN))
    run.ends_with_backup = _waits_for_backup(domain, status)
    if run.ends_with_backup:
        reason = PausedReason.SHUTTING_DOWN
    stands = state is DomainState.SHUTDOWN or _was_being_reset(domain, status)
    if stands and lifecycle.started_again(domain, run):
        return
    if domain.state != state:
        domain.enter(state, reason)
    if state is DomainState.SHUTDOWN:
        lifecycle.powered_off(domain, run)
    elif domain.backup is None:
        lifecycle.backup_ended(domain)


def _was_being_reset(domain: "QemuDomain", status: str) -> bool:
    """Whether a guest that ran stands at its beginning: a daemon has ended amid a restart."""
    return status == "prelaunch" and domain.state == DomainState.RUNNING


def _waits_for_backup(domain: "QemuDomain", status: str) -> bool:
    """Whether the guest has powered off and was kept: only then does one that ran not run yet."""
    if status != "prelaunch":
        return False
    if domain.state == DomainState.PAUSED and domain.reason != PausedReason.SHUTTING_DOWN:
        return False
    if domain.backup is not None:
        return domain.backup.preserves_domain
    return domain.state == DomainState.PAUSED and domain.definition.on_poweroff != "preserve"


async def _learn_threads(run: Run) -> None:
    found = await run.monitor.execute("query-cpus-fast")
    run.cpu_threads = tuple(cpu["thread-id"] for cpu in found)
    run.cpu_objects = tuple(cpu["qom-path"] for cpu in found)


async def _learn_devices(domain: "QemuDomain", run: Run) -> None:
    found = await run.monitor.execute("query-chardev")
    terminals = {
        device["label"].removeprefix("char"): device["filename"].removeprefix("pty:")
        for device in found
        if str(device.get("filename", "")).startswith("pty:")
    }
    domain.live = with_terminals(domain.definition, terminals)
    channel = agent_channel(domain.definition)
    if channel is not None:
        run.agent_path = channel.path or str(run.paths.agent)
        run.agent_connected = any(_is_open(device, f"char{channel.alias}") for device in found)


def _is_open(device: dict[str, Any], label: str) -> bool:
    return bool(device.get("label") == label and device.get("frontend-open"))
