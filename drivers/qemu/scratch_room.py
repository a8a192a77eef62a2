"""Pull backups whose scratch file cannot grow: the backup has to give way, not the guest.

QEMU as of Debian 12 then refuses the guest's write, which as a rule pauses the guest, and its job
knows of no error. So when a write lacks room while a scratch file does, the backup is made to fail,
and a guest that was paused goes on afterwards: it repeats its write, and nobody copies any more.
Where no scratch file lacks room it is the domain's own disk that is full, and nothing is done.
"""

import logging
import os
from typing import TYPE_CHECKING, Final

import trio

from virtbackupd.drivers.enums import DomainState, PausedReason, RunningReason
from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.qemu import lifecycle

if TYPE_CHECKING:
    from virtbackupd.drivers.qemu.domain import QemuDomain
    from virtbackupd.drivers.qemu.image_chain import Image
    from virtbackupd.drivers.qemu.run import Run
    from virtbackupd.drivers.qemu.running import QemuBackup
    from virtbackupd.drivers.qemu.work import DiskWork

log = logging.getLogger(__name__)

_LITTLE: Final = 4 << 20
"""Bytes: QEMU asks for a cluster at a time, which has at most 2 MiB, and for its tables."""
_NO_ROOM: Final = "No space left on device"
"""The text that clients know from a push without room."""


def look(domain: "QemuDomain", run: "Run", backup: "QemuBackup | None") -> None:
    """A write of the guest's may have failed for want of room: see where, without waiting."""
    if backup is None or not backup.job.pull or backup.room_in_doubt:
        return
    backup.room_in_doubt = True
    domain.host.nursery.start_soon(_look, domain, run, backup)


def look_if_paused(domain: "QemuDomain", backup: "QemuBackup | None") -> None:
    """The same, where QEMU's word on the write may have been missed."""
    if domain.run is not None and _paused_by_error(domain):
        look(domain, domain.run, backup)


def _paused_by_error(domain: "QemuDomain") -> bool:
    return (domain.state, domain.reason) == (DomainState.PAUSED, PausedReason.IOERROR)


async def _look(domain: "QemuDomain", run: "Run", backup: "QemuBackup") -> None:
    try:
        full = await trio.to_thread.run_sync(_without_room, backup.works)
        if full:
            await backup.fail(full, _NO_ROOM)
        if full or backup.job.failing:
            await backup.over.wait()
            await _go_on(domain, run)
    except DriverError as error:
        log.error("domain %s stays paused: %s", domain.ref.name, error.message)
    finally:
        backup.room_in_doubt = False


def _without_room(works: "list[DiskWork]") -> "list[DiskWork]":
    """Those whose scratch files cannot grow. Blocks."""
    return [work for work in works if _is_full(work.layer.image)]


def _is_full(image: "Image") -> bool:
    if image.type != "file":
        return False
    try:
        found = os.statvfs(image.path)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _LITTLE


async def _go_on(domain: "QemuDomain", run: "Run") -> None:
    """Let the guest repeat its write, unless it was stopped for another reason since."""
    async with domain.modify("the end of a backup without room"):
        if domain.run is run and run.ending is None and _paused_by_error(domain):
            await lifecycle.run_processors(run, RunningReason.UNPAUSED)
