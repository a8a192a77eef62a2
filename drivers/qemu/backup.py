"""Beginning, showing and aborting backups.

A backup is begun in steps: checks that change nothing; a note on disk of what is about to be made;
preparations side by side; one transaction in which the checkpoint is made and every disk is frozen;
and at last the files that make it lasting. What fails undoes all before it, with the same means
that a restarted daemon uses on the note (`rollback`).
"""

import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from virtbackupd.drivers import backup_rules as rules
from virtbackupd.drivers import checkpoint_rules
from virtbackupd.drivers.backup_rules import Documents
from virtbackupd.drivers.definitions.alignment import require_block_jobs
from virtbackupd.drivers.enums import BackupBegin
from virtbackupd.drivers.errors import (
    ConfigUnsupported,
    DriverError,
    InternalError,
)
from virtbackupd.drivers.jobs import BackupJob, DiskJob
from virtbackupd.drivers.limits import limits
from virtbackupd.drivers.qemu import (
    bitmaps,
    checkpoint,
    pull,
    push,
    rollback,
    scratch_room,
    secret_objects,
    storage,
    tls,
)
from virtbackupd.drivers.qemu.bitmaps import Images, query_images
from virtbackupd.drivers.qemu.block_nodes import Layer
from virtbackupd.drivers.qemu.image_chain import Image
from virtbackupd.drivers.qemu.labels import owner_of_store
from virtbackupd.drivers.qemu.qmp import MonitorLost
from virtbackupd.drivers.qemu.rollback import Attempt
from virtbackupd.drivers.qemu.running import QemuBackup
from virtbackupd.drivers.qemu.storage import Store
from virtbackupd.drivers.qemu.together import Step, together
from virtbackupd.drivers.qemu.work import DiskWork

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.backup import BackupDefinition, BackupDisk
    from virtbackupd.drivers.definitions.checkpoint import CheckpointDefinition
    from virtbackupd.drivers.qemu.domain import QemuDomain

_API: Final = "virDomainBackupBegin"


@dataclass(slots=True)
class _Plan:
    """A backup that has passed all checks."""

    definition: "BackupDefinition"
    checkpoint: "CheckpointDefinition | None"
    works: list[DiskWork]
    stores: list[Store] = field(default_factory=list)


async def begin(
    domain: "QemuDomain", backup_xml: str, checkpoint_xml: str | None, flags: int
) -> None:
    """`virDomainBackupBegin`: returns when the backup runs; on any failure nothing remains."""
    documents = rules.parse(backup_xml, checkpoint_xml, flags, int(time.time()))
    await rules.previous_end(domain.backup)
    job = BackupJob(domain.ref.name, documents.backup.pull)
    limits().check_job(sum(other.jobs.job is not None for other in domain.host.domains))
    domain.jobs.begin(job)
    with ExitStack() as undo:
        undo.callback(domain.jobs.finish, None)
        async with domain.modify(_API):
            plan = await _plan(domain, documents, flags, job)
            with trio.fail_after(checkpoint.PATIENCE, shield=True):
                backup = await _start(domain, plan, job, flags)
        undo.pop_all()
    domain.host.nursery.start_soon(backup.run)
    scratch_room.look_if_paused(domain, backup)


async def _plan(domain: "QemuDomain", documents: Documents, flags: int, job: BackupJob) -> _Plan:
    """All that can be refused without a change, in libvirt's order."""
    settings = domain.host.settings
    aligned = rules.align(domain, documents, tls_available=tls.available(settings))
    new = documents.checkpoint
    new = checkpoint_rules.prepare(domain, new) if new is not None else None
    images = await _look(domain, aligned)
    definition = rules.numbered(aligned, domain.nodes.last)
    if definition.pull:
        definition = rules.with_exports(definition)
    works = [_work(domain, entry, images, pull=definition.pull) for entry in definition.selected]
    rules.require_any(works, domain)
    reuse = bool(flags & BackupBegin.REUSE_EXTERNAL)
    stores = [_store(domain, work, pull=definition.pull, reuse=reuse) for work in works]
    for work, store in zip(works, stores, strict=True):
        work.created = store.created
        job.disks[work.entry.name] = work.job
    await trio.to_thread.run_sync(storage.check, stores)
    return _Plan(definition, new, works, stores)


async def _look(domain: "QemuDomain", definition: "BackupDefinition") -> Images:
    """QEMU's answer is long where there are many checkpoints: asked for only where it matters."""
    chains = [domain.nodes.disks.get(entry.name) for entry in definition.selected]
    nodes = [chain.node for chain in chains if chain is not None and chain.node is not None]
    increments = any(entry.backupmode == "incremental" for entry in definition.selected)
    if not increments and all(node in domain.nodes.facts for node in nodes):
        return Images(())
    images = await query_images(domain.monitor)
    domain.nodes.facts |= {node: images.facts(node) for node in nodes}
    return images


def _work(domain: "QemuDomain", entry: "BackupDisk", images: Images, *, pull: bool) -> DiskWork:
    disk, chain = domain.definition.find_disk(entry.name), domain.nodes.disks.get(entry.name)
    if disk is None or chain is None or chain.node is None:
        raise ConfigUnsupported(f"disk {entry.name} of domain {domain.ref.name} has no medium")
    require_block_jobs(disk)
    incremental = entry.backupmode == "incremental"
    since = entry.incremental if incremental else None
    found = []
    if since is not None:
        domain.checkpoints.get(since)
        found = bitmaps.valid_chain(images, chain, since) or []
        if not found:
            raise checkpoint_rules.broken_chain(since, entry.name)
    _require_free(domain, entry.name)
    image = Image(entry.type, entry.store_path or "", entry.driver_type)
    return DiskWork(
        entry=entry,
        node=chain.node,
        layer=Layer(entry.index or 0, image),
        job=DiskJob(entry.name, disk.local_path or "", domain.nodes.facts[chain.node].virtual_size),
        created=False,
        bitmap=_bitmap_name(entry, pull=pull) if found else None,
        chain=found,
    )


def _bitmap_name(entry: "BackupDisk", *, pull: bool) -> str:
    return (entry.exportbitmap if pull else None) or f"backup-{entry.name}"


def _require_free(domain: "QemuDomain", target: str) -> None:
    other = domain.block_jobs.owner(target)
    if other is not None:
        raise InternalError(f"disk {target} has a blockjob assigned: {other} is at work on it")


def _store(domain: "QemuDomain", work: DiskWork, *, pull: bool, reuse: bool) -> Store:
    entry, source = work.entry, domain.nodes.disks[work.entry.name].layers[0]
    facts = domain.nodes.facts[work.node]
    can_stand = storage.stands_on_others(entry.driver_type)
    stands = pull or (entry.backupmode == "incremental" and can_stand)
    if entry.secret is not None:
        work.secret = f"{work.layer.node}-encryption-secret0"
    return Store(
        layer=work.layer,
        capacity=work.job.total,
        reuse=reuse,
        backing=source if stands else None,
        names_backing=stands,
        cluster_size=facts.cluster_size if source.image.format == "qcow2" else 0,
        extended_l2=facts.extended_l2,
        secret=work.secret,
        owner=owner_of_store(entry.store_extras, domain.host.settings),
    )


async def _start(domain: "QemuDomain", plan: _Plan, job: BackupJob, flags: int) -> QemuBackup:
    """From here on something may have to be undone."""
    domain.nodes.last += len(plan.works)
    backup = QemuBackup(domain, plan.definition, job, plan.works, flags)
    backup.checkpoint = plan.checkpoint.name if plan.checkpoint is not None else None
    attempt = Attempt(backup, plan.checkpoint)
    domain.attempt = attempt
    try:
        await _prepare(domain, plan)
        await _freeze(domain, plan, backup)
        await _settle(domain, plan, backup)
    except MonitorLost:
        # Nothing can be undone now: `settle` finds the attempt when it can.
        raise
    except BaseException:
        with suppress(MonitorLost):
            await rollback.undo(domain, attempt)
        raise
    return backup


async def _prepare(domain: "QemuDomain", plan: _Plan) -> None:
    """Note what is about to be made; then make everything the transaction needs."""
    await together(_notes(domain, plan))
    steps: list[Step] = [lambda: _prepare_stores(domain, plan)]
    if plan.definition.pull:
        steps.append(lambda: pull.start_server(domain, plan.definition.server))
    await together(steps)


def _notes(domain: "QemuDomain", plan: _Plan) -> list[Step]:
    steps: list[Step] = [domain.status.note]
    new = plan.checkpoint
    if new is not None:
        steps.append(lambda: domain.checkpoint_files.stage(new))
    return steps


async def _prepare_stores(domain: "QemuDomain", plan: _Plan) -> None:
    pairs = list(zip(plan.works, plan.stores, strict=True))
    try:
        await trio.to_thread.run_sync(storage.create, plan.stores)
    finally:
        # A file that somebody else was quicker to create must not be removed.
        for work, store in pairs:
            work.created = store.made
    await together(partial(_attach, domain, *pair) for pair in pairs)


async def _attach(domain: "QemuDomain", work: DiskWork, store: Store) -> None:
    if work.secret is not None and work.entry.secret is not None:
        uuid = domain.host.secrets.store.named(work.entry.secret)
        await secret_objects.add(domain, work.secret, uuid)
    await storage.attach(domain, store)


async def _freeze(domain: "QemuDomain", plan: _Plan, backup: QemuBackup) -> None:
    """One instant for the checkpoint and every disk."""
    kind = pull.actions if plan.definition.pull else push.actions
    actions = [action for work in plan.works for action in kind(work)]
    if plan.checkpoint is not None:
        actions = checkpoint.bitmap_additions(domain, plan.checkpoint) + actions
    backup.watch()
    steps: list[Step] = [partial(bitmaps.transaction, domain.monitor, actions)]
    if plan.checkpoint is not None:
        steps.append(domain.checkpoint_files.flush_pending)
    await together(steps)


async def _settle(domain: "QemuDomain", plan: _Plan, backup: QemuBackup) -> None:
    """Offer what is to be offered and make it all lasting."""
    if plan.definition.pull:
        await pull.export(domain, plan.works)
    domain.backup, domain.attempt = backup, None
    steps: list[Step] = [domain.save_status]
    if plan.checkpoint is not None:
        steps.append(partial(checkpoint.enter, domain, plan.checkpoint))
    try:
        await together(steps)
    except DriverError:
        domain.backup = None
        raise


def get_xml_desc(domain: "QemuDomain", flags: int) -> str:
    """The running backup with all that was filled in."""
    return rules.describe(domain, domain.backup, flags)


async def abort(domain: "QemuDomain", flags: int) -> None:
    """Ask for the end of the backup, which for a pull is the way to end it; does not wait."""
    rules.check_abort_flags(domain, flags)
    domain.require_active()
    if domain.backup is None:
        raise rules.nothing_to_abort(domain)
    with trio.fail_after(checkpoint.PATIENCE, shield=True):
        await domain.backup.cancel()
