"""Starting, pausing and stopping domains, with the states and events of libvirt's QEMU driver.

States follow QEMU's events (`guest_events`), not our commands. The end of a run happens in one
place, `_watch`, whoever or whatever brought it about. How QEMU is made ready is `launch`'s
business, what a stop means for a running backup is the backup's.
"""

import logging
import shutil
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from virtbackupd.drivers import store
from virtbackupd.drivers.enums import (
    Create,
    DomainState,
    Lifecycle,
    PausedReason,
    RunningReason,
    ShutoffReason,
    StartedDetail,
    SuspendedDetail,
)
from virtbackupd.drivers.errors import (
    ArgumentUnsupported,
    DriverError,
    InternalError,
    OperationFailed,
    OperationInvalid,
    OperationTimeout,
)
from virtbackupd.drivers.flags import CREATE, FlagRules
from virtbackupd.drivers.qemu import agent, block_jobs, guest_events, launch, save
from virtbackupd.drivers.qemu.prepare import renew_variables
from virtbackupd.drivers.qemu.qmp import MonitorLost
from virtbackupd.drivers.qemu.run import Run
from virtbackupd.drivers.qemu.undo import undone_by
from virtbackupd.drivers.stops import CRASHED, DESTROYED, FAILED, SHUT_DOWN, Stop

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.domain import DomainDefinition
    from virtbackupd.drivers.qemu.domain import QemuDomain

log = logging.getLogger(__name__)

_ACPI: Final = 1
_AGENT: Final = 2
_SHUTDOWN = FlagRules("virDomainShutdownFlags", _ACPI | _AGENT)
_REBOOT = FlagRules("virDomainReboot", _ACPI | _AGENT)
_RESET = FlagRules("virDomainReset", 0)
_DESTROY_GRACEFUL: Final = 1
_DESTROY_REMOVE_LOGS: Final = 2
_DESTROY = FlagRules("virDomainDestroyFlags", _DESTROY_GRACEFUL | _DESTROY_REMOVE_LOGS)
_CLEAN_UP_GRACE: Final = 60.0
_RECONNECT_PAUSES: Final = (0.1, 0.5, 1.0, 2.0, 5.0)


async def create(domain: "QemuDomain", flags: int) -> None:
    """Start what is defined, or go on with what was saved."""
    CREATE.check(flags)
    async with domain.modify("virDomainCreate"):
        if domain.active:
            raise OperationInvalid(f"domain {domain.ref.name} is already running")
        await renew_variables(domain.host, domain.definition, flags)
        paused = bool(flags & Create.PAUSED)
        if domain.saved is None:
            await boot(domain, domain.definition, paused=paused)
        elif flags & Create.FORCE_BOOT:
            await save.discard(domain)
            await boot(domain, domain.definition, paused=paused)
        else:
            await save.restore(domain, paused=paused)


async def boot(domain: "QemuDomain", definition: "DomainDefinition", *, paused: bool) -> None:
    """Start a definition afresh; the caller has the turn."""
    run = await launch.launch(domain, definition)
    watch_over(domain, run)
    await domain.save_status()
    if not paused:
        await _first_run(run)
    require_same(domain, run)
    domain.publish(Lifecycle.STARTED, StartedDetail.BOOTED)
    if paused:
        domain.enter(DomainState.PAUSED, PausedReason.USER)
        domain.publish(Lifecycle.SUSPENDED, SuspendedDetail.PAUSED)
    await domain.save_status()


def require_same(domain: "QemuDomain", run: Run) -> None:
    """Refuse when QEMU has ended while a start was not yet told: its end has been, then."""
    if domain.run is not run:
        raise InternalError(
            f"QEMU of domain {domain.ref.name} ended while it was started, see {run.paths.log}"
        )


async def _first_run(run: Run) -> None:
    async with undone_by(partial(end, run, FAILED), _CLEAN_UP_GRACE):
        await run_processors(run, RunningReason.BOOTED)


async def run_processors(run: Run, reason: RunningReason) -> None:
    """Let the guest run; QEMU's event changes the state."""
    run.resume_reason = reason
    await run.monitor.execute("cont")


async def stop_processors(run: Run, reason: PausedReason) -> None:
    """Pause the guest for a reason; QEMU's event changes the state."""
    run.pause_reason = reason
    try:
        await run.monitor.execute("stop")
    finally:
        run.pause_reason = None


def watch_over(domain: "QemuDomain", run: Run) -> None:
    """See to it that the end of QEMU, or of its monitor, is noticed."""
    domain.host.nursery.start_soon(_watch, domain, run)


async def _watch(domain: "QemuDomain", run: Run) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_keep_monitor, domain, run)
        cause = await run.process.wait()
        run.gone = True
        nursery.cancel_scope.cancel()
    # Among the last events may be the one that tells why.
    await run.monitor.read_out()
    if run.ending is None:
        log.warning("QEMU of domain %s ended by itself: %s", domain.ref.name, cause or "unknown")
    if domain.backup is not None:
        await domain.backup.discard_files()
    await _clear_away(domain, run)
    _ended(domain, run, run.ending or CRASHED)


async def _keep_monitor(domain: "QemuDomain", run: Run) -> None:
    """Connect again when the socket breaks while QEMU lives."""
    while True:
        await run.monitor.lost.wait()
        for pause in _RECONNECT_PAUSES:
            await trio.sleep(pause)
            if await _reconnected(domain, run):
                break
        else:
            log.error("the monitor of domain %s stays lost", domain.ref.name)
            return


async def _reconnected(domain: "QemuDomain", run: Run) -> bool:
    try:
        run.monitor = await launch.connect(domain, run.paths)
        await launch.see_state(domain, run)
        domain.block_jobs.catch_up(await block_jobs.query_jobs(domain))
    except DriverError as error:
        log.warning("%s", error.message)
        return False
    log.warning("connected to the monitor of domain %s again", domain.ref.name)
    return True


async def _clear_away(domain: "QemuDomain", run: Run) -> None:
    try:
        await domain.status.remove()
        await trio.to_thread.run_sync(shutil.rmtree, run.paths.folder, True)  # noqa: FBT003
        if domain.persistent is None:
            await domain.remove_checkpoint_files()
    except DriverError as error:
        log.error("after the end of domain %s: %s", domain.ref.name, error.message)


def _ended(domain: "QemuDomain", run: Run, how: Stop) -> None:
    """The end of a run, all at once: its backup, then the domain, and all of a transient one."""
    domain.run = None
    if how.announced is not None and domain.state != DomainState.SHUTDOWN:
        domain.publish(Lifecycle.SHUTDOWN, how.announced)
    domain.block_jobs.catch_up({})
    if domain.backup is not None:
        domain.backup.interrupt()
    domain.host.domains.deactivate(domain)
    domain.live = None
    domain.enter(DomainState.SHUTOFF, how.reason)
    domain.publish(Lifecycle.STOPPED, how.detail)
    if domain.persistent is None:
        domain.vanish()
    for session in run.consoles.values():
        session.close()
    run.process.close()
    run.over.set()


async def end(run: Run, how: Stop, *, graceful_only: bool = False) -> None:
    """Make QEMU end, and return when everything of the run is cleared away."""
    if run.over.is_set():
        return
    before, run.ending = run.ending, run.ending or how
    try:
        await run.process.end(graceful_only=graceful_only)
    except DriverError:
        run.ending = before
        raise
    await run.over.wait()


async def shutdown(domain: "QemuDomain", flags: int) -> None:
    """Ask the guest to power off; it decides whether and when."""
    _SHUTDOWN.check(flags)
    domain.require_active()
    await _ask_guest(domain, flags, reboots=False)


async def reboot(domain: "QemuDomain", flags: int) -> None:
    """Ask the guest to start again; `on_reboot` decides whether it may."""
    _REBOOT.check(flags)
    domain.require_active()
    await _ask_guest(domain, flags, reboots=domain.definition.on_reboot != "destroy")


async def _ask_guest(domain: "QemuDomain", flags: int, *, reboots: bool) -> None:
    run = domain.require_run()
    if _through_agent(domain, run, flags):
        agent.require_agent(domain)
        await _expect(domain, run, reboots=False)
        await agent.shutdown(domain, "reboot" if reboots else "powerdown")
        return
    # ACPI knows no restart: the guest powers off, and what follows is up to us.
    await _expect(domain, run, reboots=reboots)
    await run.monitor.execute("system_powerdown")


async def _expect(domain: "QemuDomain", run: Run, *, reboots: bool) -> None:
    """Remember what the guest's next power-off is to become."""
    if run.reboots is not reboots:
        run.reboots = reboots
        await domain.save_status()


def _through_agent(domain: "QemuDomain", run: Run, flags: int) -> bool:
    """The agent where it is asked for, or where nothing is and it is there."""
    configured = run.agent_path is not None
    if flags & _AGENT and not flags & _ACPI and not configured:
        raise ArgumentUnsupported(
            f"domain {domain.ref.name} has no QEMU guest agent channel, use the ACPI flag"
        )
    if flags & _AGENT:
        return run.agent_connected or not flags & _ACPI
    return not flags and configured and run.agent_connected


def started_again(domain: "QemuDomain", run: Run) -> bool:
    """Whether a guest that has powered off only wants to start again; it then does.

    As with libvirtd the domain runs on for whoever looks: only the reset is told.
    """
    if not (run.reboots or domain.definition.on_poweroff == "restart"):
        return False
    if not run.restarting:
        run.restarting = True
        domain.host.nursery.start_soon(_start_again, domain, run)
    return True


def powered_off(domain: "QemuDomain", run: Run) -> None:
    """QEMU holds still because the guest has powered off for good: see what is to come of it."""
    if domain.backup is not None and domain.backup.preserves_domain:
        domain.host.nursery.start_soon(_hold_for_backup, domain, run)
    elif domain.definition.on_poweroff == "preserve":
        guest_events.enter_paused(domain, PausedReason.SHUTTING_DOWN)
    else:
        run.ending = SHUT_DOWN
        domain.host.nursery.start_soon(_end_quietly, domain, run)


async def _start_again(domain: "QemuDomain", run: Run) -> None:
    """Whoever is changing the domain comes first, and whoever comes later finds it running."""
    while run.restarting and run.ending is None and not run.gone:
        try:
            # Not `modify`: what another call has left half done is no reason to keep it off.
            async with domain.turn.take("the restart of the guest", domain.ref.name):
                if run.ending is None and not run.gone:
                    await _reset_and_run(run)
        except OperationTimeout as error:
            log.warning("%s", error.message)
        except DriverError as error:
            log.error("domain %s could not be started again: %s", domain.ref.name, error.message)
            await _end_quietly(domain, run)
            return
    # Not before: a daemon that is killed in between begins the restart anew.
    domain.save_status_soon()


async def _reset_and_run(run: Run) -> None:
    await run.monitor.execute("system_reset")
    # From here on the guest may power off again, and that is another matter.
    run.reboots = run.restarting = False
    await run_processors(run, RunningReason.BOOTED)


async def _hold_for_backup(domain: "QemuDomain", run: Run) -> None:
    """Keep QEMU, with a guest that stands at its beginning, until the backup has ended."""
    run.ends_with_backup = True
    try:
        await run.monitor.execute("system_reset")
    except DriverError as error:
        log.error("domain %s cannot wait for its backup: %s", domain.ref.name, error.message)
        await _end_quietly(domain, run)
        return
    if run.ending is None and not run.gone:
        guest_events.enter_paused(domain, PausedReason.SHUTTING_DOWN)


def backup_ended(domain: "QemuDomain") -> None:
    """End a domain that was only kept for its backup."""
    run = domain.run
    if run is not None and run.ends_with_backup and run.ending is None:
        run.ending = SHUT_DOWN
        domain.host.nursery.start_soon(_end_quietly, domain, run)


async def _end_quietly(domain: "QemuDomain", run: Run) -> None:
    try:
        await end(run, SHUT_DOWN)
    except DriverError as error:
        log.error("domain %s: %s", domain.ref.name, error.message)


async def reset(domain: "QemuDomain", flags: int) -> None:
    """Press the reset button."""
    _RESET.check(flags)
    run = domain.require_run()
    await run.monitor.execute("system_reset")
    if domain.state == DomainState.CRASHED:
        # It stands at its beginning, until somebody resumes it.
        domain.enter(DomainState.PAUSED, PausedReason.CRASHED)
        domain.save_status_soon()
    if not run.restarting:
        await _expect(domain, run, reboots=False)


async def suspend(domain: "QemuDomain") -> None:
    """Pause; nothing happens when paused already."""
    domain.require_active()
    async with domain.modify("virDomainSuspend"):
        run = domain.require_run()
        if domain.state != DomainState.PAUSED:
            await stop_processors(run, PausedReason.USER)
            await domain.save_status()


async def resume(domain: "QemuDomain") -> None:
    """Let a paused domain go on."""
    domain.require_active()
    async with domain.modify("virDomainResume"):
        run = domain.require_run()
        if domain.state == DomainState.RUNNING:
            raise OperationInvalid(f"domain {domain.ref.name} is already running")
        try:
            await run_processors(run, RunningReason.UNPAUSED)
        except MonitorLost:
            raise
        except DriverError as error:
            raise OperationFailed(
                f"domain {domain.ref.name} cannot go on: {error.message}"
            ) from None
        await domain.save_status()


async def destroy(domain: "QemuDomain", flags: int) -> None:
    """End QEMU, whatever the guest does; its images are flushed first where that is possible."""
    _DESTROY.check(flags)
    domain.require_active()
    run = domain.run
    if run is None:
        # It is being started: let that come to an end, whichever.
        async with domain.modify("virDomainDestroy"):
            run = domain.require_run()
    try:
        await end(run, DESTROYED, graceful_only=bool(flags & _DESTROY_GRACEFUL))
    except DriverError:
        if domain.backup is not None:
            domain.backup.look_again()
        raise
    if flags & _DESTROY_REMOVE_LOGS:
        await store.remove(run.paths.log)


def failed_to_start(domain: "QemuDomain") -> None:
    """Go back to being shut off; nobody was told of the start."""
    domain.host.domains.deactivate(domain)
    domain.live = domain.run = None
    domain.enter(DomainState.SHUTOFF, ShutoffReason.FAILED)
