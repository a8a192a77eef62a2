"""Bitmaps behind checkpoints: broken ones, and chains over several images."""

import pytest

from virtbackupd.drivers.errors import CheckpointInconsistent, InternalError
from virtbackupd.drivers.memory.checkpoint import bitmap_chain, require_chain
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.image import Image

MIB = 1 << 20
SIZE, METADATA_ONLY = 4, 2
REDEFINE_AND_VALIDATE = 1 | 4
ON_VDA = "<disks><disk name='vda'/></disks>"


def create(guest: MemoryDomain, name: str) -> None:
    guest.checkpoint_create_xml(
        f"<domaincheckpoint><name>{name}</name>{ON_VDA}</domaincheckpoint>", 0
    )


def image_of(guest: MemoryDomain) -> Image:
    image = guest.disk_image("vda")
    assert image is not None
    return image


def layered(*bitmaps: bool) -> Image:
    """Images on top of each other, the active one last; each with a bitmap c1 or without."""
    below: Image | None = None
    for with_bitmap in bitmaps:
        below = Image(MIB, path="/layer", backing=below)
        if with_bitmap:
            below.bitmaps.add("c1")
    assert below is not None
    return below


async def test_size_leaves_out_a_disk_with_a_broken_bitmap(guest: MemoryDomain) -> None:
    create(guest, "c1")
    image_of(guest).bitmaps.mark_inconsistent("c1")
    assert "size=" not in guest.checkpoint_get_xml_desc("c1", SIZE)


async def test_validate_finds_a_broken_bitmap(guest: MemoryDomain) -> None:
    create(guest, "c1")
    text = guest.checkpoint_get_xml_desc("c1", 1)
    image_of(guest).bitmaps.mark_inconsistent("c1")
    with pytest.raises(CheckpointInconsistent):
        guest.checkpoint_create_xml(text, REDEFINE_AND_VALIDATE)


async def test_broken_bitmap_can_be_deleted(guest: MemoryDomain) -> None:
    create(guest, "c1")
    image_of(guest).bitmaps.mark_inconsistent("c1")
    guest.checkpoint_delete("c1", 0)
    assert image_of(guest).bitmaps.names() == []


async def test_metadata_only_leaves_the_bitmap(guest: MemoryDomain) -> None:
    create(guest, "c1")
    guest.checkpoint_delete("c1", METADATA_ONLY)
    assert image_of(guest).bitmaps.names() == ["c1"]


async def test_first_failure_of_several_is_told_after_the_walk(guest: MemoryDomain) -> None:
    for name in ("c1", "c2", "c3"):
        create(guest, name)
    image_of(guest).bitmaps.remove("c2")
    with pytest.raises(InternalError, match="'c2'"):
        guest.checkpoint_delete("c1", 1)
    assert guest.list_all_checkpoints(0) == ["c1", "c2"]


async def test_thousandth_checkpoint_costs_no_bitmap_work(guest: MemoryDomain) -> None:
    for number in range(1000):
        create(guest, f"c{number}")
    guest.monitor_command('qemu-io vda "write 0 64k"', 1)
    assert "size='65536'" in guest.checkpoint_get_xml_desc("c0", SIZE)


def test_chain_goes_down_from_the_active_image() -> None:
    chain = bitmap_chain(layered(*[True] * 2), "c1")
    assert chain is not None
    assert len(chain) == 2


@pytest.mark.parametrize("layers", [(True, False), (True, False, True), (False,)])
def test_chain_with_a_gap_is_not_usable(layers: tuple[bool, ...]) -> None:
    assert bitmap_chain(layered(*layers), "c1") is None


def test_bitmap_that_does_not_record_is_not_usable() -> None:
    image = layered(*[True])
    bitmap = image.bitmaps.get("c1")
    assert bitmap is not None
    bitmap.disable()
    assert bitmap_chain(image, "c1") is None


def test_refusal_names_disk_and_remedy() -> None:
    with pytest.raises(CheckpointInconsistent, match=r"vda.*full backup"):
        require_chain(None, "c1", "vda")
