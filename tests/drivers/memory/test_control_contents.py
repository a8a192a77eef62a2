"""Comparing restored images with disks as they are, and as they were at instants with a name."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import trio
from controlling import control, ranges

from virtbackupd.drivers.errors import InternalError, InvalidArgument, OperationFailed
from virtbackupd.drivers.memory import disk_marks
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.image import Image

MIB = 1 << 20


async def compare(guest: MemoryDomain, path: Path, **arguments: Any) -> Any:  # noqa: ANN401 - JSON
    return await control(guest, "compare", disk="vda", path=str(path), **arguments)


async def test_an_equal_image(guest: MemoryDomain, image: Image, tmp_path: Path) -> None:
    image.fill(MIB, 5000, 3)
    path = tmp_path / "restored"
    path.write_bytes(image.read(0, image.capacity))
    assert await compare(guest, path) == {
        "identical": True,
        "bytes": 0,
        "count": 0,
        "differences": [],
        "granularity": 512,
        "size": {"disk": 4 * MIB, "image": 4 * MIB},
    }


async def test_a_lost_sector_is_found(guest: MemoryDomain, image: Image, tmp_path: Path) -> None:
    image.fill(MIB, 5000, 3)
    data = bytearray(image.read(0, image.capacity))
    data[MIB + 600] ^= 1
    data[2 * MIB : 2 * MIB + 1024] = b"x" * 1024
    path = tmp_path / "restored"
    path.write_bytes(data)
    found = await compare(guest, path, limit=1)
    assert (found["identical"], found["bytes"], found["count"]) == (False, 1536, 2)
    assert found["differences"] == ranges((MIB + 512, 512))


async def test_qcow2_on_a_backing_file(guest: MemoryDomain, image: Image, tmp_path: Path) -> None:
    image.fill(0, MIB, 3)
    (tmp_path / "full.raw").write_bytes(image.read(0, image.capacity))
    image.fill(MIB, 10, 4)
    make = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "full.raw", "-F", "raw", "inc.qcow2"]
    await trio.run_process(make, cwd=tmp_path)
    write = ["qemu-io", "-c", "write -P 4 1M 10", "inc.qcow2"]
    await trio.run_process(write, cwd=tmp_path, capture_stdout=True)
    assert (await compare(guest, tmp_path / "inc.qcow2"))["identical"]
    assert not (await compare(guest, tmp_path / "full.raw"))["identical"]


async def test_an_image_of_another_size_differs(guest: MemoryDomain, tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(bytes(MIB))
    found = await compare(guest, path)
    assert found["differences"] == ranges((MIB, 3 * MIB))


async def test_a_mark_keeps_the_disk_as_it_was(
    guest: MemoryDomain, image: Image, tmp_path: Path
) -> None:
    image.fill(0, 10, 1)
    path = tmp_path / "restored"
    path.write_bytes(image.read(0, image.capacity))
    assert await control(guest, "disk-mark", name="then") == {"disks": ["vda", "vdb"]}
    image.fill(0, 10, 2)
    assert (await compare(guest, path, mark="then"))["identical"]
    assert not (await compare(guest, path))["identical"]


async def test_a_mark_at_the_next_backup(guest: MemoryDomain, image: Image, tmp_path: Path) -> None:
    await control(guest, "disk-mark", name="b", disks=["vda"], at="next-backup")
    assert await control(guest, "disk-marks") == {"marks": [], "awaited": ["b"]}
    image.fill(0, 10, 1)
    target = tmp_path / "target"
    disk = f"<disk name='vda' type='file'><target file='{target}'/><driver type='raw'/></disk>"
    await guest.backup_begin(f"<domainbackup><disks>{disk}</disks></domainbackup>", None, 0)
    image.fill(0, 10, 2)
    backup = guest.backup
    assert backup is not None
    await backup.over.wait()
    assert await control(guest, "disk-marks") == {"marks": ["b"], "awaited": []}
    assert (await compare(guest, target, mark="b", format="raw"))["identical"]


async def test_marks_are_dropped(guest: MemoryDomain, tmp_path: Path) -> None:
    await control(guest, "disk-mark", name="a")
    await control(guest, "disk-mark-drop", name="a")
    with pytest.raises(InvalidArgument, match="no mark 'a'"):
        await control(guest, "disk-mark-drop", name="a")


async def test_a_mark_needs_a_name_of_its_own(guest: MemoryDomain) -> None:
    await control(guest, "disk-mark", name="a", at="next-backup")
    with pytest.raises(OperationFailed, match="a mark 'a' already"):
        await control(guest, "disk-mark", name="a")


async def test_marks_are_bounded(guest: MemoryDomain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_marks, "MAX_MARKS", 1)
    await control(guest, "disk-mark", name="a")
    with pytest.raises(OperationFailed, match="1 marks already"):
        await control(guest, "disk-mark", name="b")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"path": "here"}, "begin with a /"),
        ({"path": "/nonexistent/image"}, "no file with contents"),
        ({"path": "/dev/zero"}, "no file with contents"),
        ({"path": "/etc/passwd", "format": "vmdk"}, "vmdk"),
        ({"path": "/etc/passwd", "mark": "m"}, "known are: none"),
    ],
)
async def test_what_cannot_be_compared(
    guest: MemoryDomain, arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        await control(guest, "compare", disk="vda", **arguments)


async def test_a_file_that_is_no_image_of_its_format(guest: MemoryDomain, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"not qcow2")
    with pytest.raises(InternalError, match="not a qcow2 image"):
        await compare(guest, tmp_path / "x", format="qcow2")


async def test_a_mark_without_the_disk(guest: MemoryDomain) -> None:
    await control(guest, "disk-mark", name="m", disks=["vdb"])
    with pytest.raises(InvalidArgument, match="does not hold disk vda, but: vdb"):
        await control(guest, "checksum", disk="vda", mark="m")


async def test_the_checksum_is_that_of_a_raw_image(guest: MemoryDomain, image: Image) -> None:
    image.fill(MIB - 7, 14, 9)
    whole = image.read(0, image.capacity)
    assert await control(guest, "checksum", disk="vda") == {
        "sha256": hashlib.sha256(whole).hexdigest(),
        "bytes": 4 * MIB,
    }


async def test_the_checksum_of_a_part_at_a_mark(guest: MemoryDomain, image: Image) -> None:
    image.fill(0, 100, 9)
    await control(guest, "disk-mark", name="m")
    image.fill(0, 100, 8)
    found = await control(guest, "checksum", disk="vda", offset=10, length=20, mark="m")
    assert found["sha256"] == hashlib.sha256(b"\t" * 20).hexdigest()


async def test_the_checksum_ends_with_the_disk(guest: MemoryDomain) -> None:
    with pytest.raises(InvalidArgument, match="ends at byte"):
        await control(guest, "checksum", disk="vda", offset=1, length=4 * MIB)
