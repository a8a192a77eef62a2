"""Beginning a backup as far as it is the same in every driver: what is checked, in which order, and
the names and numbers that are filled in.

What is moved, and how, is the driver's. Nothing here changes a domain.
"""

from collections.abc import Sized
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import NamedTuple, Protocol

import trio

from virtbackupd.drivers.checkpoint_rules import CheckpointDomain
from virtbackupd.drivers.clock import Clock
from virtbackupd.drivers.definitions.alignment import align_backup
from virtbackupd.drivers.definitions.backup import (
    BackupDefinition,
    BackupDisk,
    format_backup,
    parse_backup,
)
from virtbackupd.drivers.definitions.checkpoint import CheckpointDefinition, parse_checkpoint
from virtbackupd.drivers.errors import (
    ConfigUnsupported,
    InternalError,
    InvalidArgument,
    NoDomainBackup,
    OperationInvalid,
    OperationUnsupported,
    Origin,
    SystemFailure,
    UnsupportedFlags,
)
from virtbackupd.drivers.flags import BACKUP_BEGIN, check_none
from virtbackupd.drivers.jobs import BackupJob, DiskState

_MAX_PORT = 65535
_POSTCOPY = 1
_MAX_EXPORT_NAME = 4096
"""Bytes in a string of the NBD protocol."""
_MAX_BITMAP_NAME = 1023
"""Bytes that QEMU allows."""
WAIT_FOR_END = 30.0
"""Seconds that libvirt waits for a job that is ending."""


class RunningBackup(Protocol):
    """What is asked of a backup that runs."""

    definition: BackupDefinition
    job: BackupJob
    over: trio.Event


class Documents(NamedTuple):
    """What the caller of `virDomainBackupBegin` has sent."""

    backup: BackupDefinition
    checkpoint: CheckpointDefinition | None
    suffix: str
    """Ends the names of generated files."""


def parse(backup_xml: str, checkpoint_xml: str | None, flags: int, now: int) -> Documents:
    """Flags first, then both documents; `now` is in seconds."""
    BACKUP_BEGIN.check(flags)
    backup = parse_backup(backup_xml)
    if checkpoint_xml is None:
        return Documents(backup, None, str(now))
    checkpoint = parse_checkpoint(checkpoint_xml, redefine=False, now=now)
    return Documents(backup, checkpoint, checkpoint.name)


async def previous_end(backup: RunningBackup | None, clock: Clock | None = None) -> None:
    """Let a backup that is ending get there: an abort does not wait for its end."""
    if backup is not None and not backup.job.in_state(DiskState.RUNNING):
        with (clock or Clock()).deadline(WAIT_FOR_END, "end of the previous backup"):
            await backup.over.wait()


def align(
    domain: CheckpointDomain, documents: Documents, *, tls_available: bool, any_port: bool = False
) -> BackupDefinition:
    """The backup with every disk of the domain in it; `any_port`: one is chosen where none is."""
    if not domain.active:
        raise OperationUnsupported(
            f"domain {domain.ref.name} is not running, only running domains can be backed up"
        )
    aligned = align_backup(documents.backup, domain.definition, suffix=documents.suffix)
    if aligned.pull:
        check_server(aligned, tls_available=tls_available, any_port=any_port)
    return aligned


def check_server(
    definition: BackupDefinition, *, tls_available: bool, any_port: bool = False
) -> None:
    """What is refused before anything is prepared."""
    server = definition.server
    if server is None:
        raise InternalError("a pull backup needs a <server>")
    if server.transport == "tcp" and not (server.port or any_port):
        raise OperationUnsupported("a TCP server needs a port: none is chosen automatically")
    if server.port > _MAX_PORT:
        raise InvalidArgument(
            f"there is no TCP port {server.port}, the last one is {_MAX_PORT}", origin=Origin.NONE
        )
    if server.transport == "fd":
        raise InvalidArgument(
            f"the file descriptor group {server.fdgroup!r} is unknown: no client can pass one here"
        )
    if server.transport not in ("tcp", "unix"):
        raise InternalError(f"an NBD server cannot use the transport {server.transport!r}")
    if server.tls and not tls_available:
        raise InternalError(
            "TLS for backups needs a certificate directory, none is configured or there: see"
            " backup_tls_x509_cert_dir"
        )


def numbered(definition: BackupDefinition, used: int) -> BackupDefinition:
    """Give each store the number by which thresholds and statistics name it."""
    numbers = count(used + 1)
    disks = definition.disks or ()
    return replace(
        definition,
        disks=tuple(replace(d, index=next(numbers)) if d.backup else d for d in disks),
    )


def require_any(selected: Sized, domain: CheckpointDomain) -> None:
    if not len(selected):
        raise ConfigUnsupported(f"no disk of domain {domain.ref.name} is selected for the backup")


def with_exports(definition: BackupDefinition) -> BackupDefinition:
    """Fill in the names that a client of the NBD server uses; they must differ and fit."""
    disks = tuple(_with_export(disk) if disk.backup else disk for disk in definition.disks or ())
    named = replace(definition, disks=disks)
    _require_usable(named)
    return named


def _with_export(disk: BackupDisk) -> BackupDisk:
    bitmap = disk.exportbitmap
    if disk.backupmode == "incremental" and bitmap is None:
        bitmap = f"backup-{disk.name}"
    return replace(disk, exportname=disk.export, exportbitmap=bitmap)


def _require_usable(definition: BackupDefinition) -> None:
    names: set[str] = set()
    for entry in definition.selected:
        name = entry.export
        if name in names:
            raise InternalError(f"two disks are exported under the name {name!r}, change one")
        if len(name.encode()) > _MAX_EXPORT_NAME:
            raise InternalError(
                f"the export name of disk {entry.name} is too long for NBD: at most "
                f"{_MAX_EXPORT_NAME} bytes"
            )
        names.add(name)
        if entry.backupmode == "incremental":
            _require_bitmap_name(entry)


def _require_bitmap_name(entry: BackupDisk) -> None:
    length = len((entry.exportbitmap or "").encode())
    if not 0 < length <= _MAX_BITMAP_NAME:
        raise InternalError(
            f"the exportbitmap of disk {entry.name} has {length} bytes, the name of a bitmap has"
            f" 1 to {_MAX_BITMAP_NAME}"
        )


def describe(domain: CheckpointDomain, backup: RunningBackup | None, flags: int) -> str:
    """The running backup with all that was filled in."""
    check_none(flags, "virDomainBackupGetXMLDesc")
    if backup is None:
        raise NoDomainBackup(f"domain {domain.ref.name} has no running backup")
    return format_backup(backup.definition)


def check_abort_flags(domain: CheckpointDomain, flags: int) -> None:
    if flags & ~_POSTCOPY:
        raise UnsupportedFlags(f"unsupported flags 0x{flags:x} in virDomainAbortJobFlags")
    if flags & _POSTCOPY:
        raise OperationInvalid(f"no migration of domain {domain.ref.name} is in post-copy mode")


def file_exists(path: str) -> InvalidArgument:
    """What is in the way of a new scratch file or target."""
    return InvalidArgument(
        f"{path} exists already: remove it, or pass VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL"
    )


def require_present(path: str) -> None:
    """Refuse a file or device that was to be used as it is, and is not there. Blocks."""
    try:
        Path(path).stat()
    except OSError as error:
        raise SystemFailure(
            f"cannot use {path}: {error.strerror}", origin=Origin.SECURITY
        ) from None


def nothing_to_abort(domain: CheckpointDomain) -> OperationInvalid:
    return OperationInvalid(f"domain {domain.ref.name} has no job that could be aborted")
