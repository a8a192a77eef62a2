"""The control commands that decide how far a backup job comes, and how it ends."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Annotated

import msgspec

from virtbackupd.drivers.clock import settled
from virtbackupd.drivers.errors import InvalidArgument, OperationInvalid
from virtbackupd.drivers.jobs import DiskJob, DiskState
from virtbackupd.drivers.memory.control import (
    Arguments,
    CommandTable,
    ControlCommand,
    NoArguments,
    Target,
)
from virtbackupd.drivers.memory.pace import Stop
from virtbackupd.drivers.memory.push import PushBackup

if TYPE_CHECKING:
    from virtbackupd.drivers.memory.domain import MemoryDomain
    from virtbackupd.drivers.memory.running import Backup

Json = dict[str, object]


class ProgressArguments(Arguments, frozen=True):
    """Where to stop: one of the two, for one disk or for each."""

    disk: str | None = None
    processed: Annotated[int, msgspec.Meta(ge=0)] | None = None
    percent: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None


class FailArguments(Arguments, frozen=True):
    """Which disk fails, and the text that its job ends with."""

    disk: str
    error: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)] = "Input/output error"


def _progress(target: Target, given: ProgressArguments) -> Awaitable[Json]:
    if (given.processed is None) == (given.percent is None):
        raise InvalidArgument("control command job-progress: give either processed or percent")
    domain, stop = _domain(target), Stop(given.processed, given.percent)
    if domain.backup is None:
        _require_disk(domain, given.disk)
        domain.push_stops[given.disk] = stop
    else:
        _stop_at(_push(domain), given.disk, stop)
    return _figures(target, domain)


def _stop_at(push: PushBackup, disk: str | None, stop: Stop) -> None:
    jobs = _running(push, disk)
    for job in jobs:
        if job.current > stop.of(job.total):
            raise InvalidArgument(
                f"the backup of disk {job.target} has come to byte {job.current} already,"
                f" it cannot stop at {stop.of(job.total)}"
            )
    for job in jobs:
        push.pace_of(job).stop_at(stop.of(job.total))


def _complete(target: Target, _: NoArguments) -> Awaitable[Json]:
    domain = _domain(target)
    push = _push(domain)
    for job in _running(push, None):
        push.pace_of(job).complete()
    return _figures(target, domain)


def _fail(target: Target, given: FailArguments) -> Awaitable[Json]:
    domain = _domain(target)
    backup = _backup(domain)
    for job in _running(backup, given.disk):
        if isinstance(backup, PushBackup):
            backup.fail_disk(job, given.error)
        else:
            backup.end_disk(job, given.error)
    return _figures(target, domain)


async def _figures(target: Target, domain: "MemoryDomain") -> Json:
    """As it stands once everything has come as far as it may."""
    await settled(target.host.clock)
    job = domain.jobs.job
    disks = {} if job is None else job.disks
    return {
        "running": job is not None,
        "disks": {
            name: {
                "state": disk.state.name.lower(), "processed": disk.current, "total": disk.total,
            }
            for name, disk in disks.items()
        },
    }  # fmt: skip


def _domain(target: Target) -> "MemoryDomain":
    if target.domain is None:
        raise InvalidArgument("a job is of a domain: name one")
    return target.domain


def _require_disk(domain: "MemoryDomain", disk: str | None) -> None:
    if disk is not None and domain.definition.find_disk(disk) is None:
        raise InvalidArgument(f"domain {domain.ref.name} has no disk {disk!r}")


def _backup(domain: "MemoryDomain") -> "Backup":
    if domain.backup is None:
        raise OperationInvalid(f"domain {domain.ref.name} has no backup job: begin one first")
    return domain.backup


def _push(domain: "MemoryDomain") -> PushBackup:
    backup = _backup(domain)
    if not isinstance(backup, PushBackup):
        raise OperationInvalid(
            f"the backup of domain {domain.ref.name} is a pull, which its client moves and ends"
        )
    return backup


def _running(backup: "Backup", disk: str | None) -> list[DiskJob]:
    jobs = backup.job.in_state(DiskState.RUNNING)
    found = [job for job in jobs if disk in (None, job.target)]
    if not found:
        known = ", ".join(job.target for job in jobs) or "none"
        raise InvalidArgument(f"no backup of disk {disk!r} runs; running are: {known}")
    return found


JOB_COMMANDS: CommandTable = {
    "job-progress": ControlCommand(
        "Copy up to there and wait, in the push that runs or else in the next one.",
        _progress,
        ProgressArguments,
        needs_domain=True,
        waits=True,
    ),
    "job-complete": ControlCommand(
        "Copy all that is left of a push at once.", _complete, needs_domain=True, waits=True
    ),
    "job-fail": ControlCommand(
        "Let the backup of a disk fail, and so the whole.",
        _fail,
        FailArguments,
        needs_domain=True,
        waits=True,
    ),
}
