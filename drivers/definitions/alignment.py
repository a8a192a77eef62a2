"""Joins a checkpoint or backup document with the disks of its domain.

Disks are always looked up by target name, never by position: the order of disks in a live domain
and in its canonical form can differ. Whether the domain runs is not looked at here.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from virtbackupd.drivers.definitions.backup import BackupDefinition, BackupDisk, BackupMode
from virtbackupd.drivers.definitions.checkpoint import CheckpointDefinition, CheckpointDisk
from virtbackupd.drivers.definitions.disk import DiskDefinition
from virtbackupd.drivers.definitions.domain import DomainDefinition, canonical_domain
from virtbackupd.drivers.errors import (
    ConfigUnsupported,
    InvalidArgument,
    OperationUnsupported,
    Origin,
)


def align_checkpoint(
    definition: CheckpointDefinition, domain: DomainDefinition
) -> CheckpointDefinition:
    """One entry for each disk of the domain, in its order (67 from DOMAIN_CHECKPOINT)."""
    _require_disks(domain, Origin.DOMAIN_CHECKPOINT)
    listed = _listed_for_checkpoint(definition.disks or (), domain)
    default = definition.disks is None
    disks = tuple(
        listed.get(disk.target) or _unlisted_checkpoint_disk(disk, selected=default)
        for disk in domain.disks
    )
    return replace(definition, disks=_with_bitmap_names(disks, definition.name))


def align_redefined(definition: CheckpointDefinition, uuid: bytes) -> CheckpointDefinition:
    """The same against the embedded domain, which must be the one with `uuid` (8 otherwise)."""
    if definition.domain_xml is None:
        return replace(
            definition, disks=_with_bitmap_names(definition.disks or (), definition.name)
        )
    embedded = canonical_domain(definition.domain_xml)
    if embedded.uuid != uuid:
        raise InvalidArgument(
            f"checkpoint {definition.name!r} embeds a domain with the UUID {embedded.uuid_text},"
            " which is not the UUID of this domain",
            origin=Origin.DOMAIN_CHECKPOINT,
        )
    return align_checkpoint(definition, embedded)


def require_bitmap_support(definition: CheckpointDefinition, domain: DomainDefinition) -> None:
    """For a new, aligned checkpoint: each bitmap carries its name and has an image to live in."""
    for entry in definition.bitmap_disks:
        disk = domain.find_disk(entry.name)
        if disk is not None:
            _require_bitmap_support(entry, disk, definition.name)


def require_block_jobs(disk: DiskDefinition) -> None:
    """Refuse the disks that no block job can work on (84)."""
    reasons = (
        (disk.bus == "sd", "is an SD card"),
        (disk.transient, "is transient"),
        (disk.source_type == "vhostuser", "is served by a vhost-user process"),
    )
    for applies, reason in reasons:
        if applies:
            raise OperationUnsupported(
                f"disk {disk.target!r} {reason}, such a disk cannot take part: list it with 'no'"
            )


def align_backup(
    definition: BackupDefinition, domain: DomainDefinition, *, suffix: str
) -> BackupDefinition:
    """Listed disks first, then the others, each with its effective mode (67 from DOMAIN).

    `suffix` ends the names of generated files: the checkpoint's name, or the time in seconds.
    """
    _require_disks(domain, Origin.DOMAIN)
    listed = [
        _with_store(entry, disk, suffix) for entry, disk in _listed_for_backup(definition, domain)
    ]
    names = {entry.name for entry in listed}
    others = [
        _unlisted_backup_disk(disk, suffix, selected=not definition.disks)
        for disk in domain.disks
        if disk.target not in names
    ]
    disks = tuple(_with_mode(entry, definition.incremental) for entry in [*listed, *others])
    return replace(definition, disks=disks)


def _require_disks(domain: DomainDefinition, origin: Origin) -> None:
    if not domain.disks:
        raise ConfigUnsupported(f"domain {domain.name!r} has no disks", origin=origin)


def _listed_for_checkpoint(
    entries: tuple[CheckpointDisk, ...], domain: DomainDefinition
) -> dict[str, CheckpointDisk]:
    if len(entries) > len(domain.disks):
        raise _checkpoint_refusal(
            f"{len(entries)} disks are listed but domain {domain.name!r} has {len(domain.disks)}"
        )
    listed: dict[str, CheckpointDisk] = {}
    for entry in entries:
        disk = _resolved(entry, domain)
        if disk.target in listed:
            raise _checkpoint_refusal(f"disk {disk.target!r} is listed twice")
        listed[disk.target] = replace(entry, name=disk.target)
    return listed


def _resolved(entry: CheckpointDisk, domain: DomainDefinition) -> DiskDefinition:
    disk = domain.find_disk(entry.name)
    if disk is None:
        raise _checkpoint_refusal(f"domain {domain.name!r} has no single disk {entry.name!r}")
    if entry.checkpoint == "bitmap" and not _is_default(disk):
        state = "empty" if disk.empty else "read-only"
        raise _checkpoint_refusal(
            f"disk {disk.target!r} is {state} and cannot have a bitmap:"
            " list it with checkpoint='no'"
        )
    return disk


def _checkpoint_refusal(message: str) -> ConfigUnsupported:
    return ConfigUnsupported(message, origin=Origin.DOMAIN_CHECKPOINT)


def _is_default(disk: DiskDefinition) -> bool:
    """Whether the disk is meant when no disks are listed."""
    return not disk.empty and not disk.read_only


def _unlisted_checkpoint_disk(disk: DiskDefinition, *, selected: bool) -> CheckpointDisk:
    return CheckpointDisk(disk.target, "bitmap" if selected and _is_default(disk) else "no")


def _with_bitmap_names(disks: Iterable[CheckpointDisk], name: str) -> tuple[CheckpointDisk, ...]:
    return tuple(
        replace(disk, bitmap=name) if disk.checkpoint == "bitmap" and disk.bitmap is None else disk
        for disk in disks
    )


def _require_bitmap_support(entry: CheckpointDisk, disk: DiskDefinition, name: str) -> None:
    if entry.bitmap != name:
        raise ConfigUnsupported(
            f"the bitmap of disk {disk.target!r} is called {entry.bitmap!r}, for a new checkpoint"
            f" it must have the checkpoint's name {name!r}"
        )
    if disk.format != "qcow2":
        raise ConfigUnsupported(
            f"disk {disk.target!r} has the format {disk.format!r}, only qcow2 can hold a bitmap:"
            " list the disk with checkpoint='no'"
        )
    require_block_jobs(disk)


def _listed_for_backup(
    definition: BackupDefinition, domain: DomainDefinition
) -> Iterator[tuple[BackupDisk, DiskDefinition]]:
    by_target = {disk.target: disk for disk in domain.disks}
    seen = set()
    for entry in definition.disks or ():
        disk = by_target.get(entry.name)
        if disk is None:
            raise _backup_refusal(f"domain {domain.name!r} has no disk {entry.name!r}")
        if entry.name in seen:
            raise _backup_refusal(f"disk {entry.name!r} is listed twice")
        _check_listed(entry, disk, definition.incremental)
        seen.add(entry.name)
        yield entry, disk


def _check_listed(entry: BackupDisk, disk: DiskDefinition, since: str | None) -> None:
    if entry.backupmode == "incremental" and entry.incremental is None and since is None:
        raise _backup_refusal(
            f"disk {entry.name!r} asks for an incremental backup but neither the disk nor the"
            " backup names a checkpoint: add an incremental attribute or element"
        )
    if entry.backup and disk.empty:
        raise _backup_refusal(
            f"disk {entry.name!r} has no media to back up: list it with backup='no'"
        )


def _backup_refusal(message: str) -> ConfigUnsupported:
    return ConfigUnsupported(message, origin=Origin.DOMAIN)


def _with_store(entry: BackupDisk, disk: DiskDefinition, suffix: str) -> BackupDisk:
    if not entry.backup or entry.store_path is not None:
        return entry
    if disk.source_type != "file" or disk.local_path is None:
        raise _backup_refusal(
            f"disk {disk.target!r} is of type {disk.source_type!r}, no file name can be made up"
            " from its source: name a target or scratch for it"
        )
    path = f"{disk.local_path}.{suffix}"
    return replace(entry, type="file", store_path=path, store_is_generated=True)


def _unlisted_backup_disk(disk: DiskDefinition, suffix: str, *, selected: bool) -> BackupDisk:
    entry = BackupDisk(disk.target, backup=selected and _is_default(disk))
    return _with_store(entry, disk, suffix)


def _with_mode(entry: BackupDisk, since: str | None) -> BackupDisk:
    checkpoint = since if entry.incremental is None else entry.incremental
    mode: BackupMode = entry.backupmode or ("full" if checkpoint is None else "incremental")
    return replace(
        entry, backupmode=mode, incremental=checkpoint if mode == "incremental" else None
    )
