"""Snapshot documents: defaults, made-up names, what is refused, and what is printed."""

import pytest

from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.definitions.snapshot import (
    SnapshotDisk,
    aligned,
    format_snapshot,
    parse_snapshot,
    restore_snapshot,
)
from virtbackupd.drivers.errors import ConfigUnsupported, DriverError, XmlInvalidSchema

DOMAIN = DomainDefinition.parse(
    """<domain type='test'><name>a</name><memory>1</memory><os><type>hvm</type></os><devices>
    <disk type='file'><source file='/d/a.qcow2'/><target dev='vda'/></disk>
    <disk type='block'><source dev='/dev/b'/><target dev='vdb'/></disk>
    <disk type='file' device='cdrom'><target dev='sda'/></disk></devices></domain>"""
)
LISTED = (
    "<domainsnapshot><name>s</name><disks><disk name='vda'/><disk name='vdb' type='block'>"
    "<source dev='/dev/c'/></disk></disks></domainsnapshot>"
)


def test_the_name_is_the_time_by_default() -> None:
    assert parse_snapshot("<domainsnapshot/>", 7).name == "7"


def test_every_disk_has_an_entry() -> None:
    disks = aligned(parse_snapshot(LISTED, 7), DOMAIN, generate=True).disks
    assert disks == (
        SnapshotDisk("vda", source="/d/a.s"),
        SnapshotDisk("vdb", type="block", source="/dev/c"),
        SnapshotDisk("sda", "no"),
    )


def test_a_device_has_no_made_up_name() -> None:
    with pytest.raises(ConfigUnsupported, match="vdb"):
        aligned(parse_snapshot("<domainsnapshot/>", 7), DOMAIN, generate=True)


def test_prepared_files_are_named() -> None:
    with pytest.raises(ConfigUnsupported, match="vda"):
        aligned(parse_snapshot(LISTED, 7), DOMAIN, generate=False)


@pytest.mark.parametrize("name", ["vdz", "/elsewhere"])
def test_an_unknown_disk(name: str) -> None:
    xml = f"<domainsnapshot><disks><disk name='{name}'/></disks></domainsnapshot>"
    with pytest.raises(ConfigUnsupported, match="no single disk"):
        aligned(parse_snapshot(xml, 7), DOMAIN, generate=True)


def test_a_disk_is_listed_once() -> None:
    xml = LISTED.replace("vdb", "/d/a.qcow2")
    with pytest.raises(ConfigUnsupported, match="twice"):
        aligned(parse_snapshot(xml, 7), DOMAIN, generate=True)


@pytest.mark.parametrize(
    "inside",
    [
        "<name>.a</name>",
        "<name/>",
        "<memory snapshot='external'/>",
        "<disks><disk name='vda' snapshot='internal'/></disks>",
        "<disks><disk name='vda'><driver type='qed'/></disk></disks>",
        "<disks><disk name='vda'><source file='relative'/></disk></disks>",
    ],
)
def test_documents_that_are_refused(inside: str) -> None:
    with pytest.raises(XmlInvalidSchema):
        parse_snapshot(f"<domainsnapshot>{inside}</domainsnapshot>", 7)


def test_another_document_is_refused() -> None:
    with pytest.raises(DriverError):
        parse_snapshot("<domaincheckpoint/>", 7)


def test_what_is_printed_is_read_again() -> None:
    definition = aligned(parse_snapshot(LISTED, 7), DOMAIN, generate=True)
    assert restore_snapshot(format_snapshot(definition)) == definition
