"""What a restarted daemon makes of checkpoints and backups that its predecessor was at work on.

A backup that ran goes on; one that was being begun, and a checkpoint that was being made, are
undone; a deletion is completed. Metadata, bitmaps, files and jobs agree afterwards.
"""

import logging
from typing import TYPE_CHECKING

from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.qemu import (
    backup_state,
    block_jobs,
    commit,
    settle,
    snapshot,
)
from virtbackupd.drivers.qemu.block_jobs import ENDED

if TYPE_CHECKING:
    from virtbackupd.drivers.qemu.domain import QemuDomain

log = logging.getLogger(__name__)
PARTS = (backup_state,)
"""Modules that must have been imported before a status file is read."""


async def resume(domain: "QemuDomain") -> None:
    """For a domain whose QEMU has been found again, before anybody else gets at it."""
    try:
        await snapshot.resume(domain)
        await settle.settle(domain)
        await _forget_lost_jobs(domain)
    except DriverError as error:
        log.error("after a restart, domain %s: %s", domain.ref.name, error.message)
        settle.settle_later(domain)
    commit.resume(domain)
    if domain.backup is not None:
        domain.backup.watch()
        domain.host.nursery.start_soon(domain.backup.run)


async def end_without_qemu(domain: "QemuDomain") -> None:
    """For a domain whose QEMU has ended while no daemon was there: its backup has, too."""
    await settle.settle(domain)
    if domain.backup is not None:
        await domain.backup.discard_files()
        domain.backup.interrupt()


async def _forget_lost_jobs(domain: "QemuDomain") -> None:
    """Jobs that have ended and that nobody will ask for."""
    ours = {work.job_id for work in domain.backup.works} if domain.backup is not None else set()
    for job in (await block_jobs.query_jobs(domain)).values():
        if job.status == ENDED and job.id not in ours:
            await block_jobs.dismiss(domain, job.id)
