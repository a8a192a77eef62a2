"""The calls on the block job of one disk, while a backup runs and without one."""

from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from virtbackupd.drivers.enums import BlockJobType
from virtbackupd.drivers.errors import BlockCopyActive, InvalidArgument, OperationInvalid
from virtbackupd.drivers.interface import BlockJobInfo
from virtbackupd.drivers.jobs import DiskState
from virtbackupd.drivers.qemu import commit
from virtbackupd.drivers.qemu.commit import Commit
from virtbackupd.drivers.qemu.disk_jobs import _info
from virtbackupd.drivers.qemu.domain import QemuDomain

MIB = 1024 * 1024
PIVOT, ASYNC = 2, 1


@pytest.fixture
async def pulled(guest: QemuDomain, state_dir: Path) -> QemuDomain:
    """Two disks under a pull backup."""
    disks = "".join(
        f"<disk name='{disk}' type='file'><scratch file='{state_dir}/{disk}'/></disk>"
        for disk in ("vda", "vdb")
    )
    server = f"<server transport='unix' socket='{state_dir}/s'/>"
    text = f"<domainbackup mode='pull'>{server}<disks>{disks}</disks></domainbackup>"
    await guest.backup_begin(text, None, 0)
    return guest


async def test_without_a_job(guest: QemuDomain) -> None:
    assert await guest.get_block_job_info("vda", 0) == BlockJobInfo(0, 0, 0, 0, 0)
    with pytest.raises(InvalidArgument, match="no active block job"):
        await guest.block_job_set_speed("vda", 1, 0)
    with pytest.raises(InvalidArgument, match="no active block job"):
        await guest.block_job_abort("vda", 0)


async def test_a_backup_is_seen(pulled: QemuDomain) -> None:
    info = await pulled.get_block_job_info("vda", 0)
    assert (info.found, info.type, info.end) == (1, BlockJobType.BACKUP, 64 * MIB)
    assert (await pulled.get_block_job_info("vdc", 0)).found == 0


@pytest.mark.parametrize(
    ("offset", "length", "ready", "shown"),
    [
        (0, 0, False, (0, 1)),
        (0, 0, True, (1, 1)),
        (3, 9, False, (3, 9)),
        (9, 9, False, (8, 9)),
        (9, 9, True, (9, 9)),
    ],
)
def test_only_a_job_that_is_ready_looks_so(
    offset: int, length: int, ready: bool, shown: tuple[int, int]
) -> None:
    job = {"speed": 0, "offset": offset, "len": length, "ready": ready}
    info = _info(job, BlockJobType.ACTIVE_COMMIT, in_bytes=True)
    assert (info.cur, info.end) == shown


async def test_a_job_that_qemu_does_not_know_yet_is_at_its_beginning(guest: QemuDomain) -> None:
    commit.enter(guest, Commit("vda", "commit-vda", 0, 1))
    assert await guest.get_block_job_info("vda", 0) == (1, BlockJobType.ACTIVE_COMMIT, 0, 0, 1)


@pytest.mark.parametrize(("speed", "flags", "shown"), [(3, 0, 3), (5 * MIB, 1, 5)])
async def test_a_limit_is_set(pulled: QemuDomain, speed: int, flags: int, shown: int) -> None:
    await pulled.block_job_set_speed("vda", speed, flags)
    assert (await pulled.get_block_job_info("vda", 0)).bandwidth == shown


async def test_a_disk_that_is_found_ended_is_not_cancelled(pulled: QemuDomain) -> None:
    backup = pulled.backup
    assert backup is not None
    work = backup.works[0]
    async with trio.open_nursery() as nursery, backup._asking:
        nursery.start_soon(backup.cancel_disk, work)
        await wait_all_tasks_blocked()
        work.job.state = DiskState.COMPLETED
    assert work.job.state is DiskState.COMPLETED


async def test_the_end_of_one_disk_is_the_end_of_all(pulled: QemuDomain) -> None:
    await pulled.block_job_abort("vda", 0)
    assert (pulled.backup, pulled.jobs.job) == (None, None)


async def test_a_backup_has_nothing_to_pivot_to(pulled: QemuDomain) -> None:
    with pytest.raises(BlockCopyActive):
        await pulled.block_job_abort("vda", PIVOT)


async def test_an_end_is_asked_for_once(pulled: QemuDomain) -> None:
    backup = pulled.backup
    assert backup is not None
    await pulled.abort_job()
    with pytest.raises((OperationInvalid, InvalidArgument)):
        await pulled.block_job_abort("vda", ASYNC)
    await backup.over.wait()
