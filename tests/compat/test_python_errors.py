"""Error code and error domain of every refusal around checkpoints and backups, as clients see them.

Opened as qemu:///system, so that the driver's own errors carry QEMU's error domain. The numbers
are those observed from libvirt 9.0 with QEMU.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import libvirt
import pytest
from binding import connected, error_code, error_numbers
from daemon_process import Daemon
from documents import (
    checkpoint_xml,
    disk_element,
    domain_xml,
    pull_xml,
    push_disk,
    push_xml,
    tcp_server,
    unix_server,
)

DRIVERS = ("memory", "qemu")

QEMU, DOMAIN, CHECKPOINT, SECURITY, NONE = 10, 20, 69, 24, 0
REDEFINE = libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE
VALIDATE = libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE
QUIESCE = libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_QUIESCE
REUSE = libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL
SIZE = libvirt.VIR_DOMAIN_CHECKPOINT_XML_SIZE
VDA = "<disk name='vda'/>"


def create(machine: libvirt.virDomain, name: str, disks: str = VDA) -> libvirt.virDomainCheckpoint:
    return machine.checkpointCreateXML(checkpoint_xml(name, disks=disks))


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda machine: machine.backupBegin("<domainbackup/>", None), id="backup"),
        pytest.param(lambda machine: create(machine, "c"), id="checkpoint"),
    ],
)
def test_an_inactive_domain_takes_neither(
    defined: libvirt.virDomain, call: Callable[[libvirt.virDomain], object]
) -> None:
    assert error_numbers(lambda: call(defined)) == (84, QEMU)


def test_unknown_flags(machine: libvirt.virDomain) -> None:
    assert error_numbers(lambda: machine.backupBegin("<domainbackup/>", None, 64)) == (8, QEMU)
    assert error_numbers(lambda: machine.checkpointCreateXML(checkpoint_xml("c"), 64)) == (8, QEMU)
    assert error_numbers(lambda: machine.listAllCheckpoints(16)) == (8, QEMU)
    assert error_numbers(lambda: machine.backupGetXMLDesc(1)) == (8, QEMU)


def test_quiesce_is_refused(machine: libvirt.virDomain) -> None:
    xml = checkpoint_xml("c", disks=VDA)
    assert error_numbers(lambda: machine.checkpointCreateXML(xml, QUIESCE)) == (8, QEMU)


def test_a_name_is_taken_once(machine: libvirt.virDomain) -> None:
    create(machine, "c1")
    assert error_numbers(lambda: create(machine, "c1")) == (9, DOMAIN)


def test_unknown_checkpoint_and_missing_parent(machine: libvirt.virDomain) -> None:
    root = create(machine, "c1")
    assert error_numbers(root.getParent) == (103, QEMU)
    assert error_numbers(lambda: machine.checkpointLookupByName("c2")) == (103, QEMU)


def test_handles_of_a_deleted_checkpoint(machine: libvirt.virDomain) -> None:
    stale = create(machine, "c1")
    machine.checkpointLookupByName("c1").delete()
    for call in (stale.getXMLDesc, stale.getParent, stale.listAllChildren, stale.delete):
        assert error_code(call) == 103


def test_no_backup_to_describe_or_abort(machine: libvirt.virDomain) -> None:
    assert error_numbers(machine.backupGetXMLDesc) == (104, QEMU)
    assert error_numbers(machine.abortJob) == (55, QEMU)


def test_inactive_domain_has_no_job(defined: libvirt.virDomain) -> None:
    assert error_numbers(defined.abortJob) == (55, DOMAIN)
    assert error_numbers(defined.jobStats) == (55, DOMAIN)
    assert error_numbers(defined.jobInfo) == (55, DOMAIN)
    assert error_numbers(defined.backupGetXMLDesc) == (104, QEMU)


def test_incremental_needs_a_bitmap_on_that_disk(machine: libvirt.virDomain) -> None:
    create(machine, "c1", disks=VDA)
    begin = push_xml("<disk name='vdb'/>", "c1")
    assert error_numbers(lambda: machine.backupBegin(begin, None)) == (109, QEMU)


def test_target_exists(machine: libvirt.virDomain, short_dir: Path) -> None:
    target = short_dir / "target"
    target.write_text("precious")
    xml = push_xml(push_disk("vda", target))
    assert error_numbers(lambda: machine.backupBegin(xml, None)) == (8, QEMU)
    assert target.read_text() == "precious"


def test_target_folder_missing(machine: libvirt.virDomain, short_dir: Path) -> None:
    xml = push_xml(push_disk("vda", short_dir / "nowhere" / "target"))
    assert error_code(lambda: machine.backupBegin(xml, None)) == 38


def test_reused_file_must_be_there(machine: libvirt.virDomain, short_dir: Path) -> None:
    xml = push_xml(push_disk("vda", short_dir / "target"))
    assert error_numbers(lambda: machine.backupBegin(xml, None, REUSE)) == (38, SECURITY)


def test_nbd_address_not_available(machine: libvirt.virDomain, short_dir: Path) -> None:
    for server in (unix_server(short_dir / "nowhere" / "nbd"), tcp_server(9, "192.0.2.1")):
        begin = partial(machine.backupBegin, pull_xml(server, short_dir), None)
        assert error_numbers(begin) == (1, QEMU)
    assert not list(short_dir.glob("scratch-*"))


@pytest.mark.only("memory")
def test_transient_disk(module_connection: libvirt.virConnect, short_dir: Path) -> None:
    disk = disk_element("vda", short_dir / "t.qcow2").replace("</disk>", "<transient/></disk>")
    machine = module_connection.createXML(domain_xml(short_dir.name, disk))
    try:
        assert error_numbers(lambda: create(machine, "c")) == (84, QEMU)
        assert error_numbers(lambda: machine.backupBegin(push_xml(VDA), None)) == (84, QEMU)
    finally:
        machine.destroy()


def test_second_backup_is_refused(machine: libvirt.virDomain, short_dir: Path) -> None:
    machine.backupBegin(pull_xml(unix_server(short_dir / "nbd"), short_dir), None)
    second = pull_xml(unix_server(short_dir / "nbd2"), short_dir / "other", ["vdb"])
    assert error_numbers(lambda: machine.backupBegin(second, None)) == (68, NONE)


def test_busy_disk(machine: libvirt.virDomain, short_dir: Path) -> None:
    machine.backupBegin(pull_xml(unix_server(short_dir / "nbd"), short_dir), None)
    pivot = libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT
    assert error_numbers(lambda: machine.blockResize("vda", 2 << 30, 1)) == (1, QEMU)
    assert error_numbers(lambda: machine.blockJobAbort("vda", pivot)) == (83, QEMU)
    assert error_code(machine.managedSave) == 68


def test_redefinition_for_another_domain(machine: libvirt.virDomain) -> None:
    xml = create(machine, "c1").getXMLDesc()
    foreign = xml.replace(machine.UUIDString(), "00000000-1111-2222-3333-444444444444")
    redefine = partial(machine.checkpointCreateXML, foreign, REDEFINE)
    assert error_numbers(redefine) == (8, CHECKPOINT)


def test_validation_wants_a_bitmap(machine: libvirt.virDomain) -> None:
    xml = checkpoint_xml("lost", created=1, disks=VDA)
    flags = REDEFINE | VALIDATE
    assert error_numbers(lambda: machine.checkpointCreateXML(xml, flags)) == (109, QEMU)
    assert machine.listAllCheckpoints() == []


def test_deleting_without_the_bitmap(machine: libvirt.virDomain) -> None:
    xml = checkpoint_xml("lost", created=1, disks=VDA)
    lost = machine.checkpointCreateXML(xml, REDEFINE)
    assert error_numbers(lost.delete) == (1, QEMU)
    lost.delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
    assert machine.listAllCheckpoints() == []


def test_inactive_domain_with_checkpoints(machine: libvirt.virDomain) -> None:
    checkpoint = create(machine, "c1")
    machine.destroy()
    xml = checkpoint.getXMLDesc()
    validate = REDEFINE | VALIDATE
    assert error_numbers(lambda: checkpoint.getXMLDesc(SIZE)) == (55, DOMAIN)
    assert error_numbers(lambda: machine.checkpointCreateXML(xml, validate)) == (55, DOMAIN)
    assert error_numbers(checkpoint.delete) == (84, QEMU)
    assert error_numbers(machine.undefine) == (55, QEMU)


def test_read_only_connection(module_daemon: Daemon) -> None:
    with connected(module_daemon.read_only_uri, read_only=True) as connection:
        test = connection.lookupByName("test")
        assert error_code(lambda: test.checkpointCreateXML("<domaincheckpoint/>")) == 29
        assert error_code(lambda: test.backupBegin("<domainbackup/>", None)) == 29
        assert error_code(test.abortJob) == 29
        assert test.listAllCheckpoints() == []
        assert test.jobStats()["type"] == libvirt.VIR_DOMAIN_JOB_NONE


def test_unknown_domain(module_connection: libvirt.virConnect) -> None:
    assert error_code(lambda: module_connection.lookupByName("nobody")) == 42


def test_messages_name_the_object(machine: libvirt.virDomain) -> None:
    with pytest.raises(libvirt.libvirtError, match="vdz"):
        machine.backupBegin(push_xml("<disk name='vdz'/>"), None)
    with pytest.raises(libvirt.libvirtError, match="c7"):
        machine.checkpointLookupByName("c7")
