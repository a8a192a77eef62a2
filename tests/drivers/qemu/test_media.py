"""Media that are changed and disks that are resized while a real QEMU runs."""

from collections.abc import Callable

import pytest

from virtbackupd.drivers.errors import DriverError, InvalidArgument, OperationUnsupported
from virtbackupd.drivers.qemu.domain import QemuDomain
from virtbackupd.drivers.qemu.driver import QemuDriver

MakeImage = Callable[..., str]
MIB = 1024 * 1024
XML = """<domain type='qemu'><name>media</name><memory unit='MiB'>32</memory>
<os><type machine='q35'>hvm</type></os><devices>
<disk type='file'><driver type='qcow2'/><source file='{disk}'/><target dev='vda'/></disk>
<disk type='file' device='cdrom'><target dev='sdb' bus='sata'/></disk>
<disk type='file' device='floppy'><target dev='fda' bus='fdc'/></disk>
</devices></domain>"""
DRIVE = """<disk type='file' device='{device}'>{source}
<target dev='{target}' bus='{bus}'/></disk>"""


def drive(path: str | None, device: str = "cdrom") -> str:
    target, bus = ("sdb", "sata") if device == "cdrom" else ("fda", "fdc")
    source = "" if path is None else f"<source file='{path}'/>"
    return DRIVE.format(device=device, source=source, target=target, bus=bus)


@pytest.fixture
async def media(qemu: QemuDriver, make_image: MakeImage) -> QemuDomain:
    ref = await qemu.domain_define_xml(XML.format(disk=make_image("disk.qcow2", size=MIB)))
    domain = qemu.domain_by_uuid(ref.uuid)
    await domain.create()
    return domain


async def inserted(domain: QemuDomain, alias: str) -> str | None:
    """The file in a drive, as QEMU sees it."""
    found = await domain.monitor.execute("query-block")
    drive = next(each for each in found if alias in each.get("qdev", ""))
    return drive["inserted"]["file"] if "inserted" in drive else None


@pytest.mark.parametrize(("device", "alias"), [("cdrom", "sata0-0-1"), ("floppy", "fdc0-0-0")])
async def test_a_medium_goes_in_is_changed_and_goes_out(
    media: QemuDomain, make_image: MakeImage, device: str, alias: str
) -> None:
    for path in (make_image("1", format="raw", size=MIB), make_image("2", format="raw", size=MIB)):
        await media.update_device_flags(drive(path, device), 0)
        assert await inserted(media, alias) == path
        assert f"<source file='{path}'" in media.get_xml_desc(0)
    await media.update_device_flags(drive(None, device), 0)
    assert await inserted(media, alias) is None


async def test_a_medium_that_is_not_there_leaves_the_old_one(
    media: QemuDomain, make_image: MakeImage
) -> None:
    path = make_image("1", format="raw", size=MIB)
    await media.update_device_flags(drive(path), 0)
    with pytest.raises(DriverError, match="/no/such"):
        await media.update_device_flags(drive("/no/such"), 0)
    assert await inserted(media, "sata0-0-1") == path


async def test_an_ejected_medium_leaves_no_node(media: QemuDomain, make_image: MakeImage) -> None:
    await media.update_device_flags(drive(make_image("1", format="raw", size=MIB)), 0)
    await media.update_device_flags(drive(None), 0)
    nodes = await media.monitor.execute("query-named-block-nodes", {"flat": True})
    assert len(nodes) == 2


async def test_a_changed_drive_keeps_its_name(media: QemuDomain, make_image: MakeImage) -> None:
    await media.update_device_flags(drive(make_image("1", format="raw", size=MIB)), 0)
    assert media.get_xml_desc(0).count("<alias name='sata0-0-1'/>") == 1


async def test_a_fixed_disk_has_no_medium(media: QemuDomain) -> None:
    xml = "<disk type='file'><source file='/x'/><target dev='vda' bus='virtio'/></disk>"
    with pytest.raises(OperationUnsupported, match="no removable medium"):
        await media.update_device_flags(xml, 0)


async def test_a_drive_stays_on_its_bus(media: QemuDomain) -> None:
    xml = "<disk type='file' device='cdrom'><target dev='sdb' bus='scsi'/></disk>"
    with pytest.raises(OperationUnsupported, match="bus sata"):
        await media.update_device_flags(xml, 0)


async def test_an_unknown_drive_is_named(media: QemuDomain) -> None:
    xml = "<disk type='file' device='cdrom'><target dev='sdx' bus='sata'/></disk>"
    with pytest.raises(InvalidArgument, match="sdx"):
        await media.update_device_flags(xml, 0)


@pytest.mark.parametrize(("size", "flags"), [(2 * MIB, 1), (2048, 0)])
async def test_a_disk_grows(media: QemuDomain, size: int, flags: int) -> None:
    await media.block_resize("vda", size, flags)
    assert (await media.get_block_info("vda", 0)).capacity == 2 * MIB


async def test_a_size_is_rounded_up_to_sectors(media: QemuDomain) -> None:
    await media.block_resize("vda", 2 * MIB - 1, 1)
    assert (await media.get_block_info("vda", 0)).capacity == 2 * MIB


async def test_an_empty_drive_has_no_size(media: QemuDomain) -> None:
    with pytest.raises(OperationUnsupported, match="sdb"):
        await media.block_resize("sdb", MIB, 1)
