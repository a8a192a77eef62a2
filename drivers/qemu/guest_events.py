"""What QEMU's events mean for a domain: its state, and what the world is told.

Handlers are called in QEMU's order and never wait; what must wait goes to a task of the driver's.
Events of block jobs are not for this module.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from virtbackupd.drivers.enums import (
    DomainState,
    Lifecycle,
    PausedReason,
    ResumedDetail,
    RunningReason,
    ShutdownDetail,
    SuspendedDetail,
)
from virtbackupd.drivers.events import (
    DomainAgentLifecycle,
    DomainIoError,
    DomainReboot,
)
from virtbackupd.drivers.qemu import block, guest_memory, hotplug, lifecycle, scratch_room
from virtbackupd.drivers.qemu.live_xml import agent_channel, disk_alias
from virtbackupd.drivers.qemu.run import Run

if TYPE_CHECKING:
    from virtbackupd.drivers.qemu.domain import QemuDomain

Data: TypeAlias = dict[str, Any]
_Handler: TypeAlias = Callable[["QemuDomain", Run, Data], None]

_SUSPENDED_DETAILS: Final = {
    PausedReason.IOERROR: SuspendedDetail.IOERROR,
    PausedReason.WATCHDOG: SuspendedDetail.WATCHDOG,
    PausedReason.FROM_SNAPSHOT: SuspendedDetail.FROM_SNAPSHOT,
    PausedReason.SHUTTING_DOWN: SuspendedDetail.GUEST_SHUTDOWN,
}
"""PAUSED for every other reason."""
_RESUMED_DETAILS: Final = {
    RunningReason.RESTORED: ResumedDetail.FROM_SNAPSHOT,
    RunningReason.FROM_SNAPSHOT: ResumedDetail.FROM_SNAPSHOT,
}
"""UNPAUSED for every other reason."""
_IO_ACTIONS: Final = {"ignore": 0, "report": 2, "stop": 1}
"""virDomainEventIOErrorAction."""
_AGENT_STATES: Final = {True: 1, False: 2}
_AGENT_REASON_CHANNEL: Final = 2


def handle(domain: "QemuDomain", name: str, data: Data) -> None:
    """Act on an event; a run that somebody is ending has no more to say."""
    run = domain.run
    handler = _HANDLERS.get(name)
    if handler is not None and run is not None and run.ending is None:
        handler(domain, run, data)


def _on_stop(domain: "QemuDomain", run: Run, data: Data) -> None:
    del data
    if domain.state == DomainState.RUNNING and not run.restarting:
        reason = run.pause_reason if run.pause_reason is not None else PausedReason.USER
        enter_paused(domain, reason)


def enter_paused(domain: "QemuDomain", reason: PausedReason) -> None:
    domain.enter(DomainState.PAUSED, reason)
    detail = _SUSPENDED_DETAILS.get(reason, SuspendedDetail.PAUSED)
    domain.publish(Lifecycle.SUSPENDED, detail)
    domain.save_status_soon()


def _on_resume(domain: "QemuDomain", run: Run, data: Data) -> None:
    del data
    reason, run.resume_reason = run.resume_reason, RunningReason.UNPAUSED
    if domain.state != DomainState.RUNNING:
        run.ends_with_backup = False
        domain.enter(DomainState.RUNNING, reason)
        domain.publish(Lifecycle.RESUMED, _RESUMED_DETAILS.get(reason, ResumedDetail.UNPAUSED))
        domain.save_status_soon()


def _on_shutdown(domain: "QemuDomain", run: Run, data: Data) -> None:
    if domain.state == DomainState.SHUTDOWN or lifecycle.started_again(domain, run):
        return
    guest = data.get("guest")
    domain.enter(DomainState.SHUTDOWN, 0)
    if guest is None:
        detail = ShutdownDetail.FINISHED
    else:
        detail = ShutdownDetail.GUEST if guest else ShutdownDetail.HOST
    domain.publish(Lifecycle.SHUTDOWN, detail)
    domain.save_status_soon()
    lifecycle.powered_off(domain, run)


def _on_reset(domain: "QemuDomain", run: Run, data: Data) -> None:
    del run, data
    domain.events.publish(DomainReboot(domain.ref))


def _on_watchdog(domain: "QemuDomain", run: Run, data: Data) -> None:
    del run
    if data.get("action") == "pause" and domain.state == DomainState.RUNNING:
        enter_paused(domain, PausedReason.WATCHDOG)


def _on_panic(domain: "QemuDomain", run: Run, data: Data) -> None:
    del run
    if data.get("action") == "pause" and domain.state == DomainState.RUNNING:
        domain.enter(DomainState.CRASHED, 0)
        domain.publish(Lifecycle.CRASHED, 0)
        domain.save_status_soon()


def _on_io_error(domain: "QemuDomain", run: Run, data: Data) -> None:
    action = _IO_ACTIONS.get(str(data.get("action")), 0)
    path, device = _failed_disk(domain, data)
    reason = "enospc" if data.get("nospace") else ""
    domain.events.publish(DomainIoError(domain.ref, path, device, action, reason))
    if action == _IO_ACTIONS["stop"] and domain.state == DomainState.RUNNING:
        enter_paused(domain, PausedReason.IOERROR)
    if reason and data.get("operation") == "write":
        scratch_room.look(domain, run, domain.backup)


def _failed_disk(domain: "QemuDomain", data: Data) -> tuple[str, str]:
    """Source path and alias, as far as the event tells."""
    node = data.get("node-name")
    for disk in domain.definition.disks:
        if node and node in domain.disk_nodes(disk.target):
            return disk.source or "", disk_alias(domain.definition, disk.target)
    return "", str(data.get("device", ""))


def _on_port(domain: "QemuDomain", run: Run, data: Data) -> None:
    channel = agent_channel(domain.definition)
    if channel is None or data.get("id") != channel.alias:
        return
    if run.agent_connected == bool(data.get("open")):
        return
    run.agent_connected = not run.agent_connected
    state = _AGENT_STATES[run.agent_connected]
    domain.events.publish(DomainAgentLifecycle(domain.ref, state, _AGENT_REASON_CHANNEL))


_HANDLERS: Final[dict[str, _Handler]] = {
    "BALLOON_CHANGE": guest_memory.change,
    "BLOCK_IO_ERROR": _on_io_error,
    "BLOCK_WRITE_THRESHOLD": block.on_threshold,
    "DEVICE_DELETED": hotplug.gone,
    "DEVICE_UNPLUG_GUEST_ERROR": hotplug.kept,
    "GUEST_PANICKED": _on_panic,
    "RESET": _on_reset,
    "RESUME": _on_resume,
    "SHUTDOWN": _on_shutdown,
    "STOP": _on_stop,
    "VSERPORT_CHANGE": _on_port,
    "WATCHDOG": _on_watchdog,
}
