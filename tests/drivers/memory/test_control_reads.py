"""What NBD clients read of a disk, and whether it had changed: as a test asks for it."""

from pathlib import Path

import pytest
from controlling import control

from virtbackupd.drivers.errors import InvalidArgument
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.nbd_protocol import Command
from virtbackupd.drivers.memory.pull import PullBackup

CLUSTER = 65536


async def begun(guest: MemoryDomain, folder: Path, since: str = "") -> PullBackup:
    incremental = f"<incremental>{since}</incremental>" if since else ""
    await guest.backup_begin(
        f"<domainbackup mode='pull'>{incremental}"
        f"<server transport='unix' socket='{folder / 'nbd'}'/>"
        f"<disks><disk name='vda'><scratch file='{folder / 'scratch'}'/></disk></disks>"
        "</domainbackup>",
        None,
        0,
    )
    backup = guest.backup
    assert isinstance(backup, PullBackup)
    return backup


def read(backup: PullBackup, offset: int, length: int, command: Command = Command.READ) -> None:
    """As the NBD server tells of a request."""
    backup._requested(backup._exports[0], command, offset, length)


async def test_nothing_was_read_before_the_first_backup(guest: MemoryDomain) -> None:
    assert await control(guest, "nbd-reads", disk="vda") == {
        "count": 0,
        "bytes": 0,
        "ranges": [],
        "next": None,
        "complete": True,
    }


async def test_reads_are_shown_and_maps_are_none(guest: MemoryDomain, tmp_path: Path) -> None:
    backup = await begun(guest, tmp_path)
    read(backup, 0, 100)
    read(backup, 100, 50)
    read(backup, 0, CLUSTER, Command.BLOCK_STATUS)
    found = await control(guest, "nbd-reads", disk="vda")
    assert (found["count"], found["bytes"]) == (2, 150)
    assert found["ranges"] == [{"offset": 0, "length": 150}]


async def test_reads_outlast_the_backup_until_they_are_cleared(
    guest: MemoryDomain, tmp_path: Path
) -> None:
    read(await begun(guest, tmp_path), 0, 100)
    guest.abort_job()
    await control(guest, "nbd-reads-clear", disk="vdb")
    assert (await control(guest, "nbd-reads", disk="vda"))["count"] == 1
    await control(guest, "nbd-reads-clear")
    assert (await control(guest, "nbd-reads", disk="vda"))["count"] == 0


async def test_reads_of_what_had_not_changed_when_the_backup_began(
    guest: MemoryDomain, image: Image, tmp_path: Path
) -> None:
    image.bitmaps.add("unrelated")
    disks = "<disks><disk name='vda'/></disks>"
    guest.checkpoint_create_xml(f"<domaincheckpoint><name>c1</name>{disks}</domaincheckpoint>", 0)
    image.fill(CLUSTER, CLUSTER, 1)
    backup = await begun(guest, tmp_path, "c1")
    image.fill(0, CLUSTER, 1)
    read(backup, CLUSTER, CLUSTER)
    assert (await control(guest, "reads-outside-changes", disk="vda"))["bytes"] == 0
    read(backup, 0, 512)
    found = await control(guest, "reads-outside-changes", disk="vda")
    assert found["ranges"] == [{"offset": 0, "length": 512}]
    found = await control(guest, "reads-outside-changes", disk="vda", since="c1")
    assert found["ranges"] == []


async def test_a_full_backup_has_no_changes_to_stay_in(guest: MemoryDomain, tmp_path: Path) -> None:
    read(await begun(guest, tmp_path), 0, 100)
    with pytest.raises(InvalidArgument, match="name a checkpoint in since"):
        await control(guest, "reads-outside-changes", disk="vda")
