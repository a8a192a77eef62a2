"""The backup job of a domain: its disks, its figures, its end, and what is remembered of it.

At most one job per domain, because libvirt gives clients no way to name one. The rules here are
those of libvirt's job calls for any hypervisor; nothing in this module moves a byte or waits.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from virtbackupd.drivers.enums import BlockJobStatus, JobOperation, JobType, TypedParameterType
from virtbackupd.drivers.enums import JobStats as JobStatsFlags
from virtbackupd.drivers.errors import OperationTimeout, Origin
from virtbackupd.drivers.events import CANCELED, TypedParameter
from virtbackupd.drivers.figures import RunningBackup
from virtbackupd.drivers.interface import JobInfo, JobStats


class DiskState(Enum):
    """Where the job of one disk stands."""

    RUNNING = auto()
    CANCELLING = auto()
    COMPLETED = auto()
    FAILED = auto()
    CANCELLED = auto()


BLOCK_JOB_STATUS = {
    DiskState.COMPLETED: BlockJobStatus.COMPLETED,
    DiskState.FAILED: BlockJobStatus.FAILED,
    DiskState.CANCELLED: BlockJobStatus.CANCELED,
}
"""What the block-job events say of a disk that has ended."""


@dataclass(slots=True)
class DiskJob:
    """One disk of a backup; for pull `current` is scratch space in use, for push what is copied."""

    target: str
    path: str
    """The source as the block-job event names it; empty when it is not a local path."""
    total: int
    current: int = 0
    bandwidth: int = 0
    """Bytes per second; 0 is no limit."""
    state: DiskState = DiskState.RUNNING
    error: str | None = None
    """What its job ended with, or will; a job that was asked to stop ends with a text too."""


class Figures(NamedTuple):
    """Sums over disks, in bytes."""

    total: int = 0
    current: int = 0

    def plus(self, disks: Iterable[DiskJob]) -> "Figures":
        total, current = self
        for disk in disks:
            total += disk.total
            current += disk.current
        return Figures(total, current)


@dataclass(slots=True)
class BackupJob:
    """A backup from its registration to its record."""

    domain: str
    pull: bool
    owner: str = "virDomainBackupBegin"
    """The call that holds the job, for whoever is refused because of it."""
    clock: Callable[[], float] = time.monotonic
    disks: dict[str, DiskJob] = field(default_factory=dict)
    error: str | None = None
    ended: Figures = field(default_factory=Figures)
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def elapsed(self) -> int:
        """Milliseconds since the job began."""
        return int((self.clock() - self.started) * 1000)

    def in_state(self, *states: DiskState) -> list[DiskJob]:
        return [disk for disk in self.disks.values() if disk.state in states]

    def cancel(self) -> bool:
        """Ask every running disk to stop; False when none was running."""
        running = self.in_state(DiskState.RUNNING)
        for disk in running:
            disk.state = DiskState.CANCELLING
        return bool(running)

    def doom(self, disk: DiskJob, error: str) -> None:
        """A disk's job goes on but is lost: it has failed, however it ends."""
        if disk.state is DiskState.RUNNING:
            disk.error = error
            self.error = self.error or error

    @property
    def failing(self) -> bool:
        """Whether a disk has ended badly or is bound to, so that the others have to end."""
        return any(disk.error for disk in self.disks.values())

    def end_disk(self, disk: DiskJob, error: str | None = None) -> bool:
        """Record how a disk's job ended, and whether that was the last one.

        A disk that was asked to stop counts as cancelled, however its job ended; one whose job was
        lost before has failed.
        """
        if disk.error is not None:
            disk.state, error = DiskState.FAILED, disk.error
        elif disk.state is DiskState.CANCELLING:
            disk.state = DiskState.CANCELLED
            error = error or CANCELED
        else:
            disk.state = DiskState.FAILED if error else DiskState.COMPLETED
        disk.error = error
        self.error = self.error or error
        self.ended = self.ended.plus((disk,))
        return not self.in_state(DiskState.RUNNING, DiskState.CANCELLING)

    @property
    def failure(self) -> str | None:
        """Why a disk has failed, though others may still run."""
        return next((disk.error for disk in self.in_state(DiskState.FAILED)), None)

    def figures(self) -> Figures:
        """Ended disks and running ones; those being cancelled are not counted."""
        return self.ended.plus(self.in_state(DiskState.RUNNING))

    def outcome(self) -> JobType:
        """How the whole job ended, once every disk has."""
        if self.in_state(DiskState.FAILED):
            return JobType.FAILED
        if self.in_state(DiskState.CANCELLED) and not self.pull:
            return JobType.CANCELLED
        return JobType.COMPLETED

    def info(self) -> JobInfo:
        """The running job as `virDomainGetJobInfo` shows it."""
        elapsed = self.elapsed
        total, current = (0, 0) if self.pull else self.figures()
        sizes = (total, current, total - current)
        return JobInfo(
            JobType.UNBOUNDED, elapsed, 0, *sizes, file_total=total, file_processed=current,
            file_remaining=total - current,
        )  # fmt: skip

    def stats(self) -> JobStats:
        """The running job as `virDomainGetJobStats` shows it."""
        return JobStats(JobType.UNBOUNDED, self._params(self.figures(), error=self.failure))

    def glance(self) -> RunningBackup:
        """The running job for whoever watches the daemon."""
        cancelling = self.in_state(DiskState.CANCELLING)
        state = "failing" if self.failing else "cancelling" if cancelling else "running"
        return RunningBackup("pull" if self.pull else "push", state, *self.figures())

    def record(self) -> JobStats:
        """What is remembered once every disk has ended."""
        result = self.outcome()
        success = result is JobType.COMPLETED
        return JobStats(result, self._params(self.ended, success=success, error=self.error))

    def interrupted(self) -> JobStats:
        """What is remembered when the domain stopped: no error, and no figures of running disks."""
        self.error = None
        return JobStats(JobType.CANCELLED, self._params(self.ended, success=False))

    def _params(
        self, figures: Figures, *, success: bool | None = None, error: str | None = None
    ) -> tuple[TypedParameter, ...]:
        params = [
            TypedParameter("operation", TypedParameterType.INT, int(JobOperation.BACKUP)),
            _ullong("time_elapsed", self.elapsed),
            *self._sizes(figures),
        ]
        if success is not None:
            params.append(TypedParameter("success", TypedParameterType.BOOLEAN, int(success)))
        if error is not None:
            params.append(TypedParameter("errmsg", TypedParameterType.STRING, error))
        return tuple(params)

    def _sizes(self, figures: Figures) -> Iterable[TypedParameter]:
        total, current = figures
        if not (total or current):
            return ()
        if self.pull:
            return _ullong("disk_temp_used", current), _ullong("disk_temp_total", total)
        return (
            _ullong("disk_total", total),
            _ullong("disk_processed", current),
            _ullong("disk_remaining", total - current),
        )


def _ullong(name: str, value: int) -> TypedParameter:
    return TypedParameter(name, TypedParameterType.ULLONG, value)


class JobSlot:
    """The one place of a domain for a job, and the record of the one before."""

    __slots__ = ("completed", "job")

    def __init__(self) -> None:
        self.job: BackupJob | None = None
        self.completed: JobStats | None = None

    def begin(self, job: BackupJob) -> None:
        """Take the slot; OperationTimeout at once when it is taken."""
        self.require_idle("begin a backup")
        self.job = job

    def require_idle(self, what: str) -> None:
        """Refuse what a running job excludes, naming the job, its owner and its age.

        libvirt waits 30 s for the slot first, then refuses with the same code. Backups last longer
        than that, so the wait would only delay the answer.
        """
        if (job := self.job) is not None:
            raise OperationTimeout(
                f"cannot {what} on domain {job.domain}: its backup job, held by {job.owner} for "
                f"{job.elapsed // 1000} s, has not ended; end it with virDomainAbortJob",
                origin=Origin.NONE,
            )

    def finish(self, record: JobStats | None) -> None:
        """Free the slot; a job that never got going leaves no record."""
        self.job = None
        if record is not None:
            self.completed = record

    def info(self) -> JobInfo:
        return self.job.info() if self.job is not None else JobInfo()

    def stats(self, flags: int) -> JobStats:
        """The running job, or with COMPLETED the record, which is dropped unless KEEP_COMPLETED."""
        if not flags & JobStatsFlags.COMPLETED:
            return self.job.stats() if self.job is not None else _NO_JOB
        if self.job is not None or self.completed is None:
            return _NO_JOB
        found = self.completed
        if not flags & JobStatsFlags.KEEP_COMPLETED:
            self.completed = None
        return found


_NO_JOB = JobStats(JobType.NONE, ())
