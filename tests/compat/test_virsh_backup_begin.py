"""virsh backup-begin and backup-dumpxml: every option, default and refusal; nothing left behind."""

import re
from xml.etree import ElementTree as ET

import pytest
from tools import free_port, run, unix_uri
from virsh_guest import Guest

DRIVERS = ("memory", "qemu")

SCHEMA = "XML document failed to validate against schema: "
CONFIG = "unsupported configuration: "


def _disks(guest: Guest) -> list[dict[str, str]]:
    root = ET.fromstring(guest.virsh("backup-dumpxml"))
    return [disk.attrib for disk in root.iter("disk")]


def _begin(guest: Guest, xml: str, *options: str, status: int = 0) -> str:
    return guest.virsh("backup-begin", xml, *options, status=status)


def _files(guest: Guest) -> list[str]:
    """Images in the guest's folder, without what the test itself wrote."""
    return sorted(p.name for p in guest.folder.iterdir() if p.suffix not in (".xml", ".sock"))


def _scratch(guest: Guest, disk: str, attributes: str = "") -> str:
    return f"<disk name='{disk}' {attributes}><scratch file='{guest.folder}/s.{disk}'/></disk>"


def test_begin_without_a_document_pushes_every_disk(guest: Guest) -> None:
    before = _files(guest)
    assert guest.virsh("backup-begin") == "Backup started"
    assert guest.completed_job()["success"] == "1"
    new = sorted(set(_files(guest)) - set(before) - {"vda.qcow2", "vdb.qcow2"})
    assert [re.sub(r"\d+$", "N", name) for name in new] == ["vda.qcow2.N", "vdb.qcow2.N"]


def test_generated_names_end_in_the_checkpoint(guest: Guest) -> None:
    guest.begin_pull(guest.checkpoint_xml("c1"))
    assert {"vda.qcow2.c1", "vdb.qcow2.c1"} <= set(_files(guest))
    guest.virsh("domjobabort")


def test_pull_document_to_the_letter(guest: Guest) -> None:
    _begin(guest, guest.pull_xml(disks=_scratch(guest, "vda", "exportname='v'")))
    text = re.sub(r"index='\d+'", "index='N'", guest.virsh("backup-dumpxml"))
    assert text.splitlines() == [
        "<domainbackup mode='pull'>",
        f"  <server transport='unix' socket='{guest.folder}/nbd.sock'/>",
        "  <disks>",
        "    <disk name='vda' backup='yes' type='file' backupmode='full' exportname='v' index='N'>",
        "      <driver type='qcow2'/>",
        f"      <scratch file='{guest.folder}/s.vda'/>",
        "    </disk>",
        "    <disk name='vdb' backup='no'/>",
        "    <disk name='sda' backup='no'/>",
        "  </disks>",
        "</domainbackup>",
    ]


def test_incremental_pull_document_to_the_letter(guest: Guest) -> None:
    guest.checkpoint("c1")
    _begin(guest, guest.pull_xml("<incremental>c1</incremental>", disks=_scratch(guest, "vdb")))
    lines = re.sub(r"index='\d+'", "index='N'", guest.virsh("backup-dumpxml")).splitlines()
    assert lines[1] == "  <incremental>c1</incremental>"
    assert lines[4] == (
        "    <disk name='vdb' backup='yes' type='file' backupmode='incremental' incremental='c1'"
        " exportname='vdb' exportbitmap='backup-vdb' index='N'>"
    )


def test_pull_selects_writable_disks_by_default(guest: Guest) -> None:
    guest.begin_pull()
    assert [(disk["name"], disk["backup"]) for disk in _disks(guest)] == [
        ("vda", "yes"),
        ("vdb", "yes"),
        ("sda", "no"),
    ]


def test_pull_serves_on_a_unix_socket(guest: Guest) -> None:
    guest.begin_pull()
    size = run("nbdinfo", "--size", unix_uri(guest.folder / "nbd.sock", "vdb"))
    assert int(size) == int(guest.virsh("domblkinfo", "vdb").split()[1])


def test_pull_serves_on_tcp(guest: Guest) -> None:
    port = free_port()
    server = f"<server transport='tcp' name='127.0.0.1' port='{port}'/>"
    _begin(guest, guest.file(f"<domainbackup mode='pull'>{server}</domainbackup>"))
    assert f"port='{port}'" in guest.virsh("backup-dumpxml")
    run("nbdinfo", "--can", "connect", f"nbd://127.0.0.1:{port}/vda")


def test_pull_with_chosen_names(guest: Guest) -> None:
    guest.checkpoint("c1")
    disk = _scratch(guest, "vda", "exportname='first' exportbitmap='changed'")
    _begin(guest, guest.pull_xml("<incremental>c1</incremental>", disks=disk))
    told = run("nbdinfo", unix_uri(guest.folder / "nbd.sock", "first"))
    assert "qemu:dirty-bitmap:changed" in told


def test_begin_with_a_checkpoint_creates_both(guest: Guest) -> None:
    _begin(guest, guest.pull_xml(), guest.checkpoint_xml("c1"))
    assert guest.checkpoints() == ["c1"]
    assert guest.virsh("domjobabort") == ""
    guest.wait_for_job_end()
    assert guest.checkpoints() == ["c1"]


def test_begin_with_named_options(guest: Guest) -> None:
    documents = ["--backupxml", guest.pull_xml(), "--checkpointxml", guest.checkpoint_xml("c1")]
    assert guest.virsh("backup-begin", *documents) == "Backup started"


def test_incremental_element_is_the_default_of_all_disks(guest: Guest) -> None:
    guest.checkpoint("c1")
    _begin(guest, guest.pull_xml("<incremental>c1</incremental>"))
    modes = [(disk.get("backupmode"), disk.get("incremental")) for disk in _disks(guest)]
    assert modes == [("incremental", "c1"), ("incremental", "c1"), (None, None)]


def test_disk_overrides_the_incremental_element(guest: Guest) -> None:
    guest.checkpoint("c1", "c2")
    disks = _scratch(guest, "vda", "incremental='c2'") + _scratch(guest, "vdb")
    _begin(guest, guest.pull_xml("<incremental>c1</incremental>", disks=disks))
    assert [disk.get("incremental") for disk in _disks(guest)] == ["c2", "c1", None]


def test_disk_can_be_full_in_an_incremental_backup(guest: Guest) -> None:
    guest.checkpoint("c1")
    disks = _scratch(guest, "vda", "backupmode='full'") + _scratch(guest, "vdb")
    _begin(guest, guest.pull_xml("<incremental>c1</incremental>", disks=disks))
    modes = [(disk.get("backupmode"), disk.get("exportbitmap")) for disk in _disks(guest)]
    assert modes == [("full", None), ("incremental", "backup-vdb"), (None, None)]


def test_disk_can_be_incremental_in_a_full_backup(guest: Guest) -> None:
    guest.checkpoint("c1")
    disk = _scratch(guest, "vda", "backupmode='incremental' incremental='c1'")
    _begin(guest, guest.pull_xml(disks=disk))
    assert _disks(guest)[0]["backupmode"] == "incremental"


def test_incremental_without_a_checkpoint_names_the_disk(guest: Guest) -> None:
    disk = _scratch(guest, "vdb", "backupmode='incremental'")
    answer = _begin(guest, guest.pull_xml(disks=disk), status=1)
    assert answer.startswith(f"error: {CONFIG}")
    assert "vdb" in answer


def test_empty_incremental_means_full(guest: Guest) -> None:
    _begin(guest, guest.pull_xml("<incremental/>"))
    assert _disks(guest)[0]["backupmode"] == "full"


def test_dump_with_xpath(guest: Guest) -> None:
    guest.begin_pull()
    names = guest.virsh("backup-dumpxml", "--xpath", "//disk/@name")
    assert names.split() == ['name="vda"', 'name="vdb"', 'name="sda"']


def test_dump_with_xpath_wrapped(guest: Guest) -> None:
    guest.begin_pull()
    wrapped = ET.fromstring(guest.virsh("backup-dumpxml", "--xpath", "//disk", "--wrap"))
    assert [disk.get("name") for disk in wrapped] == ["vda", "vdb", "sda"]


def test_dump_without_a_backup(guest: Guest) -> None:
    answer = guest.virsh("backup-dumpxml", status=1)
    assert answer.startswith("error: Domain backup job id not found: ")


def test_dump_of_an_inactive_domain(spare: Guest) -> None:
    answer = spare.virsh("backup-dumpxml", status=1)
    assert answer.startswith("error: Domain backup job id not found: ")


def test_dump_is_allowed_read_only(guest: Guest) -> None:
    guest.begin_pull()
    assert guest.read_only.virsh("backup-dumpxml") == guest.virsh("backup-dumpxml")


def test_begin_refuses_an_inactive_domain(spare: Guest) -> None:
    answer = spare.virsh("backup-begin", status=1)
    assert answer.startswith("error: Operation not supported: ")


def test_second_backup_is_refused(guest: Guest) -> None:
    guest.begin_pull()
    answer = guest.virsh("backup-begin", status=1)
    assert answer.startswith("error: Timed out during operation: ")


UNIX = "<server transport='unix' socket='/nowhere/nbd.sock'/>"


def _push(disks: str) -> str:
    return f"<domainbackup><disks>{disks}</disks></domainbackup>"


def _pull(inside: str) -> str:
    return f"<domainbackup mode='pull'>{inside}</domainbackup>"


REFUSED = [
    ("<domainbackup", "(domainbackup document):1: "),
    ("<domain/>", "XML error: "),
    ("<domainbackup mode='pull'/>", SCHEMA),
    ("<domainbackup mode='other'/>", SCHEMA),
    (f"<domainbackup>{UNIX}</domainbackup>", SCHEMA),
    ("<domainbackup><disks/></domainbackup>", SCHEMA),
    (_push("<disk name='vda' index='1'/>"), SCHEMA),
    (_push("<disk name='vdq' backup='no'/>"), CONFIG),
    (_push("<disk name='vda' backup='no'/>"), CONFIG),
    (_push("<disk name='vda' backup='no'/>" * 2), CONFIG),
    (_push("<disk name='sda' type='file'><target file='/nowhere/x'/></disk>"), CONFIG),
    (_pull("<server transport='tcp' name='127.0.0.1'/>"), "Operation not supported: "),
    (_pull(f"<incremental>zz</incremental>{UNIX}"), "Domain checkpoint not found: "),
    (_pull(UNIX), "internal error: "),
]


@pytest.mark.parametrize(("document", "error"), REFUSED)
def test_begin_refuses_and_leaves_nothing(guest: Guest, document: str, error: str) -> None:
    before = _files(guest)
    path = guest.file(document)
    answer = guest.virsh("backup-begin", path, guest.checkpoint_xml("c1"), status=1)
    assert f"error: {error}" in answer
    assert guest.checkpoints() == []
    assert _files(guest) == before
    assert guest.job_ended()


def test_refused_checkpoint_refuses_the_backup(guest: Guest) -> None:
    guest.checkpoint("c1")
    answer = _begin(guest, guest.pull_xml(), guest.checkpoint_xml("c1"), status=1)
    assert answer.startswith("error: operation failed: ")
    assert guest.job_ended()


def test_incremental_from_a_lost_bitmap(guest: Guest) -> None:
    guest.redefine("lost")
    answer = _begin(guest, guest.pull_xml("<incremental>lost</incremental>"), status=1)
    assert answer.startswith("error: checkpoint inconsistent: ")


def test_existing_file_is_not_overwritten(guest: Guest) -> None:
    scratch = guest.folder / "s.vda"
    scratch.write_text("mine")
    answer = _begin(guest, guest.pull_xml(disks=_scratch(guest, "vda")), status=1)
    assert answer.startswith("error: invalid argument: ")
    assert scratch.read_text() == "mine"


def test_missing_folder_is_a_system_error(guest: Guest) -> None:
    disk = "<disk name='vda' type='file'><target file='/nowhere/at/all'/></disk>"
    answer = _begin(guest, guest.push_xml(disk), status=1)
    assert "No such file or directory" in answer
    assert "/nowhere/at/all" in answer


def test_reuse_external_takes_an_existing_file(guest: Guest) -> None:
    size = guest.virsh("domblkinfo", "vda").split()[1]
    target = guest.folder / "t.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", target, size)
    disk = f"<disk name='vda' type='file'><target file='{target}'/></disk>"
    _begin(guest, guest.push_xml(disk), "--reuse-external")
    assert guest.completed_job()["success"] == "1"
    run("qemu-img", "check", "-q", target)


def test_reuse_external_wants_the_file(guest: Guest) -> None:
    disk = f"<disk name='vda' type='file'><target file='{guest.folder}/t'/></disk>"
    answer = _begin(guest, guest.push_xml(disk), "--reuse-external", status=1)
    assert "No such file or directory" in answer


def test_reused_scratch_is_kept_at_the_end(guest: Guest) -> None:
    size = guest.virsh("domblkinfo", "vda").split()[1]
    run("qemu-img", "create", "-q", "-f", "qcow2", guest.folder / "s.vda", size)
    _begin(guest, guest.pull_xml(disks=_scratch(guest, "vda")), "--reuse-external")
    guest.virsh("domjobabort")
    guest.wait_for_job_end()
    assert (guest.folder / "s.vda").exists()


@pytest.mark.parametrize("form", ["qcow2", "raw"])
def test_push_writes_the_chosen_format(guest: Guest, form: str) -> None:
    guest.monitor('qemu-io vdb "write -P 0xab 0 64k"')
    target = f"<target file='{guest.folder}/t'/><driver type='{form}'/>"
    _begin(guest, guest.push_xml(f"<disk name='vdb' type='file'>{target}</disk>"))
    assert guest.completed_job()["success"] == "1"
    assert f"file format: {form}" in run("qemu-img", "info", guest.folder / "t")
