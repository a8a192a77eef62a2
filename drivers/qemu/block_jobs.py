"""QEMU's jobs: whoever waits for the end of one, and what QEMU says of them all.

A job is known by its id. What its end means is the business of whoever watches it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import trio

from virtbackupd.drivers.errors import OperationFailed
from virtbackupd.drivers.qemu.qmp import MonitorLost, QmpError

if TYPE_CHECKING:
    from virtbackupd.drivers.qemu.domain import QemuDomain

ENDED: Final = "concluded"
_CREATE_PATIENCE: Final = 120.0


class JobReport(NamedTuple):
    """One job as QEMU describes it; sizes in bytes."""

    id: str
    status: str
    current: int
    total: int
    error: str | None


class BlockJobs:
    """Hands each change of a job's status to who watches that job."""

    def __init__(self) -> None:
        self._watched: dict[str, Callable[[str], None]] = {}
        self.disks: dict[str, str] = {}
        """Ids of the jobs, other than a backup's, that disks have, by target."""

    def on_event(self, data: Mapping[str, Any]) -> None:
        """The data of JOB_STATUS_CHANGE."""
        watcher = self._watched.get(str(data.get("id")))
        if watcher is not None:
            watcher(str(data.get("status")))

    def watch(self, job: str, watcher: Callable[[str], None]) -> None:
        """Call `watcher` with each new status; it must not wait."""
        self._watched[job] = watcher

    def forget(self, job: str) -> None:
        self._watched.pop(job, None)

    def catch_up(self, reports: Mapping[str, "JobReport"]) -> None:
        """Tell every watcher what events did not: where its job is now, or that it is gone."""
        for job, watcher in list(self._watched.items()):
            report = reports.get(job)
            watcher(ENDED if report is None else report.status)

    def owner(self, target: str) -> str | None:
        """The block job, other than a backup's, that a disk has."""
        return self.disks.get(target)

    @contextmanager
    def statuses(self, job: str) -> Iterator["Statuses"]:
        """For a task that goes through the statuses of one job."""
        statuses = Statuses(job)
        self.watch(job, statuses.add)
        try:
            yield statuses
        finally:
            self.forget(job)


class Statuses:
    """Which statuses a job has reached."""

    def __init__(self, job: str) -> None:
        self.job = job
        self._reached: set[str] = set()
        self._changed = trio.Event()

    def add(self, status: str) -> None:
        self._reached.add(status)
        self._changed.set()
        self._changed = trio.Event()

    def reached(self, status: str) -> bool:
        return status in self._reached

    async def reach(self, *wanted: str) -> None:
        """Return once one of the statuses was reached."""
        while not self._reached.intersection(wanted):
            await self._changed.wait()


async def query_jobs(domain: "QemuDomain") -> dict[str, JobReport]:
    """All jobs that QEMU knows, by id."""
    found = await domain.monitor.execute("query-jobs")
    return {job["id"]: _report(job) for job in found}


async def dismiss(domain: "QemuDomain", *jobs: str) -> None:
    """Let QEMU forget jobs that have ended; no matter if it has forgotten some already."""
    await domain.monitor.execute_each("job-dismiss", [{"id": job} for job in jobs])


async def create_image(domain: "QemuDomain", job: str, options: Mapping[str, Any]) -> None:
    """Let QEMU lay out an image; OperationFailed says why it could not."""
    with domain.block_jobs.statuses(job) as statuses:
        try:
            await domain.monitor.execute("blockdev-create", {"job-id": job, "options": options})
        except QmpError as error:
            raise OperationFailed(f"QEMU cannot create the image: {error.desc}") from None
        with trio.move_on_after(_CREATE_PATIENCE) as scope:
            await statuses.reach(ENDED)
        if scope.cancelled_caught:
            raise MonitorLost(f"QEMU did not create an image within {_CREATE_PATIENCE:g} s")
        report = (await query_jobs(domain)).get(job)
        await dismiss(domain, job)
    if report is not None and report.error is not None:
        raise OperationFailed(f"QEMU cannot create the image: {report.error}")


def _report(job: Mapping[str, Any]) -> JobReport:
    return JobReport(
        job["id"],
        job["status"],
        job.get("current-progress", 0),
        job.get("total-progress", 0),
        job.get("error"),
    )
