"""A backup that runs, whichever way it hands out its data: from its instant to its record.

It keeps the rules of how the parts of single disks end, which ends the whole, and what the world is
told in which order. How a backup is begun is not its concern.
"""

from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import trio

from virtbackupd.drivers.definitions.backup import BackupDefinition
from virtbackupd.drivers.definitions.checkpoint import CheckpointDefinition
from virtbackupd.drivers.enums import BackupBegin, BlockJobType
from virtbackupd.drivers.events import DomainBlockJob, DomainJobCompleted
from virtbackupd.drivers.jobs import BLOCK_JOB_STATUS, BackupJob, DiskJob, DiskState
from virtbackupd.drivers.memory import fault_effects, lifecycle
from virtbackupd.drivers.memory.bitmap import DirtyMap
from virtbackupd.drivers.memory.checkpoint import require_chain
from virtbackupd.drivers.memory.image import Image

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.backup import BackupDisk
    from virtbackupd.drivers.definitions.disk import DiskDefinition
    from virtbackupd.drivers.interface import JobStats
    from virtbackupd.drivers.memory.domain import MemoryDomain


class Source(NamedTuple):
    """One selected disk: the request, the domain's disk, and its image."""

    entry: "BackupDisk"
    disk: "DiskDefinition"
    image: Image

    @property
    def since(self) -> str | None:
        """The checkpoint that an incremental backup starts from."""
        return self.entry.incremental if self.entry.backupmode == "incremental" else None

    def dirty(self) -> DirtyMap | None:
        """What has changed since then, as of now; None for a full backup."""
        if self.since is None:
            return None
        return DirtyMap.merge(require_chain(self.image, self.since, self.disk.target))

    @property
    def event_path(self) -> str:
        """How the block-job event names the source."""
        return self.disk.local_path or ""


@dataclass(slots=True)
class Request:
    """A checked backup request."""

    domain: "MemoryDomain"
    definition: BackupDefinition
    checkpoint: CheckpointDefinition | None
    sources: list[Source]
    flags: int
    job: BackupJob

    @property
    def reuse(self) -> bool:
        return bool(self.flags & BackupBegin.REUSE_EXTERNAL)


class Backup(ABC):
    """A backup that runs, from the instant of its disks to its record."""

    def __init__(self, request: Request) -> None:
        self.domain = request.domain
        self.definition = request.definition
        self.job = request.job
        self.over = trio.Event()
        self.thresholds: dict[str, int] = {}
        """By target: bytes in its store that are worth an event."""
        self._request = request

    @property
    def preserves_domain(self) -> bool:
        """Whether a guest that shuts down must leave the domain in place."""
        return bool(self._request.flags & BackupBegin.PRESERVE_SHUTDOWN_DOMAIN)

    @abstractmethod
    async def prepare(self, undo: ExitStack) -> None:
        """Claim what the backup needs, pushing on `undo` how to give it back."""

    @abstractmethod
    def freeze(self) -> None:
        """Take the instant of every disk. Must not wait and must not fail."""

    @abstractmethod
    async def run(self) -> None:
        """Do the work, in a task of the driver's."""

    @abstractmethod
    def stop_disk(self, disk: DiskJob) -> None:
        """End the work on a disk that is being cancelled, soon; then `end_disk` is called."""

    @abstractmethod
    def release(self, *, success: bool) -> None:
        """Let go of everything, once no disk is at work any more."""

    @abstractmethod
    def speed_changed(self, disk: DiskJob) -> None:
        """A limit was set or lifted."""

    def set_threshold(self, target: str, index: int, threshold: int) -> bool:
        """Watch the store of a disk; False when it has no such number."""
        for entry in self.definition.selected:
            if (entry.name, entry.index) == (target, index):
                self.thresholds[target] = threshold
                return True
        return False

    def cancel(self) -> None:
        """Ask for the end; may be called again."""
        for disk in self.job.in_state(DiskState.RUNNING):
            self.cancel_disk(disk)

    def cancel_disk(self, disk: DiskJob) -> None:
        disk.state = DiskState.CANCELLING
        self.stop_disk(disk)

    def end_disk(self, disk: DiskJob, error: str | None = None) -> None:
        """Record the end of a disk's part; if it did not complete, the others end with it."""
        if self.over.is_set():
            return
        last = self.job.end_disk(disk, error)
        ref = self.domain.ref
        if last and self._struck("completing"):
            return
        if last:
            self._end(self.job.record(), success=not self.job.in_state(*_UNSUCCESSFUL))
        status = BLOCK_JOB_STATUS[disk.state]
        self.domain.events.publish(
            DomainBlockJob(ref, disk.path, disk.target, BlockJobType.BACKUP, status)
        )
        if last:
            lifecycle.backup_ended(self.domain)
            fault_effects.at_phase(self.domain, "ended")
        elif disk.state is not DiskState.COMPLETED:
            self.cancel()

    def _struck(self, phase: str) -> bool:
        """Whether a fault in that phase has ended the job."""
        fault_effects.at_phase(self.domain, phase)
        return self.over.is_set()

    def interrupt(self) -> None:
        """End at once because the driver closes or another world comes."""
        self._end(self.job.interrupted(), success=False)

    def die(self) -> None:
        """End at once with the domain's process, which leaves behind what it would have removed."""
        self.interrupt()

    def _end(self, record: "JobStats", *, success: bool) -> None:
        self.over.set()
        self.domain.backup = None
        self.release(success=success)
        self.domain.jobs.finish(record)
        self.domain.events.publish(DomainJobCompleted(self.domain.ref, tuple(record.params)))


_UNSUCCESSFUL = (
    DiskState.RUNNING,
    DiskState.CANCELLING,
    DiskState.FAILED,
    DiskState.CANCELLED,
)
