"""A backup that runs: the ends of its disks' jobs, the end of the whole, and what is told.

QEMU's events only say that there is something to be seen. One task looks, records on disk what
has ended, lets QEMU forget it, and clears away, in an order in which a daemon that is killed at any
moment can go on from what it finds. How a backup is begun is not its concern.
"""

import logging
from typing import TYPE_CHECKING, Final

import trio

from virtbackupd.drivers.enums import BackupBegin, BlockJobType
from virtbackupd.drivers.errors import DriverError, InternalError
from virtbackupd.drivers.events import CANCELED, DomainBlockJob, DomainJobCompleted
from virtbackupd.drivers.jobs import BLOCK_JOB_STATUS, DiskState
from virtbackupd.drivers.qemu import (
    block_jobs,
    lifecycle,
    pull,
    push,
    secret_objects,
    storage,
    strays,
)
from virtbackupd.drivers.qemu.block_jobs import ENDED, JobReport
from virtbackupd.drivers.qemu.qmp import MonitorLost

if TYPE_CHECKING:
    from collections.abc import Iterable

    from virtbackupd.drivers.definitions.backup import BackupDefinition
    from virtbackupd.drivers.interface import JobStats
    from virtbackupd.drivers.jobs import BackupJob, DiskJob
    from virtbackupd.drivers.qemu.domain import QemuDomain
    from virtbackupd.drivers.qemu.work import DiskWork

log = logging.getLogger(__name__)

ACTIVE: Final = (DiskState.RUNNING, DiskState.CANCELLING)
_UNSUCCESSFUL: Final = (*ACTIVE, DiskState.FAILED, DiskState.CANCELLED)
_RECONNECT_TRIES: Final = 60
_RECONNECT_PAUSE: Final = 1.0
_VANISHED: Final = "QEMU has no job for this disk any more"


class QemuBackup:
    """From the moment when its jobs run to its record."""

    def __init__(
        self,
        domain: "QemuDomain",
        definition: "BackupDefinition",
        job: "BackupJob",
        works: "list[DiskWork]",
        flags: int,
    ) -> None:
        self.domain = domain
        self.definition = definition
        self.job = job
        self.works = works
        self.flags = flags
        self.checkpoint: str | None = None
        """The name of the checkpoint that was made with it."""
        self.over = trio.Event()
        self.room_in_doubt = False
        """Whether somebody is finding out if its scratch files lack room."""
        self._wake = trio.Event()
        self._asking = trio.Lock()
        """Nobody looks while only some of the disks have been asked to end."""
        self._listening: set[int] = set()
        """What the server listened on when it was closed to clients; empty before."""
        self._untold: list[DiskWork] = []
        """Those that have ended, and nobody knows yet."""

    @property
    def preserves_domain(self) -> bool:
        """Whether a guest that powers off must leave its QEMU in place."""
        return bool(self.flags & BackupBegin.PRESERVE_SHUTDOWN_DOMAIN)

    def uses(self, target: str) -> bool:
        """Whether a disk is being backed up."""
        disk = self.job.disks.get(target)
        return disk is not None and disk.state in ACTIVE

    def work_of(self, target: str) -> "DiskWork | None":
        return next((work for work in self.works if work.entry.name == target), None)

    # Looking after the jobs
    def watch(self) -> None:
        """From now on, notice what QEMU says of the jobs."""
        for work in self.works:
            self.domain.block_jobs.watch(work.job_id, self._job_changed)

    def _job_changed(self, status: str) -> None:
        if status == ENDED:
            self.look_again()

    def look_again(self) -> None:
        """Somebody may have ended a job, or failed to end QEMU."""
        self._wake.set()

    async def run(self) -> None:
        """A task of the driver's: a fault of ours ends this backup, not the hypervisor."""
        try:
            await self._look_after()
        except Exception:
            log.exception("the backup of domain %s broke down", self.job.domain)
            await self._give_up(InternalError("internal error, see the log of the daemon"))

    async def _look_after(self) -> None:
        """Until the backup is over."""
        tries = _RECONNECT_TRIES
        while not self.over.is_set():
            try:
                await self._settle()
                tries = _RECONNECT_TRIES
                await self._wake.wait()
            except MonitorLost as error:
                tries -= 1
                if not tries:
                    await self._give_up(error)
                await trio.sleep(_RECONNECT_PAUSE)
                self._wake.set()
            except DriverError as error:
                log.error("backup of domain %s: %s", self.domain.ref.name, error.message)
                await self._give_up(error)

    async def _settle(self) -> None:
        """Take in every job that has ended by now."""
        self._wake = trio.Event()
        async with self._asking:
            reports = await block_jobs.query_jobs(self.domain)
        if self._ends_with_domain():
            return
        for work in self._active():
            if _has_ended(reports.get(work.job_id)):
                self._record(work, reports.get(work.job_id))
                self._untold.append(work)
        await self._clear_disks(self._untold)
        if not self._active():
            await self._finish()
            return
        if self._untold:
            await self._tell_disks()
        if self.job.failing:
            await self.cancel()

    async def _tell_disks(self) -> None:
        """Some disks have ended, others have not."""
        await self.domain.save_status_if_possible()
        await self._dismiss(self._untold)
        told, self._untold = self._untold, []
        for work in told:
            self._publish_disk(work.job)

    def _ends_with_domain(self) -> bool:
        """A QEMU that ends cancels its jobs; that is not their end, but `interrupt` is."""
        run = self.domain.run
        return run is None or run.gone or run.ending is not None

    def _active(self) -> "list[DiskWork]":
        return [work for work in self.works if work.job.state in ACTIVE]

    def _record(self, work: "DiskWork", report: JobReport | None) -> None:
        error: str | None = _VANISHED
        if report is not None:
            error = report.error
            work.job.current, work.job.total = report.current, report.total
        if error == CANCELED and work.job.state is DiskState.RUNNING:
            work.job.state = DiskState.CANCELLING
        self.job.end_disk(work.job, error)

    async def _clear_disks(self, ended: "list[DiskWork]") -> None:
        if not ended:
            return
        if self.job.pull:
            await pull.stop_server(self.domain, self.definition.server, self._listening)
        else:
            await push.remove_bitmaps(self.domain, ended)

    async def _dismiss(self, works: "Iterable[DiskWork]") -> None:
        await block_jobs.dismiss(self.domain, *(work.job_id for work in works))

    # Ending it
    async def _finish(self) -> None:
        """Every disk has ended: clear away, then tell. May be cut off and begun again."""
        await self.domain.save_status_if_possible()
        await self._dismiss(self.works)
        await self._detach()
        if self._ends_with_domain():
            # QEMU may have ended before all of a target was written.
            return
        await self._remove_files()
        self._end(self.job.record(), [work.job for work in self._untold])
        await self.domain.save_status_if_possible()

    async def _detach(self) -> None:
        await storage.detach(self.domain, [work.layer for work in self.works])
        secrets = [work.secret for work in self.works if work.secret is not None]
        await secret_objects.remove(self.domain, secrets)

    async def _remove_files(self) -> None:
        """Scratch files always go, targets unless all of the backup has succeeded."""
        if self.job.pull or self.job.in_state(*_UNSUCCESSFUL):
            await self.discard_files()

    async def discard_files(self) -> None:
        """Remove all files: QEMU is gone, or nothing in them can be relied on."""
        await storage.forget_files([work.layer.image.path for work in self.works if work.created])

    def _end(self, record: "JobStats", last: "Iterable[DiskJob]") -> None:
        """The end for all who ask, in one go; the last disk's event comes after the whole's."""
        if self.over.is_set():
            return
        disks = list(last)
        for disk in disks[:-1]:
            self._publish_disk(disk)
        self.domain.backup = None
        self.domain.jobs.finish(record)
        self.domain.events.publish(DomainJobCompleted(self.domain.ref, tuple(record.params)))
        for disk in disks[-1:]:
            self._publish_disk(disk)
        for work in self.works:
            self.domain.block_jobs.forget(work.job_id)
        self.over.set()
        self._wake.set()
        lifecycle.backup_ended(self.domain)

    def _publish_disk(self, disk: "DiskJob") -> None:
        status, kind = BLOCK_JOB_STATUS[disk.state], BlockJobType.BACKUP
        event = DomainBlockJob(self.domain.ref, disk.path, disk.target, kind, status)
        self.domain.events.publish(event)

    def interrupt(self) -> None:
        """QEMU is gone: record the end. The files are removed before."""
        self._end(self.job.interrupted(), ())

    async def _give_up(self, error: DriverError) -> None:
        """Nothing can be learned of the jobs any more: the backup has failed."""
        for work in self._active():
            work.job.state = DiskState.RUNNING
            self.job.end_disk(work.job, error.message)
        await self.discard_files()
        self._end(self.job.record(), ())
        self.domain.save_status_soon()

    # What callers want
    async def fail(self, works: "Iterable[DiskWork]", error: str) -> None:
        """Disks cannot be backed up any more, though QEMU does not know; does not wait."""
        for work in works:
            self.job.doom(work.job, error)
        await self.domain.save_status_if_possible()
        self.look_again()

    async def cancel(self) -> None:
        """Ask for the end of every disk's job; does not wait for it. May be called again.

        In the order of the disks, as libvirtd does: clients are told of their ends in that order.
        """
        running = [work for work in self.works if work.job.state is DiskState.RUNNING]
        await self._cancel(running, force=True)

    async def cancel_disk(self, work: "DiskWork", *, force: bool = True) -> None:
        """Ask for the end of one disk's job; the others follow when it has ended."""
        await self._cancel([work], force=force)

    async def _cancel(self, works: "list[DiskWork]", *, force: bool) -> None:
        async with self._asking:
            monitor = self.domain.monitor
            # Some may have been found ended while this waited.
            works = [work for work in works if work.job.state is DiskState.RUNNING]
            for work in works:
                work.job.state = DiskState.CANCELLING
            asked = [{"device": work.job_id, "force": force} for work in works]
            try:
                await self._close_to_clients()
                refusals = await monitor.execute_each("block-job-cancel", asked)
            except BaseException:
                # Whether it was asked for is not known; it may be asked for again.
                for work in works:
                    if work.job.state is DiskState.CANCELLING:
                        work.job.state = DiskState.RUNNING
                raise
        if any(refusals):
            # It has ended in the meantime.
            self._wake.set()

    async def _close_to_clients(self) -> None:
        """QEMU lets no job end, nor the guest write, while a client leaves an answer unread."""
        if self.job.pull and not self._listening:
            await strays.hang_up(self.domain, self.definition.server, self._listening)

    async def refresh(self) -> None:
        """Bring the figures of running jobs up to date."""
        if not self._active() or self.domain.run is None:
            return
        reports = await block_jobs.query_jobs(self.domain)
        for work in self._active():
            report = reports.get(work.job_id)
            if report is not None:
                work.job.current, work.job.total = report.current, report.total


def _has_ended(report: JobReport | None) -> bool:
    return report is None or report.status == ENDED
