"""Push backups: the frozen disks are copied to files, one task a disk, and the job ends by itself.

Files of a backup that did not succeed are removed, whole ones too: half a set is no backup.
"""

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from virtbackupd.drivers.jobs import DiskJob
from virtbackupd.drivers.memory import fault_effects
from virtbackupd.drivers.memory.copy import CopyPlan, run_copy
from virtbackupd.drivers.memory.full_writer import FullWriter
from virtbackupd.drivers.memory.pace import Pace
from virtbackupd.drivers.memory.running import Backup, Request, Source
from virtbackupd.drivers.memory.stores import Store, claim_target

if TYPE_CHECKING:
    from virtbackupd.drivers.memory.frozen import Frozen
    from virtbackupd.drivers.memory.writers import Writer


@dataclass(slots=True)
class _PushDisk:
    view: "Frozen"
    writer: "Writer"
    plan: CopyPlan
    job: DiskJob
    pace: Pace
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    failure: str | None = None
    """What the copy is to end with, if that was arranged."""


class PushBackup(Backup):
    """Runs until every disk is copied, or one fails, or somebody aborts."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._stores: list[Store] = []
        self._disks: list[_PushDisk] = []

    async def prepare(self, undo: ExitStack) -> None:
        undo.callback(self._discard_stores)
        await trio.to_thread.run_sync(self._claim)

    def freeze(self) -> None:
        for source, store in zip(self._request.sources, self._stores, strict=True):
            if store.writer is not None:
                self._freeze_disk(source, store.writer)
        self.domain.push_stops.clear()

    def _freeze_disk(self, source: Source, writer: "Writer") -> None:
        dirty = source.dirty()
        view = source.image.freeze()
        if dirty is None:
            plan = CopyPlan.full(view, needs_zeroes=writer.needs_zeroes)
        else:
            plan = CopyPlan.incremental(view, dirty)
        rate = self.domain.host.copy_rate
        job = DiskJob(source.disk.target, source.event_path, plan.total, bandwidth=rate)
        self.job.disks[job.target] = job
        pace = Pace(self.domain.host.clock, plan, job)
        if stop := self.domain.push_stops.get(job.target, self.domain.push_stops.get(None)):
            pace.stop_at(stop.of(plan.total))
        bound = fault_effects.room(self.domain, job.target, "target")
        if bound is not None:
            writer = FullWriter(writer, *bound)
        self._disks.append(_PushDisk(view, writer, plan, job, pace))

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for disk in self._disks:
                nursery.start_soon(self._copy, disk)

    async def _copy(self, disk: _PushDisk) -> None:
        error = None

        async def between(_: int) -> None:
            disk.pace.moved()
            fault_effects.at_phase(self.domain, "copying", disk.job.target)

        working = self.domain.host.clock.working
        with disk.scope:
            try:
                await run_copy(
                    disk.plan, disk.writer, turn=disk.pace.turn, between=between, working=working
                )
                disk.job.current = disk.plan.total
            except OSError as failure:
                error = failure.strerror or os.strerror(failure.errno or 0)
        self.end_disk(disk.job, disk.failure or error)

    def stop_disk(self, disk: DiskJob) -> None:
        self._of(disk).scope.cancel()

    def speed_changed(self, disk: DiskJob) -> None:
        self._of(disk).pace.speed_changed()

    def pace_of(self, disk: DiskJob) -> Pace:
        """Where a test arranges how far the copy of a disk goes."""
        return self._of(disk).pace

    def fail_disk(self, disk: DiskJob, error: str) -> None:
        """Let the copy of a disk fail, soon."""
        copying = self._of(disk)
        copying.failure = error
        copying.scope.cancel()

    def release(self, *, success: bool) -> None:
        for disk in self._disks:
            disk.scope.cancel()
            disk.view.close()
        if not success:
            for store in self._stores:
                store.remove()

    def _of(self, job: DiskJob) -> _PushDisk:
        return next(disk for disk in self._disks if disk.job is job)

    def _claim(self) -> None:
        for source in self._request.sources:
            self._stores.append(claim_target(source, reuse=self._request.reuse))

    def _discard_stores(self) -> None:
        for store in self._stores:
            store.discard()
