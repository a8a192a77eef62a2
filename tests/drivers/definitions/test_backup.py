"""The backup document: what is read and the exact output."""

import pytest

from virtbackupd.drivers.definitions.backup import (
    BackupDefinition,
    BackupDisk,
    BackupServer,
    format_backup,
    parse_backup,
)
from virtbackupd.drivers.definitions.secret import SecretName
from virtbackupd.drivers.errors import DriverError, Origin, XmlDetail, XmlError, XmlInvalidSchema

UNIX = "<server transport='unix' socket='/s'/>"


def push_disk(text: str) -> BackupDisk:
    disks = parse_backup(f"<domainbackup><disks>{text}</disks></domainbackup>").disks
    assert disks is not None
    return disks[0]


def pull_disk(text: str) -> BackupDisk:
    xml = f"<domainbackup mode='pull'>{UNIX}<disks>{text}</disks></domainbackup>"
    disks = parse_backup(xml).disks
    assert disks is not None
    return disks[0]


def test_an_empty_document_is_a_full_push() -> None:
    assert parse_backup("<domainbackup/>") == BackupDefinition()


@pytest.mark.parametrize(
    ("element", "value"),
    [("<incremental>c1</incremental>", "c1"), ("<incremental/>", None), ("", None)],
)
def test_incremental(element: str, value: str | None) -> None:
    assert parse_backup(f"<domainbackup>{element}</domainbackup>").incremental == value


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (UNIX, BackupServer("unix", socket="/s")),
        ("<server name='h' port='10809'/>", BackupServer("tcp", name="h", port=10809)),
        ("<server name='h' tls='yes'/>", BackupServer("tcp", tls=True, name="h")),
        ("<server name='h' tls='no'/>", BackupServer("tcp", tls=False, name="h")),
        ("<server transport='fd' fdgroup='g'/>", BackupServer("fd", fdgroup="g")),
    ],
)
def test_servers(server: str, expected: BackupServer) -> None:
    found = parse_backup(f"<domainbackup mode='pull'>{server}</domainbackup>")
    assert (found.pull, found.server) == (True, expected)


def test_defaults_of_a_disk() -> None:
    assert push_disk("<disk name='vda'/>") == BackupDisk("vda")


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("backup='no'", BackupDisk("vda", backup=False)),
        ("backup='yes'", BackupDisk("vda")),
        ("backupmode='full'", BackupDisk("vda", backupmode="full")),
        ("backupmode='incremental'", BackupDisk("vda", backupmode="incremental")),
        ("incremental='c'", BackupDisk("vda", incremental="c")),
        ("type='block'", BackupDisk("vda", type="block")),
    ],
)
def test_attributes_of_a_push_disk(attributes: str, expected: BackupDisk) -> None:
    assert push_disk(f"<disk name='vda' {attributes}/>") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "<disk name='vda' type='file'><driver type='raw'/><target file='/t'/></disk>",
            BackupDisk("vda", driver_type="raw", store_path="/t"),
        ),
        (
            "<disk name='vda' type='block'><target dev='/dev/t'/></disk>",
            BackupDisk("vda", type="block", store_path="/dev/t"),
        ),
    ],
)
def test_targets(text: str, expected: BackupDisk) -> None:
    assert push_disk(text) == expected


def test_a_pull_disk() -> None:
    text = "<disk name='vda' exportname='e' exportbitmap='b'><scratch file='/t'/></disk>"
    expected = BackupDisk("vda", exportname="e", exportbitmap="b", store_path="/t")
    assert pull_disk(text) == expected


def test_the_secret_of_the_store() -> None:
    uuid = "11111111-2222-3333-4444-555555555555"
    encryption = f"<encryption format='luks'><secret type='passphrase' uuid='{uuid}'/></encryption>"
    text = f"<disk name='vda' type='file'><target file='/t'>{encryption}</target></disk>"
    assert push_disk(text).secret == SecretName(uuid)


def test_the_secret_of_the_store_by_its_usage() -> None:
    encryption = "<encryption format='luks'><secret type='passphrase' usage='u'/></encryption>"
    text = f"<disk name='vda' type='file'><target file='/t'>{encryption}</target></disk>"
    assert push_disk(text).secret == SecretName(usage="u")


def test_nothing_else_counts_where_a_disk_is_left_out() -> None:
    text = "<disk name='vda' backup='no' backupmode='incremental' exportname='e'/>"
    assert pull_disk(text) == BackupDisk("vda", backup=False)


@pytest.mark.parametrize("name", ["incremental", "exportname", "exportbitmap"])
def test_an_empty_attribute_is_not_a_missing_one(name: str) -> None:
    found = pull_disk(f"<disk name='vda' {name}=''/>")
    assert getattr(found, name) == ""


@pytest.mark.parametrize(
    ("xml", "error", "origin"),
    [
        ("<domainbackup", XmlDetail, Origin.DOMAIN),
        ("<domaincheckpoint/>", XmlError, Origin.XML),
        ("<domainbackup mode='pull'/>", XmlInvalidSchema, Origin.XML),
        ("<domainbackup mode='default'/>", XmlInvalidSchema, Origin.XML),
        ("<domainbackup><disks/></domainbackup>", XmlInvalidSchema, Origin.XML),
    ],
)
def test_refused_documents(xml: str, error: type[DriverError], origin: Origin) -> None:
    with pytest.raises(error) as caught:
        parse_backup(xml)
    assert caught.value.origin is origin


def test_the_output_of_a_pull() -> None:
    disk = BackupDisk(
        "vda",
        backupmode="incremental",
        incremental="c1",
        exportname="vda",
        exportbitmap="backup-vda",
        index=8,
        store_path="/x/s1",
    )
    definition = BackupDefinition(
        pull=True,
        incremental="c1",
        server=BackupServer("unix", socket="/x/nbd.sock"),
        disks=(disk, BackupDisk("vdb", backup=False, backupmode="full")),
    )
    assert definition.selected == (disk,)
    assert format_backup(definition) == (
        "<domainbackup mode='pull'>\n"
        "  <incremental>c1</incremental>\n"
        "  <server transport='unix' socket='/x/nbd.sock'/>\n"
        "  <disks>\n"
        "    <disk name='vda' backup='yes' type='file' backupmode='incremental' incremental='c1'"
        " exportname='vda' exportbitmap='backup-vda' index='8'>\n"
        "      <driver type='qcow2'/>\n"
        "      <scratch file='/x/s1'/>\n"
        "    </disk>\n"
        "    <disk name='vdb' backup='no'/>\n"
        "  </disks>\n"
        "</domainbackup>\n"
    )


def test_the_output_of_a_push_to_a_block_device() -> None:
    disk = BackupDisk(
        "vda", type="block", backupmode="full", driver_type="raw", store_path="/dev/t"
    )
    assert format_backup(BackupDefinition(disks=(disk,))) == (
        "<domainbackup mode='push'>\n"
        "  <disks>\n"
        "    <disk name='vda' backup='yes' type='block' backupmode='full'>\n"
        "      <driver type='raw'/>\n"
        "      <target dev='/dev/t'/>\n"
        "    </disk>\n"
        "  </disks>\n"
        "</domainbackup>\n"
    )


@pytest.mark.parametrize(
    ("server", "line"),
    [
        (
            BackupServer("tcp", tls=True, name="h", port=10809),
            "  <server transport='tcp' tls='yes' name='h' port='10809'/>\n",
        ),
        (
            BackupServer("tcp", tls=False, name="h"),
            "  <server transport='tcp' tls='no' name='h'/>\n",
        ),
        (BackupServer("fd", fdgroup="g"), "  <server transport='fd' fdgroup='g'/>\n"),
    ],
)
def test_the_output_of_servers(server: BackupServer, line: str) -> None:
    assert line in format_backup(BackupDefinition(pull=True, server=server))


def test_extras_of_the_store_come_back_in_place() -> None:
    disk = push_disk(
        "<disk name='vda' type='file'><target file='/t'><seclabel model='dac' relabel='no'/>"
        "<encryption format='luks'><secret type='passphrase' usage='u'/></encryption>"
        "</target></disk>"
    )
    assert (
        "      <target file='/t'>\n"
        "        <seclabel model='dac' relabel='no'/>\n"
        "        <encryption format='luks'>\n"
        "          <secret type='passphrase' usage='u'/>\n"
        "        </encryption>\n"
        "      </target>\n"
    ) in format_backup(BackupDefinition(disks=(disk,)))


def test_a_disk_without_a_store_prints_none() -> None:
    assert "target" not in format_backup(BackupDefinition(disks=(BackupDisk("vda"),)))
