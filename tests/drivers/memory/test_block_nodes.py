"""The names and descriptions that the monitor has for disks."""

from pathlib import Path

import pytest

from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.memory import block_nodes
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.image import Image


@pytest.mark.parametrize(
    ("target", "bus", "alias"),
    [
        ("vda", "virtio", "virtio-disk0"),
        ("vdz", "virtio", "virtio-disk25"),
        ("vdaa", "virtio", "virtio-disk26"),
        ("sda", "virtio", "virtio-disk0"),
        ("sdb", "scsi", "scsi-sdb"),
        ("hda", "ide", "ide-hda"),
    ],
)
def test_aliases(target: str, bus: str, alias: str) -> None:
    disk = f"<disk type='file'><source file='/a'/><target dev='{target}' bus='{bus}'/></disk>"
    definition = DomainDefinition.parse(
        "<domain type='test'><name>a</name><memory>1024</memory><os><type>hvm</type></os>"
        f"<devices>{disk}</devices></domain>"
    )
    assert block_nodes.device_alias(definition.disks[0]) == alias


async def test_no_other_name_finds_a_disk(guest: MemoryDomain) -> None:
    for name in ("", "vd", "libvirt-4-format", "/images", "virtio-disk7"):
        assert block_nodes.find_disk(guest, name) is None


async def test_only_disks_with_media_have_nodes(guest: MemoryDomain) -> None:
    nodes = [node for node, _, _ in block_nodes.inserted(guest)]
    assert nodes == ["libvirt-1-format", "libvirt-2-format"]


async def test_a_running_backup_shows_as_a_job(guest: MemoryDomain, tmp_path: Path) -> None:
    xml = (
        f"<domainbackup mode='pull'><server transport='unix' socket='{tmp_path}/nbd'/><disks>"
        f"<disk name='vda' type='file'><scratch file='{tmp_path}/scratch'/></disk>"
        "<disk name='vdb' backup='no'/></disks></domainbackup>"
    )
    await guest.backup_begin(xml, None, 0)
    (job,) = block_nodes.describe_jobs(guest)
    assert (job["type"], job["device"]) == ("backup", "backup-vda-libvirt-1-format")
    assert job["len"] == 4 * 1024 * 1024


def test_an_image_is_described_with_its_chain() -> None:
    base = Image(1024, path="/base", format="raw")
    found = block_nodes.describe_image(Image(2048, path="/top", backing=base))
    assert (found["filename"], found["virtual-size"], found["cluster-size"]) == (
        "/top",
        2048,
        65536,
    )
    assert found["backing-image"]["filename"] == "/base"
    assert "cluster-size" not in found["backing-image"]


async def test_an_inconsistent_bitmap_says_so(guest: MemoryDomain) -> None:
    image = guest.disk_image("vda")
    assert image is not None
    image.bitmaps.add("a")
    image.bitmaps.mark_inconsistent("a")
    node, disk, _ = next(block_nodes.inserted(guest))
    (bitmap,) = block_nodes.describe_node(guest, node, disk, image)["dirty-bitmaps"]
    assert bitmap["inconsistent"]
