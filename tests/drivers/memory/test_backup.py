"""Beginning backups while other things happen: races, cancellation, and the instant itself."""

from pathlib import Path

import pytest
import trio
import trio.testing

from virtbackupd.drivers.errors import DriverError, OperationInvalid, OperationTimeout
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.pull import PullBackup

NEW = "<domaincheckpoint><name>new</name><disks><disk name='vda'/></disks></domaincheckpoint>"


@pytest.fixture
def request_xml(tmp_path: Path) -> str:
    """A pull backup of vda with a scratch file of its own."""
    disk = f"<disk name='vda'><scratch file='{tmp_path / 'scratch'}'/></disk>"
    server = f"<server transport='unix' socket='{tmp_path / 'nbd'}'/>"
    return f"<domainbackup mode='pull'>{server}<disks>{disk}</disks></domainbackup>"


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def begun(guest: MemoryDomain, xml: str, outcomes: list[type[DriverError] | None]) -> None:
    try:
        await guest.backup_begin(xml, None, 0)
        outcomes.append(None)
    except DriverError as error:
        outcomes.append(type(error))


async def test_two_clients_race(guest: MemoryDomain, request_xml: str) -> None:
    outcomes: list[type[DriverError] | None] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(begun, guest, request_xml, outcomes)
        nursery.start_soon(begun, guest, request_xml, outcomes)
    assert sorted(map(str, outcomes)) == sorted(map(str, [None, OperationTimeout]))


async def test_domain_stops_during_preparation(
    guest: MemoryDomain, request_xml: str, tmp_path: Path
) -> None:
    outcomes: list[type[DriverError] | None] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(begun, guest, request_xml, outcomes)
        await preparing(guest)
        guest.destroy()
    assert outcomes == [OperationInvalid]
    assert not files(tmp_path)
    assert guest.jobs.job is None


async def preparing(guest: MemoryDomain) -> None:
    with trio.fail_after(60):
        while guest.jobs.job is None:
            await trio.lowlevel.checkpoint()


async def test_caller_gives_up_during_preparation(
    guest: MemoryDomain, request_xml: str, tmp_path: Path
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(guest.backup_begin, request_xml, NEW, 0)
        await preparing(guest)
        nursery.cancel_scope.cancel()
    assert not files(tmp_path)
    assert guest.jobs.job is None
    assert guest.list_all_checkpoints(0) == []


async def test_disk_is_not_resized_during_preparation(
    guest: MemoryDomain, request_xml: str
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(guest.backup_begin, request_xml, None, 0)
        await preparing(guest)
        with pytest.raises(DriverError, match="in use"):
            guest.block_resize("vda", 8192, 0)


async def test_begin_waits_for_the_end_of_the_one_before(
    guest: MemoryDomain, request_xml: str
) -> None:
    await guest.backup_begin(request_xml, None, 0)
    first = guest.backup
    guest.abort_job()
    assert guest.backup is first
    await guest.backup_begin(request_xml, None, 0)
    assert guest.backup is not first


async def test_scratch_that_runs_out_fails_the_job(guest: MemoryDomain, request_xml: str) -> None:
    guest.monitor_command('qemu-io vda "write 0 1M"', 1)
    await guest.backup_begin(request_xml, None, 0)
    backup, image = guest.backup, guest.disk_image("vda")
    assert backup is not None
    assert image is not None
    for view in list(image._frozen):
        view.preserve_limit = 65536
    guest.monitor_command('qemu-io vda "write 0 256k"', 1)
    with trio.fail_after(60):
        await backup.over.wait()
    assert guest.get_job_stats(1).type == 4


async def test_fault_of_ours_ends_only_the_backup(
    guest: MemoryDomain,
    request_xml: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(self: PullBackup) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(PullBackup, "run", broken)
    await guest.backup_begin(request_xml, None, 0)
    await trio.testing.wait_all_tasks_blocked()
    assert guest.get_job_stats(1).type == 4
    assert guest.is_active() == 1
    assert "broke down" in caplog.text
