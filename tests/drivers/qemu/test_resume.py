"""What a new daemon makes of backups and checkpoints that another one was at work on."""

from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from documents import disk_element, domain_xml
from waiting import until

from virtbackupd.drivers.enums import JobType
from virtbackupd.drivers.events import DomainJobCompleted, Event
from virtbackupd.drivers.interface import DriverOptions
from virtbackupd.drivers.qemu import open_driver
from virtbackupd.drivers.qemu.bitmaps import query_images
from virtbackupd.drivers.qemu.domain import QemuDomain
from virtbackupd.drivers.qemu.driver import QemuDriver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MIB = 1024 * 1024
DISK_ONLY, ACTIVE, PIVOT = 16, 4, 2
CHECKPOINT = "<domaincheckpoint><name>c1</name></domaincheckpoint>"


@asynccontextmanager
async def daemon(state_dir: Path) -> "AsyncIterator[QemuDriver]":
    """A driver that is left without a farewell."""
    async with open_driver(DriverOptions(state_dir)) as driver:
        assert isinstance(driver, QemuDriver)
        yield driver


@asynccontextmanager
async def successor(state_dir: Path) -> "AsyncIterator[QemuDomain]":
    """The next driver's view of the guest, which ends with it."""
    async with daemon(state_dir) as driver:
        domain = guest_of(driver)
        yield domain
        if domain.active:
            await domain.destroy()


def guest_of(driver: QemuDriver) -> QemuDomain:
    return driver.domain_by_uuid(driver.domain_lookup_by_name("guest").uuid)


async def started(driver: QemuDriver, path: str) -> QemuDomain:
    await driver.domain_define_xml(
        domain_xml("guest", disk_element("vda", Path(path)), machine="q35")
    )
    guest = guest_of(driver)
    await guest.create()
    return guest


def pull(folder: Path) -> str:
    return (
        f"<domainbackup mode='pull'><server transport='unix' socket='{folder}/nbd.sock'/>"
        f"<disks><disk name='vda' type='file'><scratch file='{folder}/scratch'/></disk></disks>"
        "</domainbackup>"
    )


@pytest.fixture
def image(make_image: Callable[..., str]) -> str:
    return make_image("vda.qcow2")


async def test_a_backup_goes_on(state_dir: Path, image: str) -> None:
    async with daemon(state_dir) as driver:
        guest = await started(driver, image)
        await guest.backup_begin(pull(state_dir), CHECKPOINT, 0)
        before = guest.backup_get_xml_desc(0)
        elapsed = guest.jobs.info().time_elapsed
    async with successor(state_dir) as guest:
        assert guest.backup_get_xml_desc(0) == before
        assert (await guest.get_job_info()).time_elapsed >= elapsed
        assert (guest.checkpoints.current, len(guest.checkpoints)) == ("c1", 1)


async def test_sizes_are_known_though_a_backup_runs(state_dir: Path, image: str) -> None:
    async with daemon(state_dir) as driver:
        guest = await started(driver, image)
        await guest.backup_begin(pull(state_dir), None, 0)
    async with successor(state_dir) as guest:
        assert guest.require_run().capacities == {"vda": 64 * MIB}


async def test_a_backup_can_be_ended(state_dir: Path, image: str) -> None:
    async with daemon(state_dir) as driver:
        guest = await started(driver, image)
        await guest.backup_begin(pull(state_dir), None, 0)
    async with successor(state_dir) as guest:
        backup = guest.backup
        assert backup is not None
        await guest.abort_job()
        await backup.over.wait()
        assert (await guest.get_job_stats(1)).type == JobType.COMPLETED
        assert not (state_dir / "scratch").exists()


async def test_a_job_that_ended_meanwhile_is_reported(state_dir: Path, image: str) -> None:
    target = state_dir / "copy"
    async with daemon(state_dir) as driver:
        guest = await started(driver, image)
        text = f"<disks><disk name='vda' type='file'><target file='{target}'/></disk></disks>"
        await guest.backup_begin(f"<domainbackup>{text}</domainbackup>", None, 0)
    async with successor(state_dir) as guest:
        if guest.backup is not None:
            await guest.backup.over.wait()
        assert (await guest.get_job_stats(1)).type == JobType.COMPLETED
        assert target.exists()


async def test_a_backup_whose_qemu_died_is_over(state_dir: Path, image: str) -> None:
    async with daemon(state_dir) as driver:
        guest = await started(driver, image)
        await guest.backup_begin(pull(state_dir), None, 0)
        process = guest.require_run().process
    await process.end()
    await process.wait()
    async with successor(state_dir) as guest:
        assert not guest.active
        assert (await guest.get_job_stats(1)).type == JobType.CANCELLED
        assert not (state_dir / "scratch").exists()


async def test_the_event_reaches_who_connects_later(state_dir: Path, image: str) -> None:
    events: list[Event] = []
    async with daemon(state_dir) as driver:
        guest = await started(driver, image)
        await guest.backup_begin(pull(state_dir), None, 0)
    async with successor(state_dir) as guest:
        with guest.events.subscribed(events.append):
            backup = guest.backup
            assert backup is not None
            await guest.abort_job()
            await backup.over.wait()
        assert any(isinstance(event, DomainJobCompleted) for event in events)


async def test_a_commit_goes_on(state_dir: Path, image: str) -> None:
    async with daemon(state_dir) as driver:
        guest = await started(driver, image)
        await guest.checkpoint_create_xml(CHECKPOINT, 0)
        await guest.snapshot_create_xml("<domainsnapshot/>", DISK_ONLY)
        await guest.block_commit("vda", None, None, 0, ACTIVE)
    async with successor(state_dir) as guest:
        commit = guest.commits["vda"]
        await until(lambda: commit.ready)
        await guest.block_job_abort("vda", PIVOT)
        assert [layer.image.path for layer in guest.nodes.disks["vda"].layers] == [image]
        assert "size='0'" in await guest.checkpoint_get_xml_desc("c1", 4)


async def test_a_pending_checkpoint_is_undone(state_dir: Path, image: str) -> None:
    async with daemon(state_dir) as driver:
        guest = await started(driver, image)
        await guest.checkpoint_create_xml(CHECKPOINT, 0)
        folder = guest.checkpoint_files.folder
        (folder / "c1.xml").rename(folder / ".pending")
    async with successor(state_dir) as guest:
        images = await query_images(guest.monitor)
        assert (images.all(guest.nodes.disks["vda"].node or ""), len(guest.checkpoints)) == ([], 0)
        assert list(folder.iterdir()) == []


async def test_a_deletion_is_completed(state_dir: Path, image: str) -> None:
    async with daemon(state_dir) as driver:
        guest = await started(driver, image)
        await guest.checkpoint_create_xml(CHECKPOINT, 0)
        await guest.checkpoint_create_xml(CHECKPOINT.replace("c1", "c2"), 0)
        folder = guest.checkpoint_files.folder
        (folder / ".deleting").write_text("c1")
    async with successor(state_dir) as guest:
        assert sorted(guest.checkpoints) == ["c2"]
        assert guest.checkpoints.parent("c2") is None
        assert [path.name for path in folder.iterdir()] == ["c2.xml"]


async def test_a_backup_that_was_being_begun_is_undone(state_dir: Path, image: str) -> None:
    async with daemon(state_dir) as driver:
        guest = await started(driver, image)
        await guest.backup_begin(pull(state_dir), CHECKPOINT, 0)
        path = guest.status.path
        text = path.read_text().replace(
            "<backup ", "<backup beginning='yes' ", 1
        ).replace("<error", "<error", 1)  # fmt: skip
        checkpoint = "<checkpoint name='c1'><disk name='vda'/></checkpoint>"
        path.write_text(text.replace("</backup>", f"{checkpoint}</backup>", 1))
    async with successor(state_dir) as guest:
        images = await query_images(guest.monitor)
        assert len(images.names()) == 2
        assert images.all(guest.nodes.disks["vda"].node or "") == []
        assert (guest.jobs.job, guest.backup, len(guest.checkpoints)) == (None, None, 0)
        assert not (state_dir / "scratch").exists()
