"""What every driver refuses before it begins a backup, and the names that are filled in."""

import pytest

from virtbackupd.drivers.backup_rules import check_server, numbered, parse, with_exports
from virtbackupd.drivers.definitions.backup import BackupDefinition, BackupDisk, BackupServer
from virtbackupd.drivers.errors import (
    DriverError,
    InternalError,
    InvalidArgument,
    OperationUnsupported,
    UnsupportedFlags,
)

UNIX = BackupServer("unix", socket="/nbd")


@pytest.mark.parametrize(
    ("server", "kind"),
    [
        (None, InternalError),
        (BackupServer("tcp", name="localhost"), OperationUnsupported),
        (BackupServer("tcp", name="localhost", port=65536), InvalidArgument),
        (BackupServer("fd", fdgroup="group"), InvalidArgument),
        (BackupServer("rdma"), InternalError),
        (BackupServer("unix", socket="/nbd", tls=True), InternalError),
    ],
)
def test_servers_that_are_refused(server: BackupServer | None, kind: type[DriverError]) -> None:
    with pytest.raises(kind):
        check_server(BackupDefinition(pull=True, server=server), tls_available=False)


def test_servers_that_are_accepted() -> None:
    check_server(BackupDefinition(pull=True, server=UNIX), tls_available=False)
    tcp = BackupServer("tcp", name="::1", port=10809, tls=True)
    check_server(BackupDefinition(pull=True, server=tcp), tls_available=True)


DISKS = BackupDefinition(
    disks=(BackupDisk("vda", backupmode="incremental"), BackupDisk("vdb", backup=False)), pull=True
)


def test_exports_get_the_targets_name() -> None:
    vda, vdb = with_exports(DISKS).disks or ()
    assert (vda.exportname, vda.exportbitmap) == ("vda", "backup-vda")
    assert (vdb.exportname, vdb.exportbitmap) == (None, None)


def test_export_names_differ() -> None:
    twice = BackupDefinition(disks=(BackupDisk("vda", exportname="vdb"), BackupDisk("vdb")))
    with pytest.raises(InternalError, match="'vdb'"):
        with_exports(twice)


def test_an_empty_export_name_is_one() -> None:
    (vda,) = with_exports(BackupDefinition(disks=(BackupDisk("vda", exportname=""),))).disks or ()
    assert vda.exportname == ""


@pytest.mark.parametrize("name", ["", "b" * 1024])
def test_names_that_no_bitmap_can_have(name: str) -> None:
    disk = BackupDisk("vda", backupmode="incremental", exportbitmap=name)
    with pytest.raises(InternalError, match=f"{len(name)} bytes"):
        with_exports(BackupDefinition(disks=(disk,)))


def test_only_selected_disks_are_numbered() -> None:
    assert [disk.index for disk in numbered(DISKS, 7).disks or ()] == [8, None]


def test_the_checkpoints_name_ends_generated_names() -> None:
    named = parse("<domainbackup/>", "<domaincheckpoint><name>c</name></domaincheckpoint>", 0, 9)
    assert (named.suffix, parse("<domainbackup/>", None, 0, 9).suffix) == ("c", "9")


def test_flags_come_first() -> None:
    with pytest.raises(UnsupportedFlags):
        parse("<", None, 1 << 20, 0)


def test_no_port_is_needed_where_one_may_be_chosen() -> None:
    definition = BackupDefinition(pull=True, server=BackupServer("tcp", name="localhost"))
    check_server(definition, tls_available=False, any_port=True)
