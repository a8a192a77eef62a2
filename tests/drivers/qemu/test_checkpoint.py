"""Checkpoints of domains of QEMU's: bitmaps in images, documents on disk."""

from collections.abc import Awaitable, Callable

import pytest
import trio

from virtbackupd.drivers.enums import CheckpointCreate, CheckpointDelete, CheckpointXml
from virtbackupd.drivers.errors import (
    CheckpointInconsistent,
    ConfigUnsupported,
    InternalError,
    NoDomainCheckpoint,
    OperationFailed,
    OperationUnsupported,
)
from virtbackupd.drivers.qemu.bitmaps import query_images
from virtbackupd.drivers.qemu.domain import QemuDomain
from virtbackupd.drivers.qemu.driver import QemuDriver

QemuIo = Callable[[str, str], Awaitable[None]]
DISKS = "<disks><disk name='vda'/><disk name='vdb'/></disks>"


def document(name: str, disks: str = DISKS) -> str:
    return f"<domaincheckpoint><name>{name}</name>{disks}</domaincheckpoint>"


async def create(guest: QemuDomain, *names: str) -> None:
    for name in names:
        await guest.checkpoint_create_xml(document(name), 0)


async def bitmaps(guest: QemuDomain, target: str) -> set[str]:
    images = await query_images(guest.monitor)
    return {bitmap.name for bitmap in images.all(guest.nodes.disks[target].node or "")}


def files(guest: QemuDomain) -> list[str]:
    return sorted(path.name for path in guest.checkpoint_files.folder.iterdir())


async def test_a_checkpoint_is_a_bitmap_on_each_of_its_disks(guest: QemuDomain) -> None:
    await create(guest, "c1")
    assert [await bitmaps(guest, disk) for disk in ("vda", "vdb", "vdc")] == [{"c1"}, {"c1"}, set()]


async def test_a_checkpoint_is_on_disk(guest: QemuDomain) -> None:
    await create(guest, "c1", "c2")
    assert files(guest) == ["c1.xml", "c2.xml"]
    text = (guest.checkpoint_files.folder / "c2.xml").read_text()
    assert "<parent>\n    <name>c1</name>" in text


async def test_raw_disks_are_refused_by_default(guest: QemuDomain) -> None:
    with pytest.raises(ConfigUnsupported, match="vdc"):
        await guest.checkpoint_create_xml("<domaincheckpoint/>", 0)
    assert files(guest) == [] if guest.checkpoint_files.folder.exists() else True


async def test_a_name_is_used_once(guest: QemuDomain) -> None:
    await create(guest, "c1")
    with pytest.raises(OperationFailed, match="exists already"):
        await create(guest, "c1")


async def test_a_bitmap_without_metadata_is_in_the_way(guest: QemuDomain) -> None:
    await create(guest, "c1")
    await guest.checkpoint_delete("c1", CheckpointDelete.METADATA_ONLY)
    with pytest.raises(InternalError, match="already exists"):
        await create(guest, "c1")
    assert len(guest.checkpoints) == 0
    assert files(guest) == []


async def test_an_inactive_domain_gets_none(guest: QemuDomain) -> None:
    await guest.destroy()
    with pytest.raises(OperationUnsupported, match="not running"):
        await create(guest, "c1")


async def test_sizes_count_what_has_been_written(guest: QemuDomain, qemu_io: QemuIo) -> None:
    await create(guest, "c1")
    await qemu_io("vda", "write 0 200k")
    text = await guest.checkpoint_get_xml_desc("c1", CheckpointXml.SIZE | CheckpointXml.NO_DOMAIN)
    assert "bitmap='c1' size='262144'" in text
    assert "size='0'" in text


async def test_deleting_removes_bitmaps_and_documents(guest: QemuDomain) -> None:
    await create(guest, "c1", "c2", "c3")
    await guest.checkpoint_delete("c2", 0)
    assert await bitmaps(guest, "vda") == {"c1", "c3"}
    assert files(guest) == ["c1.xml", "c3.xml"]
    assert "<name>c1</name>" in (guest.checkpoint_files.folder / "c3.xml").read_text()


async def test_deleting_with_children(guest: QemuDomain) -> None:
    await create(guest, "c1", "c2", "c3")
    await guest.checkpoint_delete("c1", CheckpointDelete.CHILDREN_ONLY)
    assert await bitmaps(guest, "vdb") == {"c1"}
    assert (files(guest), guest.checkpoints.current) == (["c1.xml"], "c1")


async def test_deleting_the_unknown(guest: QemuDomain) -> None:
    with pytest.raises(NoDomainCheckpoint):
        await guest.checkpoint_delete("c1", 0)


async def test_a_missing_bitmap_stops_the_deletion(guest: QemuDomain) -> None:
    await create(guest, "c1")
    node = guest.nodes.disks["vda"].node
    await guest.monitor.execute("block-dirty-bitmap-remove", {"node": node, "name": "c1"})
    with pytest.raises(InternalError, match="metadata only"):
        await guest.checkpoint_delete("c1", 0)
    assert files(guest) == ["c1.xml"]
    assert await bitmaps(guest, "vdb") == {"c1"}


async def test_redefining_validates_bitmaps(guest: QemuDomain) -> None:
    await create(guest, "c1")
    text = guest_text = await guest.checkpoint_get_xml_desc("c1", CheckpointXml.SECURE)
    await guest.checkpoint_delete("c1", CheckpointDelete.METADATA_ONLY)
    validate = CheckpointCreate.REDEFINE | CheckpointCreate.REDEFINE_VALIDATE
    assert await guest.checkpoint_create_xml(guest_text, validate) == "c1"
    with pytest.raises(CheckpointInconsistent, match="vda"):
        await guest.checkpoint_create_xml(text.replace("<name>c1<", "<name>c9<", 1), validate)


async def test_checkpoints_outlive_the_run(guest: QemuDomain) -> None:
    await create(guest, "c1")
    await guest.destroy()
    await guest.create()
    assert await bitmaps(guest, "vda") == {"c1"}
    assert "c1" in guest.checkpoints


@pytest.fixture
async def layered(guest: QemuDomain, qemu_io: QemuIo, qemu: QemuDriver) -> QemuDomain:
    """The same guest, after a checkpoint and a write, on an overlay that goes on recording."""
    path = guest.definition.disks[0].source or ""
    await create(guest, "c1")
    await qemu_io("vda", "write 0 64k")
    await guest.destroy()
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", path, f"{path}.new"]
    await trio.run_process(command)
    await trio.run_process(["qemu-img", "bitmap", "--add", f"{path}.new", "c1"])
    await qemu.domain_define_xml(guest.get_xml_desc(0).replace(path, f"{path}.new"))
    await guest.create()
    await qemu_io("vda", "write 1M 64k")
    return guest


async def test_sizes_count_all_images_of_a_chain(layered: QemuDomain) -> None:
    text = await layered.checkpoint_get_xml_desc("c1", CheckpointXml.SIZE)
    assert "size='131072'" in text
    assert await bitmaps(layered, "vda") == {"c1"}


async def test_deleting_reaches_the_images_below(layered: QemuDomain) -> None:
    await layered.checkpoint_delete("c1", 0)
    images, disk = await query_images(layered.monitor), layered.nodes.disks["vda"]
    assert [images.all(layer.node) for layer in disk.layers] == [[], []]
    assert images.read_only(disk.layers[1].node)
