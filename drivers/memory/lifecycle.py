"""Starting, pausing and stopping domains, with the states and events of libvirt's QEMU driver.

Every function runs to its end without waiting, except that a start waits for the contents of
disks that are real files. Definitions come in `define` and go in `undefine`; what a stop means for
a running backup is `backup`'s business.
"""

from typing import TYPE_CHECKING, NamedTuple

from virtbackupd.drivers.enums import (
    Create,
    DomainState,
    Lifecycle,
    PausedReason,
    ResumedDetail,
    RunningReason,
    ShutdownDetail,
    StartedDetail,
    SuspendedDetail,
)
from virtbackupd.drivers.errors import ArgumentUnsupported, OperationInvalid, SystemFailure
from virtbackupd.drivers.events import DomainReboot
from virtbackupd.drivers.flags import CREATE, FlagRules
from virtbackupd.drivers.memory import console, media
from virtbackupd.drivers.stops import DESTROYED, SAVED, SHUT_DOWN, Stop

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.domain import DomainDefinition
    from virtbackupd.drivers.memory.domain import MemoryDomain

_ACPI = 1
_AGENT = 2
_SHUTDOWN = FlagRules("virDomainShutdownFlags", _ACPI | _AGENT)
_REBOOT = FlagRules("virDomainReboot", _ACPI | _AGENT)
_DESTROY = FlagRules("virDomainDestroyFlags", 1 | 2)
"""GRACEFUL, and REMOVE_LOGS, of which there are none."""
_SAVE = FlagRules("virDomainManagedSave", 1 | 2 | 4)
_SAVE_RUNNING = 2
_SAVE_PAUSED = 4


class SavedState(NamedTuple):
    """A managed save image: what ran, and whether it goes on running when started."""

    definition: "DomainDefinition"
    paused: bool


async def start(domain: "MemoryDomain", flags: int) -> None:
    """Start what is defined, or go on with what was saved."""
    CREATE.check(flags)
    _require_off(domain)
    await _find_media(domain, domain.saved.definition if domain.saved else domain.definition)
    saved, domain.saved = domain.saved, None
    paused = bool(flags & Create.PAUSED)
    if saved is not None and not flags & Create.FORCE_BOOT:
        restore(domain, saved, paused=paused)
    else:
        boot(domain, domain.definition, paused=paused)


async def _find_media(domain: "MemoryDomain", definition: "DomainDefinition") -> None:
    """Wait for the contents of the disks; what others may change meanwhile is looked at again."""
    saved, restored = domain.saved, domain.restored
    domain.starting = True
    try:
        await media.take_files(domain.host, definition.disks)
    finally:
        domain.starting = False
    _require_off(domain)
    moved = domain.saved is not saved or domain.restored != restored
    if moved or domain.definition.disks != definition.disks:
        raise OperationInvalid(
            f"domain {domain.ref.name} was changed while it was being started, start it again"
        )


def _require_off(domain: "MemoryDomain") -> None:
    if domain.active or domain.starting:
        verb = "being started" if domain.starting else "running"
        raise OperationInvalid(f"domain {domain.ref.name} is already {verb}")


def boot(domain: "MemoryDomain", definition: "DomainDefinition", *, paused: bool) -> None:
    """Start a definition afresh."""
    _activate(domain, definition)
    if not paused:
        _run(domain, RunningReason.BOOTED)
    domain.publish(Lifecycle.STARTED, StartedDetail.BOOTED)
    if paused:
        domain.enter(DomainState.PAUSED, PausedReason.USER)
        domain.publish(Lifecycle.SUSPENDED, SuspendedDetail.PAUSED)


def restore(domain: "MemoryDomain", saved: SavedState, *, paused: bool) -> None:
    """Start from a saved state."""
    _activate(domain, saved.definition)
    domain.publish(Lifecycle.STARTED, StartedDetail.RESTORED)
    if paused or saved.paused:
        domain.enter(DomainState.PAUSED, PausedReason.USER)
        detail = SuspendedDetail.RESTORED if saved.paused else SuspendedDetail.PAUSED
        domain.publish(Lifecycle.SUSPENDED, detail)
    else:
        _run(domain, RunningReason.RESTORED, ResumedDetail.FROM_SNAPSHOT)


def _activate(domain: "MemoryDomain", definition: "DomainDefinition") -> None:
    images = {disk.target: domain.host.images.of_disk(disk) for disk in definition.disks}
    domain.host.domains.activate(domain)
    domain.live = definition
    domain.media = images
    domain.stored_bitmaps = {t: media.bitmap_names(image) for t, image in images.items()}
    domain.started_at = domain.host.clock.monotonic()
    domain.enter(DomainState.PAUSED, PausedReason.STARTING_UP)
    # Node names of a run are numbered from 1: each image of each chain takes one.
    domain.nodes_used = sum(1 + len(disk.backing) for disk in definition.disks if not disk.empty)


def _run(
    domain: "MemoryDomain", reason: RunningReason, detail: ResumedDetail = ResumedDetail.UNPAUSED
) -> None:
    domain.enter(DomainState.RUNNING, reason)
    domain.publish(Lifecycle.RESUMED, detail)


def stop(domain: "MemoryDomain", how: Stop) -> None:
    """End the run: first a backup, then the domain, and all of a transient one."""
    if how.announced is not None:
        domain.publish(Lifecycle.SHUTDOWN, how.announced)
    if domain.backup is not None:
        domain.backup.die()
    domain.host.domains.deactivate(domain)
    domain.live = None
    domain.reset_guest()
    console.hang_up(domain)
    domain.media.clear()
    if domain.host.faults.active:
        domain.host.faults.stopped(domain.ref.uuid)
    domain.enter(DomainState.SHUTOFF, how.reason)
    domain.publish(Lifecycle.STOPPED, how.detail)
    if domain.persistent is None:
        domain.forget()


def shutdown(domain: "MemoryDomain", flags: int) -> None:
    """Press the power button; the guest obeys at once, or as soon as it runs again."""
    _SHUTDOWN.check(flags)
    _require_reach(domain, flags)
    if domain.state == DomainState.RUNNING:
        power_off(domain)
    else:
        domain.power_button = True


def power_off(domain: "MemoryDomain") -> None:
    """What follows when the guest has shut down: the domain's `on_poweroff`, or a backup's wish."""
    action = domain.definition.on_poweroff
    domain.power_button = False
    if action == "restart":
        _reset(domain)
        return
    domain.publish(Lifecycle.SHUTDOWN, ShutdownDetail.GUEST)
    if domain.backup is not None and domain.backup.preserves_domain:
        domain.enter(DomainState.PAUSED, PausedReason.SHUTTING_DOWN)
        domain.reset_guest()
        domain.ends_with_backup = True
        domain.publish(Lifecycle.SUSPENDED, SuspendedDetail.GUEST_SHUTDOWN)
    else:
        domain.enter(DomainState.SHUTDOWN, 0)
        stop(domain, SHUT_DOWN)


def backup_ended(domain: "MemoryDomain") -> None:
    """End a domain that was only kept for its backup."""
    if domain.active and domain.ends_with_backup:
        stop(domain, SHUT_DOWN)


def reboot(domain: "MemoryDomain", flags: int) -> None:
    """Ask the guest to start again; `on_reboot` decides whether it may."""
    _REBOOT.check(flags)
    _require_reach(domain, flags)
    if domain.definition.on_reboot == "destroy":
        stop(domain, SHUT_DOWN)
    else:
        _reset(domain)


def reset(domain: "MemoryDomain", flags: int) -> None:
    """Press the reset button."""
    FlagRules("virDomainReset", 0).check(flags)
    domain.require_active()
    _reset(domain)


def _reset(domain: "MemoryDomain") -> None:
    domain.reset_guest()
    domain.events.publish(DomainReboot(domain.ref))


def _require_reach(domain: "MemoryDomain", flags: int) -> None:
    domain.require_active()
    if flags & _AGENT and not flags & _ACPI and not domain.definition.has_guest_agent:
        raise ArgumentUnsupported(
            f"domain {domain.ref.name} has no QEMU guest agent channel, use the ACPI flag"
        )


def suspend(domain: "MemoryDomain") -> None:
    """Pause; nothing happens when paused already."""
    domain.require_active()
    if domain.state != DomainState.PAUSED:
        domain.enter(DomainState.PAUSED, PausedReason.USER)
        domain.publish(Lifecycle.SUSPENDED, SuspendedDetail.PAUSED)


def resume(domain: "MemoryDomain") -> None:
    """Let a paused domain go on."""
    domain.require_active()
    if domain.state == DomainState.RUNNING:
        raise OperationInvalid(f"domain {domain.ref.name} is already running")
    domain.ends_with_backup = False
    _run(domain, RunningReason.UNPAUSED)
    if domain.power_button:
        power_off(domain)


def destroy(domain: "MemoryDomain", flags: int) -> None:
    """Pull the plug."""
    _DESTROY.check(flags)
    domain.require_active()
    stop(domain, DESTROYED)


def managed_save(domain: "MemoryDomain", flags: int) -> None:
    """Keep the guest's state and stop."""
    _SAVE.check(flags)
    domain.require_active()
    live = domain.definition
    if domain.persistent is None:
        raise OperationInvalid(f"domain {domain.ref.name} is transient and cannot be saved")
    domain.jobs.require_idle("save")
    paused = domain.state == DomainState.PAUSED
    saved = SavedState(live, (paused or bool(flags & _SAVE_PAUSED)) and not flags & _SAVE_RUNNING)
    suspend(domain)
    stop(domain, SAVED)
    domain.saved = saved


def managed_save_remove(domain: "MemoryDomain", flags: int) -> None:
    """Throw a saved state away."""
    FlagRules("virDomainManagedSaveRemove", 0).check(flags)
    if domain.saved is None:
        raise SystemFailure(f"domain {domain.ref.name} has no managed save image to remove")
    domain.saved = None
