"""A whole backup program in a few lines: libvirt-python for control, NBD for data, files as target.

It copies what a full backup has allocated, or what the bitmap of an incremental one marks.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import libvirt
from nbd_client import ALLOCATION, nbd_client

HOLE, DIRTY = 1, 1
FULL = """\
<domainbackup mode='pull'>{since}<server transport='unix' socket='{socket}'/>
<disks>{disks}</disks></domainbackup>"""
DISK = "<disk name='{disk}' type='file'><scratch file='{folder}/{disk}.scratch'/></disk>"
CHECKPOINT = "<domaincheckpoint><name>{name}</name></domaincheckpoint>"


def back_up(
    domain: libvirt.virDomain,
    folder: Path,
    disks: Sequence[str],
    checkpoint: str,
    since: str | None = None,
) -> None:
    """Bring `folder/DISK.raw` up to now, and leave a checkpoint to continue from."""
    address = folder / "nbd"
    document = FULL.format(
        since=f"<incremental>{since}</incremental>" if since else "",
        socket=address,
        disks="".join(DISK.format(disk=disk, folder=folder) for disk in disks),
    )
    domain.backupBegin(document, CHECKPOINT.format(name=checkpoint))
    try:
        for disk in disks:
            _copy(address, disk, folder / f"{disk}.raw", changed_only=since is not None)
    finally:
        domain.abortJob()


def _copy(address: Path, disk: str, target: Path, *, changed_only: bool) -> None:
    context = f"qemu:dirty-bitmap:backup-{disk}" if changed_only else ALLOCATION
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with nbd_client(address, disk, context) as client:
            os.ftruncate(descriptor, client.size)
            for extent in client.extents():
                wanted = extent.flags & DIRTY if changed_only else not extent.flags & HOLE
                if wanted:
                    os.pwrite(descriptor, client.read(extent.offset, extent.length), extent.offset)
    finally:
        os.close(descriptor)
