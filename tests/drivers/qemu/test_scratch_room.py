"""Writes of a guest that fail for want of room while a pull runs: whose room it was decides.

QEMU's event is made up here, because only a guest can cause it.
"""

import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from tiny_disk import mounted_tiny_disk

from virtbackupd.drivers.enums import DomainState, JobType, PausedReason
from virtbackupd.drivers.interface import DriverOptions, JobStats
from virtbackupd.drivers.jobs import DiskState
from virtbackupd.drivers.qemu import open_driver, scratch_room
from virtbackupd.drivers.qemu.domain import QemuDomain
from virtbackupd.drivers.qemu.driver import QemuDriver
from virtbackupd.drivers.qemu.running import QemuBackup

MIB = 1 << 20
XML = """<domain type='qemu'><name>kept</name><memory unit='MiB'>32</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><disk type='file'><driver name='qemu' type='qcow2'/><source file='{path}'/>
<target dev='vda' bus='virtio'/></disk></devices></domain>"""


@pytest.fixture
def tiny(state_dir: Path) -> Iterator[Path]:
    """A file system on which a scratch file has next to no room."""
    with mounted_tiny_disk(state_dir) as path:
        yield path


async def begin(guest: QemuDomain, socket: Path, **scratch: Path) -> QemuBackup:
    """A pull of disks whose scratch files are in these folders."""
    disks = "".join(
        f"<disk name='{disk}'><scratch file='{folder}/{disk}.scratch'/></disk>"
        for disk, folder in scratch.items()
    )
    server = f"<server transport='unix' socket='{socket}/nbd.sock'/>"
    xml = f"<domainbackup mode='pull'>{server}<disks>{disks}</disks></domainbackup>"
    await guest.backup_begin(xml, None, 0)
    assert guest.backup is not None
    return guest.backup


def fail_write(guest: QemuDomain, *, nospace: bool = True, action: str = "report") -> None:
    data = {"device": "", "operation": "write", "action": action, "nospace": nospace}
    guest.dispatch_event("BLOCK_IO_ERROR", data, 0)


async def pause_on_failed_write(guest: QemuDomain) -> None:
    fail_write(guest, action="stop")
    await guest.monitor.execute("stop")


async def ended(guest: QemuDomain, backup: QemuBackup) -> JobStats:
    with trio.fail_after(60):
        await backup.over.wait()
    return await guest.get_job_stats(1)


async def looked(backup: QemuBackup) -> None:
    """Return when it has been found out whose room it was, and all is done that follows."""
    with trio.fail_after(60):
        while backup.room_in_doubt:
            await trio.lowlevel.checkpoint()


async def test_scratch_without_room_fails_the_job(
    guest: QemuDomain, state_dir: Path, tiny: Path
) -> None:
    backup = await begin(guest, state_dir, vda=tiny)
    fail_write(guest)
    stats = await ended(guest, backup)
    assert stats.type == JobType.FAILED
    assert ("success", 0) in [(each.field, each.value) for each in stats.params]
    assert stats.params[-1].value == "No space left on device"
    assert os.listdir(tiny) == []  # noqa: PTH208 - a memory file system


async def test_other_disks_are_cancelled(guest: QemuDomain, state_dir: Path, tiny: Path) -> None:
    backup = await begin(guest, state_dir, vda=state_dir, vdb=tiny)
    fail_write(guest)
    assert (await ended(guest, backup)).params[-1].value == "No space left on device"
    assert backup.job.disks["vda"].state is DiskState.CANCELLED
    assert backup.job.disks["vdb"].state is DiskState.FAILED


async def test_a_paused_guest_goes_on(guest: QemuDomain, state_dir: Path, tiny: Path) -> None:
    backup = await begin(guest, state_dir, vda=tiny)
    resumed = trio.Event()
    guest.on_event("RESUME", lambda _: resumed.set())
    await pause_on_failed_write(guest)
    with trio.fail_after(60):
        await resumed.wait()
    assert guest.state == DomainState.RUNNING
    assert backup.over.is_set()


async def test_a_guest_that_somebody_else_paused_stays_so(
    guest: QemuDomain, state_dir: Path, tiny: Path
) -> None:
    backup = await begin(guest, state_dir, vda=tiny)
    await guest.suspend()
    fail_write(guest)
    await looked(backup)
    assert backup.over.is_set()
    assert guest.get_state(0) == (DomainState.PAUSED, PausedReason.USER)


async def test_a_full_disk_of_the_guest_is_no_matter_of_the_backup(
    guest: QemuDomain, state_dir: Path
) -> None:
    backup = await begin(guest, state_dir, vda=state_dir)
    await pause_on_failed_write(guest)
    await looked(backup)
    assert guest.get_state(0) == (DomainState.PAUSED, PausedReason.IOERROR)
    assert not backup.over.is_set()


def on_device(backup: QemuBackup, folder: Path, length: int) -> None:
    """Let the scratch image of the one disk seem to be on a device of this length."""
    device = folder / "device"
    device.touch()
    os.truncate(device, length)
    [work] = backup.works
    image = work.layer.image._replace(type="block", path=str(device))
    work.layer = replace(work.layer, image=image)


async def test_a_device_that_is_written_to_its_end_has_no_room(
    guest: QemuDomain, state_dir: Path, qemu_io: Callable[[str, str], Awaitable[None]]
) -> None:
    await qemu_io("vda", "write -q 0 4M")
    backup = await begin(guest, state_dir, vda=state_dir)
    on_device(backup, state_dir, 8 * MIB)
    await qemu_io("vda", "write -q 0 4M")
    fail_write(guest)
    assert (await ended(guest, backup)).params[-1].value == "No space left on device"


async def test_a_device_that_has_room_is_not_to_blame(guest: QemuDomain, state_dir: Path) -> None:
    backup = await begin(guest, state_dir, vda=state_dir)
    on_device(backup, state_dir, 8 * MIB)
    await pause_on_failed_write(guest)
    await looked(backup)
    assert not backup.over.is_set()


async def test_an_error_that_was_missed_is_seen_to(
    guest: QemuDomain, state_dir: Path, tiny: Path
) -> None:
    backup = await begin(guest, state_dir, vda=tiny)
    await guest.monitor.execute("stop")
    guest.enter(DomainState.PAUSED, PausedReason.IOERROR)
    scratch_room.look_if_paused(guest, backup)
    assert (await ended(guest, backup)).type == JobType.FAILED


@pytest.mark.parametrize("noted", [False, True])
async def test_a_restarted_daemon_sees_to_it(
    make_image: Callable[..., str], state_dir: Path, tiny: Path, *, noted: bool
) -> None:
    async with open_driver(DriverOptions(state_dir)) as driver:
        assert isinstance(driver, QemuDriver)
        ref = await driver.domain_create_xml(XML.format(path=make_image("a.qcow2")), 0)
        guest = driver.domain_by_uuid(ref.uuid)
        backup = await begin(guest, state_dir, vda=tiny)
        await guest.monitor.execute("stop")
        guest.enter(DomainState.PAUSED, PausedReason.IOERROR)
        if noted:
            backup.job.doom(backup.job.disks["vda"], "no room")
        await guest.save_status()
    async with open_driver(DriverOptions(state_dir)) as driver:
        assert isinstance(driver, QemuDriver)
        guest = driver.domain_by_uuid(ref.uuid)
        with trio.fail_after(60):
            while guest.backup is not None or guest.state != DomainState.RUNNING:
                await trio.lowlevel.checkpoint()
        assert (await guest.get_job_stats(1)).type == JobType.FAILED
        await guest.destroy()


async def test_other_errors_are_no_matter_of_the_backup(
    guest: QemuDomain, state_dir: Path, tiny: Path
) -> None:
    backup = await begin(guest, state_dir, vda=tiny)
    fail_write(guest, nospace=False)
    assert not backup.room_in_doubt
