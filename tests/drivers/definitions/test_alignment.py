"""Checkpoints and backups joined with a domain's disks: each rule and each refusal."""

from dataclasses import replace
from uuid import UUID

import pytest

from virtbackupd.drivers.definitions.alignment import (
    align_backup,
    align_checkpoint,
    align_redefined,
    require_bitmap_support,
    require_block_jobs,
)
from virtbackupd.drivers.definitions.backup import BackupDefinition, BackupDisk
from virtbackupd.drivers.definitions.checkpoint import CheckpointDefinition, CheckpointDisk
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.errors import (
    ConfigUnsupported,
    InvalidArgument,
    OperationUnsupported,
    Origin,
)

VDA = "<disk><driver type='qcow2'/><source file='/i/a.qcow2'/><target dev='vda'/></disk>"
VDB = "<disk><driver type='qcow2'/><source file='/i/b.qcow2'/><target dev='vdb'/></disk>"
RAW = "<disk><source file='/i/c.raw'/><target dev='vdc'/></disk>"
LVM = "<disk type='block'><source dev='/dev/vg/d'/><target dev='vdd'/></disk>"
NET = "<disk type='network'><source protocol='rbd' name='p/e'/><target dev='vde'/></disk>"
EMPTY_CD = "<disk device='cdrom'><target dev='sda'/></disk>"
LOADED_CD = "<disk device='cdrom'><source file='/i/cd.iso'/><target dev='sdb'/></disk>"
READ_ONLY = "<disk><source file='/i/f'/><target dev='vdf'/><readonly/></disk>"
EMPTY_FLOPPY = "<disk device='floppy'><target dev='fda'/></disk>"
UUID_TEXT = "00000000-0000-4000-8000-000000000001"


def domain(*disks: str) -> DomainDefinition:
    return DomainDefinition.parse(
        f"<domain type='test'><name>d</name><uuid>{UUID_TEXT}</uuid><memory>1</memory>"
        f"<devices>{''.join(disks)}</devices></domain>"
    )


def checkpoint(*disks: CheckpointDisk, name: str = "c") -> CheckpointDefinition:
    return CheckpointDefinition(name, 5, disks=disks or None)


def backup(*disks: BackupDisk, since: str | None = None) -> BackupDefinition:
    return BackupDefinition(incremental=since, disks=disks or None)


def no(target: str) -> CheckpointDisk:
    return CheckpointDisk(target, "no")


def bitmap(target: str, name: str = "c") -> CheckpointDisk:
    return CheckpointDisk(target, "bitmap", name)


def aligned(definition: BackupDefinition, *disks: str) -> tuple[BackupDisk, ...]:
    return align_backup(definition, domain(*disks), suffix="s").disks or ()


def test_every_writable_disk_has_a_bitmap_by_default() -> None:
    machine = domain(VDA, EMPTY_CD, LOADED_CD, RAW, LVM, NET, READ_ONLY, EMPTY_FLOPPY)
    expected = (
        bitmap("vda"),
        no("sda"),
        no("sdb"),
        bitmap("vdc"),
        bitmap("vdd"),
        bitmap("vde"),
        no("vdf"),
        no("fda"),
    )
    assert align_checkpoint(checkpoint(), machine).disks == expected


def test_a_disk_that_is_not_listed_has_none() -> None:
    found = align_checkpoint(checkpoint(CheckpointDisk("vdb")), domain(VDA, VDB))
    assert found.disks == (no("vda"), bitmap("vdb"))


def test_all_disks_may_be_left_out() -> None:
    assert align_checkpoint(checkpoint(no("vda")), domain(VDA, VDB)).bitmap_disks == ()


def test_a_path_is_turned_into_the_target() -> None:
    found = align_checkpoint(checkpoint(CheckpointDisk("/i/b.qcow2")), domain(VDA, VDB))
    assert found.disks == (no("vda"), bitmap("vdb"))


def test_a_given_bitmap_name_stays() -> None:
    found = align_checkpoint(checkpoint(bitmap("vda", "other")), domain(VDA))
    assert found.disks == (bitmap("vda", "other"),)


def test_an_empty_drive_may_be_listed_with_no() -> None:
    assert align_checkpoint(checkpoint(no("sda")), domain(EMPTY_CD)).disks == (no("sda"),)


@pytest.mark.parametrize(
    ("listed", "disks", "text"),
    [
        ((), (), "has no disks"),
        ((no("vda"), no("vdb")), (VDA,), "2 disks are listed but domain 'd' has 1"),
        ((no("vdz"),), (VDA,), "no single disk 'vdz'"),
        ((no("/nowhere"),), (VDA,), "no single disk '/nowhere'"),
        ((no("/i/a.qcow2"),), (VDA, VDA.replace("vda", "vdz")), "no single disk"),
        ((no("vda"), no("vda")), (VDA, VDB), "'vda' is listed twice"),
        ((no("vda"), no("/i/a.qcow2")), (VDA, VDB), "'vda' is listed twice"),
        ((CheckpointDisk("sda"),), (EMPTY_CD,), "'sda' is empty"),
        ((CheckpointDisk("sdb"),), (LOADED_CD,), "'sdb' is read-only"),
        ((CheckpointDisk("vdf"),), (READ_ONLY,), "'vdf' is read-only"),
    ],
)
def test_checkpoint_refusals(
    listed: tuple[CheckpointDisk, ...], disks: tuple[str, ...], text: str
) -> None:
    with pytest.raises(ConfigUnsupported, match=text) as caught:
        align_checkpoint(checkpoint(*listed), domain(*disks))
    assert caught.value.origin is Origin.DOMAIN_CHECKPOINT


def test_a_new_checkpoint_on_qcow2_is_supported() -> None:
    machine = domain(VDA, RAW)
    require_bitmap_support(align_checkpoint(checkpoint(no("vdc"), bitmap("vda")), machine), machine)


@pytest.mark.parametrize(
    ("entry", "disks", "text"),
    [
        (bitmap("vda", "other"), (VDA,), "'vda' is called 'other'.* name 'c'"),
        (CheckpointDisk("vdc"), (RAW,), "'vdc' has the format 'raw'"),
        (CheckpointDisk("vdc"), (EMPTY_CD, VDA, RAW), "'vdc' has the format 'raw'"),
    ],
)
def test_bitmaps_that_cannot_be_made(
    entry: CheckpointDisk, disks: tuple[str, ...], text: str
) -> None:
    machine = domain(*disks)
    with pytest.raises(ConfigUnsupported, match=text) as caught:
        require_bitmap_support(align_checkpoint(checkpoint(entry), machine), machine)
    assert caught.value.origin is Origin.DRIVER


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("dev='vda'", "dev='vda' bus='sd'", "SD card"),
        ("</disk>", "<transient/></disk>", "transient"),
        ("<disk><driver", "<disk type='vhostuser'><driver", "vhost-user"),
    ],
)
def test_disks_without_block_jobs(old: str, new: str, text: str) -> None:
    disk = domain(VDA.replace(old, new)).disks[0]
    with pytest.raises(OperationUnsupported, match=text) as caught:
        require_block_jobs(disk)
    assert caught.value.origin is Origin.DRIVER


def test_redefine_without_a_domain_takes_any_disk() -> None:
    definition = checkpoint(CheckpointDisk("vdz"), no("/gone"), bitmap("vda", "b"))
    found = align_redefined(definition, b"")
    assert found.disks == (bitmap("vdz"), no("/gone"), bitmap("vda", "b"))


def test_redefine_without_a_domain_and_disks() -> None:
    assert align_redefined(checkpoint(), b"").disks == ()


def test_redefine_aligns_with_the_embedded_domain() -> None:
    definition = replace(checkpoint(), domain_xml=domain(VDA, EMPTY_CD).to_xml())
    found = align_redefined(definition, UUID(UUID_TEXT).bytes)
    assert found.disks == (bitmap("vda"), no("sda"))


def test_redefine_refuses_what_the_embedded_domain_has_not() -> None:
    definition = replace(checkpoint(no("vdz")), domain_xml=domain(VDA).to_xml())
    with pytest.raises(ConfigUnsupported) as caught:
        align_redefined(definition, UUID(UUID_TEXT).bytes)
    assert caught.value.origin is Origin.DOMAIN_CHECKPOINT


def test_redefine_refuses_another_domain() -> None:
    definition = replace(checkpoint(), domain_xml=domain(VDA).to_xml())
    with pytest.raises(InvalidArgument, match=UUID_TEXT) as caught:
        align_redefined(definition, bytes(16))
    assert caught.value.origin is Origin.DOMAIN_CHECKPOINT


def test_a_default_backup_takes_every_writable_disk() -> None:
    found = aligned(backup(), VDA, EMPTY_CD, LOADED_CD, RAW, READ_ONLY)
    assert [(disk.name, disk.backup) for disk in found] == [
        ("vda", True),
        ("sda", False),
        ("sdb", False),
        ("vdc", True),
        ("vdf", False),
    ]


def test_listed_disks_come_first_and_alone() -> None:
    found = aligned(backup(BackupDisk("vdb")), VDA, VDB, RAW)
    assert [(disk.name, disk.backup) for disk in found] == [
        ("vdb", True),
        ("vda", False),
        ("vdc", False),
    ]


def test_a_listed_read_only_disk_is_backed_up() -> None:
    assert aligned(backup(BackupDisk("sdb")), LOADED_CD)[0].backup


def test_an_empty_drive_may_be_listed_with_backup_no() -> None:
    assert not aligned(backup(BackupDisk("sda", backup=False)), EMPTY_CD)[0].backup


def test_a_path_is_made_up_from_the_source() -> None:
    found = aligned(backup(), RAW)[0]
    assert (found.store_path, found.store_is_generated) == ("/i/c.raw.s", True)
    assert (found.type, found.driver_type) == ("file", "qcow2")


def test_a_given_path_stays() -> None:
    found = aligned(backup(BackupDisk("vda", store_path="/t")), VDA)[0]
    assert (found.store_path, found.store_is_generated) == ("/t", False)


def test_a_block_target_without_a_path_becomes_a_file() -> None:
    found = aligned(backup(BackupDisk("vda", type="block")), VDA)[0]
    assert (found.type, found.store_path) == ("file", "/i/a.qcow2.s")


def test_a_disk_that_is_left_out_needs_no_path() -> None:
    assert aligned(backup(BackupDisk("vdd", backup=False)), LVM)[0].store_path is None


@pytest.mark.parametrize(
    ("disk", "since", "mode", "checkpoint_name"),
    [
        (BackupDisk("vda"), None, "full", None),
        (BackupDisk("vda"), "c1", "incremental", "c1"),
        (BackupDisk("vda", incremental="c2"), None, "incremental", "c2"),
        (BackupDisk("vda", incremental="c2"), "c1", "incremental", "c2"),
        (BackupDisk("vda", incremental=""), "c1", "incremental", ""),
        (BackupDisk("vda", backupmode="full"), "c1", "full", None),
        (BackupDisk("vda", backupmode="full"), None, "full", None),
        (BackupDisk("vda", backupmode="incremental"), "c1", "incremental", "c1"),
        (BackupDisk("vda", backupmode="incremental", incremental="c2"), "c1", "incremental", "c2"),
    ],
)
def test_the_effective_mode(
    disk: BackupDisk, since: str | None, mode: str, checkpoint_name: str | None
) -> None:
    found = aligned(backup(disk, since=since), VDA)[0]
    assert (found.backupmode, found.incremental) == (mode, checkpoint_name)


def test_disks_that_were_not_listed_follow_the_backup() -> None:
    found = aligned(backup(since="c1"), VDA, VDB)
    assert [(disk.backupmode, disk.incremental) for disk in found] == [("incremental", "c1")] * 2


@pytest.mark.parametrize(
    ("listed", "disks", "text"),
    [
        ((), (), "has no disks"),
        ((BackupDisk("vdz"),), (VDA,), "no disk 'vdz'"),
        ((BackupDisk("vda"), BackupDisk("vda")), (VDA,), "'vda' is listed twice"),
        ((BackupDisk("vda", backupmode="incremental"),), (VDA,), "'vda' asks for an incremental"),
        ((BackupDisk("sda"),), (EMPTY_CD,), "'sda' has no media"),
        ((BackupDisk("vdd"),), (LVM,), "'vdd' is of type 'block'"),
        ((), (NET,), "'vde' is of type 'network'"),
    ],
)
def test_backup_refusals(listed: tuple[BackupDisk, ...], disks: tuple[str, ...], text: str) -> None:
    with pytest.raises(ConfigUnsupported, match=text) as caught:
        aligned(backup(*listed), *disks)
    assert caught.value.origin is Origin.DOMAIN
