"""The calls on one disk: size, resizing, thresholds, and its part in a backup.

A disk is named by its target or its source path. Counters are in `stats`, contents in `image`.
"""

import re
from typing import TYPE_CHECKING

import trio

from virtbackupd.drivers.disks import require_disk
from virtbackupd.drivers.enums import BlockJobType
from virtbackupd.drivers.errors import (
    BlockCopyActive,
    InternalError,
    InvalidArgument,
    OperationInvalid,
    OperationUnsupported,
    Origin,
)
from virtbackupd.drivers.flags import FlagRules, check_none
from virtbackupd.drivers.interface import Answer, BlockInfo, BlockJobInfo
from virtbackupd.drivers.jobs import DiskState
from virtbackupd.drivers.memory.images import file_stamp
from virtbackupd.drivers.memory.media import measure

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.disk import DiskDefinition
    from virtbackupd.drivers.jobs import DiskJob
    from virtbackupd.drivers.memory.domain import MemoryDomain
    from virtbackupd.drivers.memory.image import Image

_BYTES = 1
_PIVOT = 2
_RESIZE = FlagRules("virDomainBlockResize", _BYTES)
_JOB_INFO = FlagRules("virDomainGetBlockJobInfo", _BYTES)
_JOB_ABORT = FlagRules("virDomainBlockJobAbort", 1 | _PIVOT)
_JOB_SPEED = FlagRules("virDomainBlockJobSetSpeed", _BYTES)
_MAX_SIZE = 2**63 - 1
_INDEXED = re.compile(r"(.+)\[(\d{1,9})\]")


def get_block_info(domain: "MemoryDomain", path: str, flags: int) -> Answer[BlockInfo]:
    """Allocation and capacity; of an inactive domain's disk what its file has, if it is new."""
    check_none(flags, "virDomainGetBlockInfo")
    disk = require_disk(domain.definition, path)
    if not domain.active and disk.source is not None:
        return _info_of_file(domain, disk)
    image = _medium(domain, path)
    return BlockInfo(image.allocation, image.capacity, image.physical)


async def _info_of_file(domain: "MemoryDomain", disk: "DiskDefinition") -> BlockInfo:
    image = domain.disk_image(disk.target)
    stamp = await trio.to_thread.run_sync(file_stamp, disk.local_path or "")
    if image is not None and domain.host.images.is_of(image.path, stamp):
        return BlockInfo(image.allocation, image.capacity, image.physical)
    return await trio.to_thread.run_sync(measure, disk)


def block_resize(domain: "MemoryDomain", path: str, size: int, flags: int) -> None:
    """Grow or shrink; `size` counts KiB unless the flag says bytes."""
    _RESIZE.check(flags)
    size = size if flags & _BYTES else size * 1024
    if size > _MAX_SIZE:
        raise InvalidArgument(f"a disk of {size} bytes is beyond {_MAX_SIZE}", origin=Origin.DOMAIN)
    domain.require_active()
    disk = require_disk(domain.definition, path)
    if disk.empty or disk.read_only:
        raise OperationUnsupported(f"disk {disk.target} is empty or read-only, it has no new size")
    if _in_backup(domain, disk.target):
        raise InternalError(f"disk {disk.target} is in use by a backup, end that to resize it")
    _medium(domain, disk.target).resize(size)


def get_block_job_info(domain: "MemoryDomain", path: str, flags: int) -> BlockJobInfo:
    """The disk's part in the running backup."""
    _JOB_INFO.check(flags)
    domain.require_active()
    job = _job(domain, require_disk(domain.definition, path).target)
    if job is None:
        return BlockJobInfo(0, 0, 0, 0, 0)
    speed = job.bandwidth if flags & _BYTES else -(-job.bandwidth >> 20)
    return BlockJobInfo(1, BlockJobType.BACKUP, speed, job.current, job.total)


def block_job_abort(domain: "MemoryDomain", path: str, flags: int) -> None:
    """End the disk's part; the rest of the backup ends with it."""
    _JOB_ABORT.check(flags)
    domain.require_active()
    disk = require_disk(domain.definition, path)
    job = _required_job(domain, disk.target)
    if flags & _PIVOT:
        raise BlockCopyActive(f"the backup of disk {disk.target} has nothing to pivot to")
    if job.state is not DiskState.RUNNING:
        raise OperationInvalid(f"the backup of disk {disk.target} is ending already")
    if domain.backup is not None:
        domain.backup.cancel_disk(job)


def block_job_set_speed(domain: "MemoryDomain", path: str, bandwidth: int, flags: int) -> None:
    """Limit a copy; `bandwidth` counts MiB per second unless the flag says bytes, 0 is no limit."""
    _JOB_SPEED.check(flags)
    bandwidth = bandwidth if flags & _BYTES else bandwidth << 20
    if bandwidth > _MAX_SIZE:
        raise InvalidArgument(f"a bandwidth of {bandwidth} is beyond {_MAX_SIZE}")
    domain.require_active()
    job = _required_job(domain, require_disk(domain.definition, path).target)
    job.bandwidth = bandwidth
    if domain.backup is not None:
        domain.backup.speed_changed(job)


def set_block_threshold(domain: "MemoryDomain", dev: str, threshold: int, flags: int) -> None:
    """Ask for one event when a write ends beyond `threshold`, or none with 0."""
    check_none(flags, "virDomainSetBlockThreshold")
    domain.require_active()
    indexed = _INDEXED.fullmatch(dev)
    if indexed is not None and domain.backup is not None:
        target, index = indexed.groups()
        if domain.backup.set_threshold(target, int(index), threshold):
            return
    target = _own_number(domain, *indexed.groups()) if indexed is not None else dev
    domain.counters(require_disk(domain.definition, target).target).threshold = threshold


def _own_number(domain: "MemoryDomain", target: str, number: str) -> str:
    """The disk whose image has that number in the statistics."""
    for index, disk in enumerate(domain.definition.disks, start=1):
        if (disk.target, str(index)) == (target, number):
            return target
    raise InvalidArgument(f"domain {domain.ref.name} has no disk {target}[{number}]")


def require_free(domain: "MemoryDomain", target: str) -> None:
    """Refuse to take a disk away from a backup."""
    if _in_backup(domain, target):
        raise OperationUnsupported(f"disk {target} is in use by a backup, end that first")


def _in_backup(domain: "MemoryDomain", target: str) -> bool:
    """Whether a backup has the disk; one that is being prepared may want any."""
    beginning = domain.jobs.job is not None and domain.backup is None
    return beginning or _job(domain, target) is not None


def _medium(domain: "MemoryDomain", path: str) -> "Image":
    disk = require_disk(domain.definition, path)
    image = domain.disk_image(disk.target)
    if image is None:
        raise InvalidArgument(f"drive {disk.target} of domain {domain.ref.name} has no medium")
    return image


def _job(domain: "MemoryDomain", target: str) -> "DiskJob | None":
    job = domain.jobs.job.disks.get(target) if domain.jobs.job is not None else None
    active = (DiskState.RUNNING, DiskState.CANCELLING)
    return job if job is not None and job.state in active else None


def _required_job(domain: "MemoryDomain", target: str) -> "DiskJob":
    job = _job(domain, target)
    if job is None:
        raise InvalidArgument(f"disk {target} of domain {domain.ref.name} has no active block job")
    return job
