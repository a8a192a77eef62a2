"""The calls on the block job of one disk: what it does, how fast it may be, and its end.

A disk has at most one: its part in a backup, or a commit. QEMU's own answer is passed on.
"""

from typing import TYPE_CHECKING, Any, Final

import trio

from virtbackupd.drivers.disks import require_disk
from virtbackupd.drivers.enums import BlockJobType
from virtbackupd.drivers.errors import (
    BlockCopyActive,
    InvalidArgument,
    OperationInvalid,
)
from virtbackupd.drivers.flags import FlagRules
from virtbackupd.drivers.interface import BlockJobInfo
from virtbackupd.drivers.jobs import DiskState
from virtbackupd.drivers.qemu import commit

if TYPE_CHECKING:
    from virtbackupd.drivers.qemu.domain import QemuDomain
    from virtbackupd.drivers.qemu.running import QemuBackup
    from virtbackupd.drivers.qemu.work import DiskWork

_BYTES: Final = 1
_ASYNC: Final = 1
_PIVOT: Final = 2
_JOB_INFO = FlagRules("virDomainGetBlockJobInfo", _BYTES)
_JOB_ABORT = FlagRules("virDomainBlockJobAbort", _ASYNC | _PIVOT)
_JOB_SPEED = FlagRules("virDomainBlockJobSetSpeed", _BYTES)
_MAX_SPEED: Final = 2**63 - 1
_ABORT_PATIENCE: Final = 30.0


async def get_info(domain: "QemuDomain", path: str, flags: int) -> BlockJobInfo:
    """Progress and limit of the disk's job; not found is no error."""
    _JOB_INFO.check(flags)
    domain.require_active()
    target = require_disk(domain.definition, path).target
    job, kind = _job_id(domain, target), _kind(domain, target)
    if job is None:
        return BlockJobInfo(0, 0, 0, 0, 0)
    for found in await domain.monitor.execute("query-block-jobs"):
        if found["device"] == job:
            return _info(found, kind, in_bytes=bool(flags & _BYTES))
    # It is about to begin, or has ended and we are not done with it yet.
    return BlockJobInfo(1, kind, 0, 0, 1)


async def set_speed(domain: "QemuDomain", path: str, bandwidth: int, flags: int) -> None:
    """Limit a job; `bandwidth` counts MiB per second unless the flag says bytes, 0 is no limit."""
    _JOB_SPEED.check(flags)
    bandwidth = bandwidth if flags & _BYTES else bandwidth << 20
    if bandwidth > _MAX_SPEED:
        raise InvalidArgument(f"a bandwidth of {bandwidth} is beyond {_MAX_SPEED}")
    domain.require_active()
    job = _require_job(domain, require_disk(domain.definition, path).target)
    await domain.monitor.execute("block-job-set-speed", {"device": job, "speed": bandwidth})


async def abort(domain: "QemuDomain", path: str, flags: int) -> None:
    """End the disk's job; the rest of a backup ends with it."""
    _JOB_ABORT.check(flags)
    domain.require_active()
    target = require_disk(domain.definition, path).target
    job = _require_job(domain, target)
    backup = domain.backup
    if backup is None or not backup.uses(target):
        wait = not flags & _ASYNC
        await commit.end(domain, target, pivot=bool(flags & _PIVOT), wait=wait)
        return
    if flags & _PIVOT:
        raise BlockCopyActive(f"job {job} of disk {target} is a backup and cannot be pivoted to")
    work = backup.work_of(target)
    if work is None or work.job.state is not DiskState.RUNNING:
        raise OperationInvalid(f"the backup of disk {target} is ending already")
    await _abort_work(backup, work, wait=not flags & _ASYNC)


async def _abort_work(backup: "QemuBackup", work: "DiskWork", *, wait: bool) -> None:
    await backup.cancel_disk(work, force=False)
    with trio.move_on_after(_ABORT_PATIENCE if wait else 0):
        await backup.over.wait()


def _job_id(domain: "QemuDomain", target: str) -> str | None:
    backup = domain.backup
    if backup is not None and backup.uses(target):
        work = backup.work_of(target)
        return None if work is None else work.job_id
    return domain.block_jobs.owner(target)


def _require_job(domain: "QemuDomain", target: str) -> str:
    job = _job_id(domain, target)
    if job is None:
        raise InvalidArgument(f"disk {target} of domain {domain.ref.name} has no active block job")
    return job


def _kind(domain: "QemuDomain", target: str) -> BlockJobType:
    other = commit.running(domain, target)
    return BlockJobType.BACKUP if other is None else other.type


def _info(job: dict[str, Any], kind: BlockJobType, *, in_bytes: bool) -> BlockJobInfo:
    speed = int(job["speed"])
    speed = speed if in_bytes else -(-speed >> 20)
    return BlockJobInfo(1, kind, speed, *_progress(job))


def _progress(job: dict[str, Any]) -> tuple[int, int]:
    """Whoever sees both numbers equal takes the job to be ready, so they are not before it is."""
    current, end = int(job["offset"]), int(job["len"])
    if not end:
        return int(job["ready"]), 1
    return (current - 1 if current == end and not job["ready"] else current), end
