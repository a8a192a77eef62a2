"""Beginning, showing and aborting backups.

A backup is begun in three parts: checks that change nothing, preparations that may wait and are
undone one by one when anything fails, and one stretch without a wait in which the checkpoint is
made and every disk is frozen. So no guest write falls between checkpoint and backup.
"""

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING

import trio

from virtbackupd.drivers import backup_rules as rules
from virtbackupd.drivers import checkpoint_rules
from virtbackupd.drivers.definitions.alignment import require_block_jobs
from virtbackupd.drivers.errors import ConfigUnsupported, OperationFailed, OperationInvalid
from virtbackupd.drivers.jobs import BackupJob, DiskState
from virtbackupd.drivers.limits import limits
from virtbackupd.drivers.memory import checkpoint, fault_effects
from virtbackupd.drivers.memory.pull import PullBackup
from virtbackupd.drivers.memory.push import PushBackup
from virtbackupd.drivers.memory.running import Backup, Request, Source

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.backup import BackupDisk
    from virtbackupd.drivers.definitions.secret import SecretName
    from virtbackupd.drivers.memory.domain import MemoryDomain

_log = logging.getLogger(__name__)


async def begin(
    domain: "MemoryDomain", backup_xml: str, checkpoint_xml: str | None, flags: int
) -> None:
    """`virDomainBackupBegin`: returns when the backup runs; on any failure nothing remains."""
    clock = domain.host.clock
    documents = rules.parse(backup_xml, checkpoint_xml, flags, int(clock.time()))
    await rules.previous_end(domain.backup, clock)
    job = BackupJob(domain.ref.name, documents.backup.pull, clock=clock.monotonic)
    with ExitStack() as undo:
        limits().check_job(sum(other.jobs.job is not None for other in domain.host.domains))
        domain.jobs.begin(job)
        undo.callback(domain.jobs.finish, None)
        aligned = rules.align(
            domain,
            documents,
            tls_available=domain.host.backup_tls is not None,
            any_port=bool(domain.host.advertise),
        )
        aligned = rules.numbered(aligned, domain.nodes_used)
        new = documents.checkpoint
        new = checkpoint_rules.prepare(domain, new) if new is not None else None
        sources = [_source(domain, entry) for entry in aligned.selected]
        rules.require_any(sources, domain)
        await _start(Request(domain, aligned, new, sources, flags, job), undo)


async def _start(request: Request, undo: ExitStack) -> None:
    domain, run = request.domain, (request.domain.ref.id, request.domain.restored)
    await fault_effects.wait_phase(domain, "begin")
    _require_same_run(domain, run)
    kind = PullBackup if request.definition.pull else PushBackup
    backup: Backup = kind(request)
    await backup.prepare(undo)
    await fault_effects.wait_phase(domain, "prepared")
    await trio.lowlevel.checkpoint_if_cancelled()
    # From here to the end nothing waits: checkpoint and backup are of one instant.
    _require_same_run(domain, run)
    if request.checkpoint is not None:
        checkpoint.commit(domain, request.checkpoint)
        fault_effects.at_phase(domain, "checkpoint")
        if domain.ref.id != run[0]:
            # The bitmaps are gone with the process, and libvirt takes the rest back.
            domain.checkpoints.remove(request.checkpoint.name)
            _require_same_run(domain, run)
    backup.freeze()
    if domain.marks is not None:
        domain.marks.backup_begins(domain)
    domain.nodes_used += len(request.sources)
    undo.pop_all()
    domain.backup = backup
    domain.host.nursery.start_soon(_run, backup)
    fault_effects.at_phase(domain, "frozen")


def _require_same_run(domain: "MemoryDomain", run: tuple[int, int]) -> None:
    if (domain.ref.id, domain.restored) != run:
        raise OperationInvalid(f"domain {domain.ref.name} stopped while its backup was prepared")


async def _run(backup: Backup) -> None:
    """The edge of a backup's task: a fault of ours ends this backup, not the hypervisor."""
    try:
        await backup.run()
    except Exception:  # noqa: BLE001 - the boundary of a task, logged with its traceback
        _log.exception("the backup of domain %s broke down", backup.job.domain)
        for disk in backup.job.in_state(DiskState.RUNNING, DiskState.CANCELLING):
            backup.end_disk(disk, "internal error, see the log of the daemon")


def _source(domain: "MemoryDomain", entry: "BackupDisk") -> Source:
    disk, image = domain.definition.find_disk(entry.name), domain.disk_image(entry.name)
    if disk is None or image is None:
        raise ConfigUnsupported(f"disk {entry.name} of domain {domain.ref.name} has no medium")
    require_block_jobs(disk)
    source = Source(entry, disk, image)
    if source.since is not None:
        domain.checkpoints.get(source.since)
        checkpoint.require_chain(image, source.since, disk.target)
    if entry.secret is not None:
        _require_secret(domain, entry.secret)
    return source


def _require_secret(domain: "MemoryDomain", name: "SecretName") -> None:
    """Scratch space is memory, where there is nothing to encrypt; still the key must be there."""
    secrets = domain.host.secrets
    secrets.require_value(secrets.named(name))


def get_xml_desc(domain: "MemoryDomain", flags: int) -> str:
    """The running backup with all that was filled in."""
    return rules.describe(domain, domain.backup, flags)


def abort(domain: "MemoryDomain") -> None:
    """Ask for the end of the backup, which for a pull is the way to end it; does not wait."""
    domain.require_active()
    if domain.backup is None:
        raise rules.nothing_to_abort(domain)
    fault_effects.at_phase(domain, "abort")
    if domain.backup is None:
        raise OperationFailed(f"domain {domain.ref.name} is no longer running")
    domain.backup.cancel()
