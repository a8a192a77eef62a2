"""The oracle knows what changed, whatever became of the bitmaps."""

from pathlib import Path
from typing import Any

import pytest
from controlling import control, ranges

from virtbackupd.drivers.errors import InvalidArgument, NoDomainCheckpoint
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.image import Image

MIB = 1 << 20
CLUSTER = 65536


def checkpoint(guest: MemoryDomain, name: str) -> None:
    guest.checkpoint_create_xml(
        f"<domaincheckpoint><name>{name}</name><disks><disk name='vda'/></disks>"
        "</domaincheckpoint>",
        0,
    )


async def changed(guest: MemoryDomain, since: str, **arguments: Any) -> Any:  # noqa: ANN401 - JSON
    return await control(guest, "changed-ranges", disk="vda", since=since, **arguments)


async def test_changes_since_a_checkpoint(guest: MemoryDomain, image: Image) -> None:
    image.fill(0, MIB, 1)
    checkpoint(guest, "c1")
    image.fill(CLUSTER, 1, 2)
    image.fill(2 * CLUSTER, 1, 2)
    image.fill(MIB, 1, 2)
    assert await changed(guest, "c1") == {
        "bytes": 3 * CLUSTER,
        "ranges": ranges((CLUSTER, 2 * CLUSTER), (MIB, CLUSTER)),
        "next": None,
        "granularity": CLUSTER,
        "bitmap": "valid",
    }


async def test_changes_since_an_older_checkpoint_include_all_since(
    guest: MemoryDomain, image: Image
) -> None:
    checkpoint(guest, "c1")
    image.fill(0, 1, 2)
    checkpoint(guest, "c2")
    image.fill(MIB, 1, 2)
    assert (await changed(guest, "c1"))["ranges"] == ranges((0, CLUSTER), (MIB, CLUSTER))
    assert (await changed(guest, "c2"))["ranges"] == ranges((MIB, CLUSTER))


@pytest.mark.parametrize("command", ["bitmap-remove", "bitmap-inconsistent"])
async def test_a_damaged_bitmap_does_not_blind_the_oracle(
    guest: MemoryDomain, image: Image, command: str
) -> None:
    checkpoint(guest, "c1")
    image.fill(0, 1, 1)
    await control(guest, command, disk="vda", bitmap="c1")
    image.fill(CLUSTER, 1, 1)
    found = await changed(guest, "c1")
    assert found["ranges"] == ranges((0, 2 * CLUSTER))
    assert found["bitmap"] == {"bitmap-remove": "missing"}.get(command, "inconsistent")


async def test_many_ranges_come_in_pages(guest: MemoryDomain, image: Image) -> None:
    checkpoint(guest, "c1")
    for index in (0, 2, 4):
        image.fill(index * CLUSTER, 1, 1)
    first = await changed(guest, "c1", limit=2)
    assert first["ranges"] == ranges((0, CLUSTER), (2 * CLUSTER, CLUSTER))
    assert (first["next"], first["bytes"]) == (4 * CLUSTER, 3 * CLUSTER)
    rest = await changed(guest, "c1", limit=2, start=first["next"])
    assert (rest["ranges"], rest["next"]) == (ranges((4 * CLUSTER, CLUSTER)), None)


async def test_changes_before_a_shrink_are_cut(guest: MemoryDomain, image: Image) -> None:
    checkpoint(guest, "c1")
    image.fill(3 * MIB, MIB, 1)
    image.resize(3 * MIB + 1000)
    assert (await changed(guest, "c1"))["ranges"] == ranges((3 * MIB, 1000))


async def test_a_deleted_checkpoint_is_forgotten(guest: MemoryDomain, image: Image) -> None:
    checkpoint(guest, "c1")
    guest.checkpoint_delete("c1", 0)
    with pytest.raises(NoDomainCheckpoint):
        await changed(guest, "c1")
    assert image.bitmaps.shadow("c1") is None


async def test_a_disk_outside_the_checkpoint_has_no_known_changes(guest: MemoryDomain) -> None:
    checkpoint(guest, "c1")
    with pytest.raises(InvalidArgument, match="recorded no changes of that disk"):
        await control(guest, "changed-ranges", disk="vdb", since="c1")


async def test_lost_bitmaps_are_remembered_within_bounds(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtbackupd.drivers.memory.bitmap.MAX_LOST", 2)
    for name in ("a", "b", "c"):
        image.bitmaps.add(name)
        image.bitmaps.lose(name)
    assert [image.bitmaps.shadow(name) is None for name in ("a", "b", "c")] == [True, False, False]


async def test_a_world_put_back_knows_its_changes(guest: MemoryDomain, image: Image) -> None:
    checkpoint(guest, "c1")
    image.fill(0, 1, 1)
    image.bitmaps.lose("c1")
    await control(guest, "snapshot-take", name="s")
    image.fill(MIB, 1, 1)
    await control(guest, "snapshot-restore", name="s")
    assert (await changed(guest, "c1"))["ranges"] == ranges((0, CLUSTER))


async def test_a_saved_world_knows_its_changes(
    guest: MemoryDomain, image: Image, tmp_path: Path
) -> None:
    checkpoint(guest, "c1")
    image.fill(0, 1, 1)
    image.bitmaps.lose("c1")
    path = str(tmp_path / "world")
    await control(guest, "world-save", path=path)
    image.fill(MIB, 1, 1)
    await control(guest, "world-load", path=path)
    assert (await changed(guest, "c1"))["ranges"] == ranges((0, CLUSTER))
