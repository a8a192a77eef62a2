"""Setting right what a call on checkpoints or backups has left half done.

Such calls put down beforehand what they are about to do. When one is cut off, because QEMU did not
answer or because the daemon was killed, those marks remain, and what stands there is undone or
completed before anything else is changed: at once where QEMU answers or has ended, otherwise when
it answers again. Knows no other call.
"""

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from virtbackupd.drivers.checkpoint_rules import Doomed
from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.qemu import checkpoint, rollback
from virtbackupd.drivers.qemu.bitmaps import query_images
from virtbackupd.drivers.qemu.qmp import MonitorLost

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.checkpoint import CheckpointDefinition
    from virtbackupd.drivers.qemu.domain import QemuDomain
    from virtbackupd.drivers.qemu.run import Run

log = logging.getLogger(__name__)

_NOTICE: Final = 2.0
"""Seconds in which the end of a process follows that of its socket."""
_PAUSE: Final = 1.0


async def settle(domain: "QemuDomain") -> None:
    """Undo what was being made, complete what was being deleted; the caller has the turn."""
    await _undo_attempt(domain)
    if domain.run is None:
        # Bitmaps that were made and not stored have gone with QEMU; those being deleted may stay.
        await domain.checkpoint_files.drop_marks()
    else:
        await _settle_pending(domain)
        await _complete_deletion(domain)
    domain.unsettled = False


async def after_failure(domain: "QemuDomain", run: "Run | None", error: DriverError) -> None:
    """A call was refused or cut off; returns when nothing is left, or somebody sees to it."""
    if domain.attempt is None and not await domain.checkpoint_files.has_marks():
        return
    if not isinstance(error, MonitorLost) and await _settled(domain):
        return
    if run is None or not await _has_ended(run) or not await _settled(domain):
        settle_later(domain)


async def _settled(domain: "QemuDomain") -> bool:
    try:
        await settle(domain)
    except DriverError as error:
        log.error("domain %s: %s", domain.ref.name, error.message)
        return False
    return True


def settle_later(domain: "QemuDomain") -> None:
    """Settle as soon as QEMU answers or has ended, and in any case before the next change."""
    if not domain.unsettled:
        domain.unsettled = True
        domain.host.nursery.start_soon(_settle_later, domain)


async def _settle_later(domain: "QemuDomain") -> None:
    while domain.unsettled:
        await trio.sleep(_PAUSE)
        with suppress(DriverError):
            if domain.run is not None:
                await domain.run.monitor.execute("query-status")
            async with domain.modify("the completion of an interrupted call"):
                pass


async def _has_ended(run: "Run") -> bool:
    if run.monitor.lost.is_set():
        with trio.move_on_after(_NOTICE):
            await run.over.wait()
    return run.over.is_set()


async def _undo_attempt(domain: "QemuDomain") -> None:
    attempt = domain.attempt
    if attempt is None:
        return
    log.warning("undoing a backup of domain %s that was not begun to the end", domain.ref.name)
    await rollback.undo(domain, attempt)
    if domain.jobs.job is attempt.backup.job:
        domain.jobs.finish(None)


async def _settle_pending(domain: "QemuDomain") -> None:
    files = domain.checkpoint_files
    pending = await trio.to_thread.run_sync(files.pending)
    if pending is None:
        await files.drop_pending()
    elif await _belongs_to_backup(domain, pending):
        await files.flush_pending()
        await checkpoint.enter(domain, pending)
    else:
        log.warning("undoing checkpoint %s of domain %s", pending.name, domain.ref.name)
        await checkpoint.take_back_bitmaps(domain, pending)
        await files.drop_pending()


async def _belongs_to_backup(domain: "QemuDomain", pending: "CheckpointDefinition") -> bool:
    """Whether the backup that runs is of the same instant: it was only left to say so on disk."""
    backup = domain.backup
    if backup is None or backup.checkpoint != pending.name:
        return False
    images = await query_images(domain.monitor)
    tops = [domain.nodes.disks[disk.name].node for disk in pending.bitmap_disks]
    return all(top is not None and images.find(top, pending.name) for top in tops)


async def _complete_deletion(domain: "QemuDomain") -> None:
    files = domain.checkpoint_files
    doomed = await trio.to_thread.run_sync(files.deleting)
    names = [name for name in doomed if name in domain.checkpoints]
    if doomed:
        await checkpoint.discard(domain, Doomed(names, []), metadata_only=False, resumed=True)
