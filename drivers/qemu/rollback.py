"""Undoing a backup that did not come to run: after a refusal, or by the daemon's successor.

Every step is done as far as there is anything to undo, so it does not matter how far the beginning
had come, nor whether an earlier rollback was cut off.
"""

import logging
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.qemu import block_jobs, checkpoint, pull, push, secret_objects, storage
from virtbackupd.drivers.qemu.block_jobs import ENDED
from virtbackupd.drivers.qemu.qmp import MonitorLost, QmpError
from virtbackupd.drivers.qemu.together import together

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.checkpoint import CheckpointDefinition
    from virtbackupd.drivers.qemu.domain import QemuDomain
    from virtbackupd.drivers.qemu.running import QemuBackup

log = logging.getLogger(__name__)

_PATIENCE: Final = 60.0
_PAUSE: Final = 0.01


@dataclass(slots=True)
class Attempt:
    """A backup on its way to run."""

    backup: "QemuBackup"
    checkpoint: "CheckpointDefinition | None"


async def undo(domain: "QemuDomain", attempt: Attempt) -> None:
    """Leave nothing of it. What cannot be undone is logged; the first refusal is what counts.

    MonitorLost when QEMU does not answer: the attempt stays, to be undone when it does.
    """
    domain.backup, domain.attempt = None, attempt
    try:
        with trio.fail_after(_PATIENCE, shield=True):
            await _quietly(domain, domain.status.note())
            if domain.run is not None:
                await _undo_in_qemu(domain, attempt)
            await _quietly(domain, _remove_files(domain, attempt))
            domain.attempt = None
            await _quietly(domain, domain.save_status())
    except trio.TooSlowError:
        raise MonitorLost(
            f"the rollback of a backup of domain {domain.ref.name} takes too long"
        ) from None


async def _undo_in_qemu(domain: "QemuDomain", attempt: Attempt) -> None:
    backup = attempt.backup
    await _quietly(domain, _end_jobs(domain, backup))
    if backup.job.pull:
        await _quietly(domain, pull.stop_server(domain, backup.definition.server))
    else:
        await _quietly(domain, push.remove_bitmaps(domain, backup.works))
    await _quietly(domain, _detach(domain, backup))
    if attempt.checkpoint is not None:
        await _quietly(domain, checkpoint.take_back_bitmaps(domain, attempt.checkpoint))


async def _quietly(domain: "QemuDomain", step: Awaitable[object]) -> None:
    try:
        await step
    except MonitorLost:
        raise
    except DriverError as error:
        log.warning("rollback of a backup of domain %s: %s", domain.ref.name, error.message)


async def _end_jobs(domain: "QemuDomain", backup: "QemuBackup") -> None:
    wanted = {work.job_id for work in backup.works}
    for job in wanted:
        domain.block_jobs.forget(job)
    reports = await block_jobs.query_jobs(domain)
    ours = [job for job in reports if job in wanted]
    await together(partial(_end_job, domain, job) for job in ours)


async def _end_job(domain: "QemuDomain", job: str) -> None:
    with suppress(QmpError):
        await domain.monitor.execute("block-job-cancel", {"device": job, "force": True})
    while (report := (await block_jobs.query_jobs(domain)).get(job)) is not None:
        if report.status == ENDED:
            await block_jobs.dismiss(domain, job)
        else:
            await trio.sleep(_PAUSE)


async def _detach(domain: "QemuDomain", backup: "QemuBackup") -> None:
    await storage.detach(domain, [work.layer for work in backup.works])
    secrets = [work.secret for work in backup.works if work.secret is not None]
    await secret_objects.remove(domain, secrets)


async def _remove_files(domain: "QemuDomain", attempt: Attempt) -> None:
    works = attempt.backup.works
    await storage.forget_files([work.layer.image.path for work in works if work.created])
    if attempt.checkpoint is not None:
        name = attempt.checkpoint.name
        if name in domain.checkpoints:
            domain.checkpoints.remove(name)
        await domain.checkpoint_files.remove([name])
        await domain.checkpoint_files.drop_pending()
