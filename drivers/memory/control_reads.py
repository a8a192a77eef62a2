"""The control commands that tell what NBD clients have read, so that tests can judge it."""

from virtbackupd.drivers.errors import InvalidArgument
from virtbackupd.drivers.memory.bitmap import DirtyMap
from virtbackupd.drivers.memory.control import Arguments, CommandTable, ControlCommand, Target
from virtbackupd.drivers.memory.control_disks import (
    Json,
    PageArguments,
    domain_of,
    page,
    require_disk,
)
from virtbackupd.drivers.memory.control_oracle import changes
from virtbackupd.drivers.memory.nbd_record import DiskReads


class OutsideArguments(PageArguments, frozen=True, kw_only=True):
    """Since which checkpoint; by default the one that the last backup started from."""

    since: str | None = None


class ClearArguments(Arguments, frozen=True):
    """One disk, or by default all."""

    disk: str | None = None


def _reads(target: Target, given: PageArguments) -> Json:
    reads = _of_disk(target, given.disk)
    return {
        "count": reads.count,
        **page(reads.ranges(), given),
        "bytes": reads.bytes,
        "complete": reads.complete,
    }


def _clear(target: Target, given: ClearArguments) -> Json:
    if given.disk is not None:
        _of_disk(target, given.disk).clear()
    else:
        for reads in domain_of(target).reads.values():
            reads.clear()
    return {}


def _outside(target: Target, given: OutsideArguments) -> Json:
    reads = _of_disk(target, given.disk)
    changed = _changed(target, given, reads)
    return {**page(reads.outside(changed), given), "complete": reads.complete}


def _changed(target: Target, given: OutsideArguments, reads: DiskReads) -> DirtyMap:
    if given.since is None:
        if reads.changed is None:
            raise InvalidArgument(
                f"no incremental backup of disk {given.disk} has been served: name a checkpoint in"
                " since"
            )
        return reads.changed
    domain = domain_of(target)
    return changes(domain, *require_disk(domain, given.disk), given.since)


def _of_disk(target: Target, name: str) -> DiskReads:
    domain = domain_of(target)
    disk, _ = require_disk(domain, name)
    return domain.reads.get(disk.target) or DiskReads()


COMMANDS: CommandTable = {
    "nbd-reads": ControlCommand(
        "Show which ranges of a disk NBD clients have read.",
        _reads,
        PageArguments,
        needs_domain=True,
    ),
    "nbd-reads-clear": ControlCommand(
        "Forget what was read so far.", _clear, ClearArguments, needs_domain=True
    ),
    "reads-outside-changes": ControlCommand(
        "Show what NBD clients have read of a disk although it had not changed.",
        _outside,
        OutsideArguments,
        needs_domain=True,
    ),
}
