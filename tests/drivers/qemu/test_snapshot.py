"""External snapshots of running domains, and the checkpoints that live through them."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from waiting import until

from virtbackupd.drivers.errors import (
    ConfigUnsupported,
    InvalidArgument,
    NoDomainSnapshot,
    OperationTimeout,
    OperationUnsupported,
    XmlInvalidSchema,
)
from virtbackupd.drivers.interface import DriverOptions
from virtbackupd.drivers.qemu import open_driver
from virtbackupd.drivers.qemu.bitmaps import query_images
from virtbackupd.drivers.qemu.domain import QemuDomain
from virtbackupd.drivers.qemu.driver import QemuDriver

QemuIo = Callable[[str, str], Awaitable[None]]
DISK_ONLY, NO_METADATA, METADATA_ONLY = 16, 4, 2
CHECKPOINT = "<domaincheckpoint><name>c1</name><disks><disk name='vda'/></disks></domaincheckpoint>"
SNAPSHOT = """<domainsnapshot><name>{name}</name><disks>
<disk name='vda' snapshot='external'/><disk name='vdb' snapshot='no'/>
<disk name='vdc' snapshot='no'/></disks></domainsnapshot>"""


async def snap(guest: QemuDomain, name: str = "s1", flags: int = DISK_ONLY) -> str:
    return await guest.snapshot_create_xml(SNAPSHOT.format(name=name), flags)


def top(guest: QemuDomain) -> Path:
    return Path(guest.nodes.disks["vda"].layers[0].image.path)


async def test_the_disk_goes_on_above(guest: QemuDomain, qemu_io: QemuIo) -> None:
    await qemu_io("vda", "write -P 1 0 64k")
    assert await snap(guest) == "s1"
    assert (len(guest.nodes.disks["vda"].layers), top(guest).name) == (2, "a.s1")
    await qemu_io("vda", "read -P 1 0 64k")


async def test_every_disk_is_meant_by_default(guest: QemuDomain) -> None:
    await guest.snapshot_create_xml("<domainsnapshot/>", DISK_ONLY)
    assert [len(disk.layers) for disk in guest.nodes.disks.values()] == [2, 2, 2]


async def test_definitions_name_the_new_image(guest: QemuDomain) -> None:
    await snap(guest)
    assert guest.persistent is not None
    sources = [domain.disks[0].source for domain in (guest.definition, guest.persistent)]
    assert sources == [str(top(guest))] * 2


async def test_checkpoints_go_on(guest: QemuDomain, qemu_io: QemuIo) -> None:
    await guest.checkpoint_create_xml(CHECKPOINT, 0)
    await qemu_io("vda", "write 0 64k")
    await snap(guest)
    await qemu_io("vda", "write 1M 64k")
    assert "size='131072'" in await guest.checkpoint_get_xml_desc("c1", 4)


async def test_a_backup_follows_the_chain(
    guest: QemuDomain, qemu_io: QemuIo, state_dir: Path
) -> None:
    await guest.checkpoint_create_xml(CHECKPOINT, 0)
    await qemu_io("vda", "write 0 64k")
    await snap(guest)
    await qemu_io("vda", "write 1M 64k")
    target = f"<disk name='vda' type='file'><target file='{state_dir}/part'/></disk>"
    text = f"<domainbackup><incremental>c1</incremental><disks>{target}</disks></domainbackup>"
    await guest.backup_begin(text, None, 0)
    if guest.backup is not None:
        await guest.backup.over.wait()
    params = {param.field: param.value for param in (await guest.get_job_stats(1)).params}
    assert params["disk_total"] == 131072


async def test_a_commit_takes_the_snapshot_back(guest: QemuDomain, qemu_io: QemuIo) -> None:
    await guest.checkpoint_create_xml(CHECKPOINT, 0)
    await snap(guest)
    await qemu_io("vda", "write 1M 64k")
    await guest.block_commit("vda", None, None, 0, 4)
    commit = guest.commits["vda"]
    await until(lambda: commit.ready)
    await guest.block_job_abort("vda", 2)
    assert "size='65536'" in await guest.checkpoint_get_xml_desc("c1", 4)


async def test_metadata_is_kept(guest: QemuDomain) -> None:
    await snap(guest)
    await snap(guest, "s2")
    assert guest.list_all_snapshots(0) == ["s1", "s2"]
    assert (guest.snapshot_current(0), guest.snapshot_get_parent("s2", 0)) == ("s2", "s1")
    assert "<state>disk-snapshot</state>" in guest.snapshot_get_xml_desc("s1", 0)


async def test_metadata_can_be_left_out(guest: QemuDomain) -> None:
    await snap(guest, flags=DISK_ONLY | NO_METADATA)
    assert guest.snapshot_num(0) == 0


async def test_metadata_can_be_dropped(guest: QemuDomain) -> None:
    await snap(guest)
    await guest.snapshot_delete("s1", METADATA_ONLY)
    with pytest.raises(NoDomainSnapshot):
        guest.snapshot_lookup_by_name("s1", 0)


async def test_metadata_outlives_the_daemon(guest: QemuDomain, state_dir: Path) -> None:
    await snap(guest)
    guest.snapshots.forget()
    guest.snapshots.load()
    assert (guest.list_all_snapshots(0), guest.snapshot_current(0)) == (["s1"], "s1")
    assert (state_dir / "qemu" / "snapshot" / "guest" / "s1.xml").exists()


async def test_images_are_not_merged(guest: QemuDomain) -> None:
    await snap(guest)
    with pytest.raises(OperationUnsupported, match="virDomainBlockCommit"):
        await guest.snapshot_delete("s1", 0)


async def test_only_disks_of_running_domains(guest: QemuDomain) -> None:
    with pytest.raises(OperationUnsupported, match="DISK_ONLY"):
        await snap(guest, flags=0)
    await guest.destroy()
    with pytest.raises(OperationUnsupported):
        await snap(guest)


async def test_a_file_in_the_way(guest: QemuDomain) -> None:
    top(guest).with_name("a.s1").write_text("mine")
    before = set((await query_images(guest.monitor)).names())
    with pytest.raises(InvalidArgument, match="exists already"):
        await snap(guest)
    assert set((await query_images(guest.monitor)).names()) == before


async def test_no_snapshot_during_a_backup(guest: QemuDomain, state_dir: Path) -> None:
    server = f"<server transport='unix' socket='{state_dir}/s'/>"
    await guest.backup_begin(f"<domainbackup mode='pull'>{server}</domainbackup>", None, 0)
    with pytest.raises(OperationTimeout):
        await snap(guest)


@pytest.mark.parametrize(
    ("xml", "kind"),
    [
        ("<domainsnapshot><disks><disk name='vdz'/></disks></domainsnapshot>", ConfigUnsupported),
        ("<domainsnapshot><name>a/b</name></domainsnapshot>", XmlInvalidSchema),
        ("<domainsnapshot><memory snapshot='internal'/></domainsnapshot>", XmlInvalidSchema),
    ],
)
async def test_documents_that_are_refused(
    guest: QemuDomain, xml: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        await guest.snapshot_create_xml(xml, DISK_ONLY)


async def test_a_snapshot_that_was_cut_off(state_dir: Path, make_image: Callable[..., str]) -> None:
    xml = f"""<domain type='qemu'><name>guest</name><memory unit='MiB'>64</memory>
    <os><type arch='x86_64' machine='q35'>hvm</type></os><devices><disk type='file'>
    <driver name='qemu' type='qcow2'/><source file='{make_image("a.qcow2")}'/>
    <target dev='vda' bus='virtio'/></disk></devices></domain>"""
    async with open_driver(DriverOptions(state_dir)) as driver:
        assert isinstance(driver, QemuDriver)
        guest = driver.domain_by_uuid((await driver.domain_define_xml(xml)).uuid)
        await guest.create()
        text = guest.status.path.read_text()
        await guest.snapshot_create_xml("<domainsnapshot/>", DISK_ONLY | NO_METADATA)
        layer = guest.nodes.disks["vda"].layers[0]
        path = layer.image.path
        made = f"<image number='{layer.number}' type='file' path='{path}' format='qcow2'/>"
        note = f"<overlays><disk target='vda'>{made}</disk></overlays>"
        guest.status.path.write_text(text.replace("</domstatus>", f"{note}</domstatus>"))
    async with open_driver(DriverOptions(state_dir)) as driver:
        assert isinstance(driver, QemuDriver)
        guest = next(iter(driver.host.domains))
        assert guest.nodes.disks["vda"].layers[0] == layer
        await guest.destroy()
