"""What the status file keeps of a backup, and what a restarted daemon makes of it.

Kept are the document with all that was filled in, when the backup began, its first error, and for
each disk its figures, its state and its image. A backup that was still being begun is marked, with
the name of its checkpoint: it will be undone.
"""

import time
from typing import TYPE_CHECKING, Final

from lxml import etree

from virtbackupd.drivers.definitions.backup import format_backup, restore_backup
from virtbackupd.drivers.definitions.checkpoint import CheckpointDefinition, CheckpointDisk
from virtbackupd.drivers.definitions.tree import child_text
from virtbackupd.drivers.enums import JobType, TypedParameterType
from virtbackupd.drivers.events import TypedParameter
from virtbackupd.drivers.interface import JobStats
from virtbackupd.drivers.jobs import BackupJob, DiskJob, DiskState, Figures
from virtbackupd.drivers.qemu.block_nodes import read_layer, write_layer
from virtbackupd.drivers.qemu.rollback import Attempt
from virtbackupd.drivers.qemu.running import ACTIVE, QemuBackup
from virtbackupd.drivers.qemu.state_file import PARTS, Part
from virtbackupd.drivers.qemu.work import DiskWork

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.backup import BackupDefinition
    from virtbackupd.drivers.qemu.domain import QemuDomain

_TAG: Final = "backup"
_RESULT: Final = "last-backup"


def write_backup(domain: "QemuDomain") -> etree._Element | None:
    """The element of a backup that runs or is being begun."""
    if domain.backup is not None:
        return _element(domain.backup)
    if domain.attempt is None:
        return None
    root = _element(domain.attempt.backup)
    root.set("beginning", "yes")
    checkpoint = domain.attempt.checkpoint
    if checkpoint is not None:
        made = etree.SubElement(root, "checkpoint", name=checkpoint.name)
        for disk in checkpoint.bitmap_disks:
            etree.SubElement(made, "disk", name=disk.name)
    return root


def _element(backup: QemuBackup) -> etree._Element:
    job = backup.job
    started = time.time() - job.elapsed / 1000
    root = etree.Element(_TAG, started=f"{started:.3f}", flags=str(backup.flags), owner=job.owner)
    if backup.checkpoint is not None:
        root.set("checkpoint", backup.checkpoint)
    if job.error is not None:
        etree.SubElement(root, "error").text = job.error
    for work in backup.works:
        root.append(_disk_element(work))
    root.append(etree.fromstring(format_backup(backup.definition)))
    return root


def _disk_element(work: DiskWork) -> etree._Element:
    job = work.job
    element = etree.Element(
        "disk",
        name=work.entry.name,
        node=work.node,
        state=job.state.name.lower(),
        path=job.path,
        total=str(job.total),
        current=str(job.current),
        created="yes" if work.created else "no",
    )
    optional = (("bitmap", work.bitmap), ("secret", work.secret), ("error", job.error))
    for name, value in optional:
        if value is not None:
            element.set(name, value)
    element.append(write_layer(work.layer))
    return element


def read_backup(domain: "QemuDomain", root: etree._Element) -> None:
    """Make the backup again that `write_backup` was given; nobody looks after it yet."""
    document = root.find("domainbackup")
    if document is None:
        return
    definition = restore_backup(etree.tostring(document, encoding="unicode"))
    works = [_work(definition, element) for element in root.iterchildren("disk")]
    job = _job(domain, definition, root, works)
    backup = QemuBackup(domain, definition, job, works, int(root.get("flags", "0")))
    backup.checkpoint = root.get("checkpoint")
    domain.jobs.begin(job)
    if root.get("beginning") == "yes":
        domain.attempt = Attempt(backup, _checkpoint(root))
    else:
        domain.backup = backup


def _work(definition: "BackupDefinition", element: etree._Element) -> DiskWork:
    name = element.get("name", "")
    image = element.find("image")
    if image is None:
        image = etree.Element("image")
    job = DiskJob(
        name,
        element.get("path", ""),
        int(element.get("total", "0")),
        int(element.get("current", "0")),
        state=DiskState[element.get("state", "running").upper()],
        error=element.get("error"),
    )
    if job.state is DiskState.CANCELLING:
        # QEMU may not have been told; if it has, the job's end will say so.
        job.state = DiskState.RUNNING
    entry = next(disk for disk in definition.selected if disk.name == name)
    return DiskWork(
        entry=entry,
        node=element.get("node", ""),
        layer=read_layer(image),
        job=job,
        created=element.get("created") == "yes",
        bitmap=element.get("bitmap"),
        secret=element.get("secret"),
    )


def _job(
    domain: "QemuDomain",
    definition: "BackupDefinition",
    root: etree._Element,
    works: list[DiskWork],
) -> BackupJob:
    job = BackupJob(domain.ref.name, definition.pull, owner=root.get("owner", ""))
    job.started = job.clock() - (time.time() - float(root.get("started", "0")))
    job.error = child_text(root, "error")
    job.disks = {work.entry.name: work.job for work in works}
    ended = [work.job for work in works if work.job.state not in ACTIVE]
    job.ended = Figures().plus(ended)
    return job


def _checkpoint(root: etree._Element) -> CheckpointDefinition | None:
    made = root.find("checkpoint")
    if made is None:
        return None
    disks = tuple(CheckpointDisk(disk.get("name", "")) for disk in made.iterchildren("disk"))
    return CheckpointDefinition(made.get("name", ""), 0, disks=disks)


def write_result(domain: "QemuDomain") -> etree._Element | None:
    """How the last backup of this run has ended, for a client that comes back to ask."""
    record = domain.jobs.completed
    if record is None:
        return None
    root = etree.Element(_RESULT, type=str(int(record.type)))
    for param in record.params:
        attributes = {"field": param.field, "type": str(int(param.type))}
        etree.SubElement(root, "param", attributes).text = str(param.value)
    return root


def read_result(domain: "QemuDomain", root: etree._Element) -> None:
    """What `write_result` was given."""
    params = tuple(_param(element) for element in root.iterchildren("param"))
    domain.jobs.completed = JobStats(JobType(int(root.get("type", "0"))), params)


def _param(element: etree._Element) -> TypedParameter:
    kind, text = TypedParameterType(int(element.get("type", "0"))), element.text or ""
    value = text if kind is TypedParameterType.STRING else int(text)
    return TypedParameter(element.get("field", ""), kind, value)


PARTS.append(Part(_TAG, write_backup, read_backup))
PARTS.append(Part(_RESULT, write_result, read_result))
