"""Push backups of domains of QEMU's: the targets are compared with the disks."""

import json
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from virtbackupd.drivers.enums import JobType
from virtbackupd.drivers.errors import DriverError, OperationInvalid
from virtbackupd.drivers.interface import JobStats
from virtbackupd.drivers.qemu.bitmaps import query_images
from virtbackupd.drivers.qemu.domain import QemuDomain

QemuIo = Callable[[str, str], Awaitable[None]]
MIB = 1024 * 1024
CHECKPOINT = "<domaincheckpoint><name>c1</name><disks><disk name='vda'/></disks></domaincheckpoint>"


def push(target: str, disk: str = "vda", kind: str = "qcow2", since: str = "") -> str:
    start = f"<incremental>{since}</incremental>" if since else ""
    return (
        f"<domainbackup>{start}<disks><disk name='{disk}' type='file'><target file='{target}'/>"
        f"<driver type='{kind}'/></disk></disks></domainbackup>"
    )


async def run(guest: QemuDomain, document: str, checkpoint: str | None = None) -> JobStats:
    """Begin, and wait for the end."""
    await guest.backup_begin(document, checkpoint, 0)
    if guest.backup is not None:
        await guest.backup.over.wait()
    return await guest.get_job_stats(1)


def values(stats: JobStats) -> dict[str, int | float | str]:
    return {param.field: param.value for param in stats.params}


def same(one: str, other: str) -> bool:
    command = ["qemu-img", "compare", "-U", one, other]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def path_of(guest: QemuDomain, disk: str) -> str:
    found = guest.definition.find_disk(disk)
    assert found is not None
    return found.source or ""


@pytest.mark.parametrize("kind", ["qcow2", "raw", "qed", "vmdk", "vdi"])
async def test_a_full_copy_is_the_disk(
    guest: QemuDomain, qemu_io: QemuIo, tmp_path: Path, kind: str
) -> None:
    await qemu_io("vda", "write -P 7 1M 300k")
    target = str(tmp_path / "copy")
    stats = await run(guest, push(target, kind=kind))
    assert stats.type == JobType.COMPLETED
    await guest.destroy()
    assert same(path_of(guest, "vda"), target)


async def test_an_increment_stands_on_the_disk(
    guest: QemuDomain, qemu_io: QemuIo, tmp_path: Path
) -> None:
    full, part = str(tmp_path / "full"), str(tmp_path / "part")
    await run(guest, push(full), CHECKPOINT)
    await qemu_io("vda", "write -P 3 2M 64k")
    stats = await run(guest, push(part, since="c1"))
    assert values(stats)["disk_total"] == 65536
    await guest.destroy()
    await trio.run_process(["qemu-img", "rebase", "-u", "-F", "qcow2", "-b", full, part])
    assert same(path_of(guest, "vda"), part)


async def test_an_increment_to_raw_holds_what_is_new(
    guest: QemuDomain, qemu_io: QemuIo, tmp_path: Path
) -> None:
    await guest.checkpoint_create_xml(CHECKPOINT, 0)
    await qemu_io("vda", "write -P 3 2M 64k")
    target = tmp_path / "part"
    await run(guest, push(str(target), kind="raw", since="c1"))
    data = target.read_bytes()
    assert (len(data), data.count(3), data.count(0)) == (64 * MIB, 65536, 64 * MIB - 65536)


async def test_an_increment_without_changes_has_no_figures(
    guest: QemuDomain, tmp_path: Path
) -> None:
    await guest.checkpoint_create_xml(CHECKPOINT, 0)
    stats = await run(guest, push(str(tmp_path / "part"), since="c1"))
    assert set(values(stats)) == {"operation", "time_elapsed", "success"}


async def test_the_temporary_bitmap_goes(guest: QemuDomain, tmp_path: Path) -> None:
    await guest.checkpoint_create_xml(CHECKPOINT, 0)
    await run(guest, push(str(tmp_path / "part"), since="c1"))
    images = await query_images(guest.monitor)
    assert [bitmap.name for bitmap in images.all(guest.nodes.disks["vda"].node or "")] == ["c1"]


async def test_raw_disks_are_copied_to_qcow2(guest: QemuDomain, tmp_path: Path) -> None:
    await run(guest, push(str(tmp_path / "copy"), disk="vdc"))
    await guest.destroy()
    assert same(path_of(guest, "vdc"), str(tmp_path / "copy"))


async def test_a_disk_that_has_grown(guest: QemuDomain, tmp_path: Path) -> None:
    await run(guest, push(str(tmp_path / "small"), kind="raw"))
    await guest.block_resize("vda", 80 * MIB, 1)
    await run(guest, push(str(tmp_path / "large"), kind="raw"))
    found = await trio.Path(tmp_path / "large").stat()
    assert found.st_size == 80 * MIB


async def test_a_disk_that_has_grown_by_the_monitor(guest: QemuDomain, tmp_path: Path) -> None:
    await run(guest, push(str(tmp_path / "small"), kind="raw"))
    node = guest.nodes.disks["vda"].node
    command = {"execute": "block_resize", "arguments": {"node-name": node, "size": 80 * MIB}}
    await guest.monitor_command(json.dumps(command), 0)
    await run(guest, push(str(tmp_path / "large"), kind="raw"))
    found = await trio.Path(tmp_path / "large").stat()
    assert found.st_size == 80 * MIB


async def test_new_images_are_sound(guest: QemuDomain, tmp_path: Path) -> None:
    await run(guest, push(str(tmp_path / "copy")))
    await trio.run_process(["qemu-img", "check", "-q", str(tmp_path / "copy")])


async def test_an_aborted_copy_is_removed(guest: QemuDomain, tmp_path: Path) -> None:
    await guest.backup_begin(push(str(tmp_path / "copy")), None, 0)
    backup = guest.backup
    assert backup is not None
    await guest.abort_job()
    await backup.over.wait()
    stats = await guest.get_job_stats(1)
    if stats.type == JobType.CANCELLED:
        assert not (tmp_path / "copy").exists()


async def test_a_full_target_fails_the_job(guest: QemuDomain, qemu_io: QemuIo) -> None:
    await qemu_io("vda", "write -P 7 0 1M")
    text = push("/dev/full", kind="raw").replace("type='file'", "type='block'").replace(
        "target file", "target dev"
    )  # fmt: skip
    with pytest.raises(DriverError):
        await run(guest, text)
    assert guest.jobs.job is None


async def test_a_format_that_cannot_be_written(guest: QemuDomain, tmp_path: Path) -> None:
    with pytest.raises(DriverError):
        await run(guest, push(str(tmp_path / "copy"), kind="dmg"))
    assert not (tmp_path / "copy").exists()
    with pytest.raises(OperationInvalid):
        await guest.abort_job()
