"""virsh checkpoint-create and checkpoint-create-as: every option, default and refusal."""

import re
import time
from xml.etree import ElementTree as ET

import pytest
from virsh_guest import Guest

DRIVERS = ("memory", "qemu")

TIME = "<creationTime>1700000000</creationTime>"


def _create(guest: Guest, inside: str, *options: str, status: int = 0) -> str:
    path = guest.file(f"<domaincheckpoint>{inside}</domaincheckpoint>")
    return guest.virsh("checkpoint-create", path, *options, status=status)


def _disks(guest: Guest, name: str) -> list[dict[str, str]]:
    document = guest.virsh("checkpoint-dumpxml", name, "--no-domain")
    return [disk.attrib for disk in ET.fromstring(document).iter("disk")]


def _bitmap(disk: str, name: str) -> dict[str, str]:
    return {"name": disk, "checkpoint": "bitmap", "bitmap": name}


def _no(disk: str) -> dict[str, str]:
    return {"name": disk, "checkpoint": "no"}


def test_create_without_a_file_takes_the_time_as_name(guest: Guest) -> None:
    before = int(time.time())
    answer = guest.virsh("checkpoint-create")
    found = re.fullmatch(r"Domain checkpoint (\d+) created", answer)
    assert found
    assert before <= int(found[1]) <= int(time.time())


def test_create_takes_the_name_of_the_document(guest: Guest) -> None:
    assert "Domain checkpoint c1 created from" in _create(guest, "<name>c1</name>")


def test_create_takes_every_writable_disk_by_default(guest: Guest) -> None:
    guest.checkpoint("c1")
    assert _disks(guest, "c1") == [_bitmap("vda", "c1"), _bitmap("vdb", "c1"), _no("sda")]


def test_create_takes_only_listed_disks(guest: Guest) -> None:
    _create(guest, "<name>c1</name><disks><disk name='vdb'/></disks>")
    assert _disks(guest, "c1") == [_no("vda"), _bitmap("vdb", "c1"), _no("sda")]


def test_create_finds_a_disk_by_its_source_path(guest: Guest) -> None:
    path = guest.folder / "vdb.qcow2"
    _create(guest, f"<name>c1</name><disks><disk name='{path}'/></disks>")
    assert _disks(guest, "c1")[1] == _bitmap("vdb", "c1")


def test_create_accepts_that_no_disk_is_tracked(guest: Guest) -> None:
    _create(guest, "<name>c1</name><disks><disk name='vda' checkpoint='no'/></disks>")
    assert _disks(guest, "c1") == [_no("vda"), _no("vdb"), _no("sda")]


def test_create_ignores_the_given_parent_and_time(guest: Guest) -> None:
    guest.checkpoint("c1")
    _create(guest, f"<name>c2</name><parent><name>zz</name></parent>{TIME}")
    document = guest.virsh("checkpoint-dumpxml", "c2", "--no-domain")
    assert guest.virsh("checkpoint-parent", "c2") == "c1"
    assert "1700000000" not in document


def test_create_keeps_the_description(guest: Guest) -> None:
    _create(guest, "<name>c1</name><description>before &lt;upgrade&gt;</description>")
    root = ET.fromstring(guest.virsh("checkpoint-dumpxml", "c1", "--no-domain"))
    assert root.findtext("description") == "before <upgrade>"


def test_create_as_with_name_and_description(guest: Guest) -> None:
    answer = guest.virsh("checkpoint-create-as", "c1", "first one")
    assert answer == "Domain checkpoint c1 created"
    description = guest.virsh("checkpoint-dumpxml", "c1", "--xpath", "//description[1]/text()")
    assert "first one" in description


def test_create_as_without_a_name(guest: Guest) -> None:
    answer = guest.virsh("checkpoint-create-as")
    assert re.fullmatch(r"Domain checkpoint \d+ created", answer)


def test_create_as_with_diskspecs(guest: Guest) -> None:
    specs = ["--diskspec", "vda,checkpoint=no", "--diskspec", "vdb,checkpoint=bitmap,bitmap=c1"]
    guest.virsh("checkpoint-create-as", "c1", *specs)
    assert _disks(guest, "c1") == [_no("vda"), _bitmap("vdb", "c1"), _no("sda")]


def test_create_as_print_xml_creates_nothing(guest: Guest) -> None:
    specs = ["--diskspec", "vda,checkpoint=bitmap", "--diskspec", "vdb,checkpoint=no"]
    printed = guest.virsh("checkpoint-create-as", "c1", "text", *specs, "--print-xml")
    assert ET.fromstring(printed).findtext("name") == "c1"
    assert guest.checkpoints() == []


def test_printed_xml_can_be_created(guest: Guest) -> None:
    printed = guest.virsh("checkpoint-create-as", "c1", "--diskspec", "vda", "--print-xml")
    guest.virsh("checkpoint-create", guest.file(printed))
    assert _disks(guest, "c1")[0] == _bitmap("vda", "c1")


CREATE_REFUSALS = [
    ("c1 --diskspec vdq", "unsupported configuration: "),
    ("c1 --diskspec sda", "unsupported configuration: "),
    ("c1 --diskspec vda --diskspec vda", "unsupported configuration: "),
    ("c1 --diskspec vda,bitmap=other", "unsupported configuration: "),
    ("c1 --diskspec vda,checkpoint=maybe", "XML document failed to validate against schema: "),
    ("a/b", "XML document failed to validate against schema: "),
    (".hidden", "XML document failed to validate against schema: "),
]


@pytest.mark.parametrize(("arguments", "error"), CREATE_REFUSALS)
@pytest.mark.only("memory")
def test_create_as_refuses(guest: Guest, arguments: str, error: str) -> None:
    answer = guest.virsh("checkpoint-create-as", *arguments.split(), status=1)
    assert f"error: {error}" in answer
    assert guest.checkpoints() == []


def test_quiesce_is_refused_as_by_the_qemu_driver(guest: Guest) -> None:
    assert "0x2" in guest.virsh("checkpoint-create-as", "c1", "--quiesce", status=1)
    assert "0x2" in guest.virsh("checkpoint-create", "--quiesce", status=1)
    assert guest.checkpoints() == []


DOCUMENT_REFUSALS = [
    ("<name>c1</name><disks/>", "XML document failed to validate against schema: "),
    ("<name/>", "XML document failed to validate against schema: "),
    ("<active>1</active>", "XML document failed to validate against schema: "),
    ("<creationTime>-1</creationTime>", "XML document failed to validate against schema: "),
    ("<name>c1</name>&", "(domaincheckpoint document):1: "),
    (
        "<disks><disk name='vda' checkpoint='no' bitmap='b'/></disks>",
        "XML document failed to validate against schema: ",
    ),
]


@pytest.mark.parametrize(("inside", "error"), DOCUMENT_REFUSALS)
@pytest.mark.only("memory")
def test_create_refuses_documents(guest: Guest, inside: str, error: str) -> None:
    assert f"error: {error}" in _create(guest, inside, status=1)


def test_create_refuses_another_root_element(guest: Guest) -> None:
    path = guest.file("<domainsnapshot/>")
    assert "error: XML error: " in guest.virsh("checkpoint-create", path, status=1)


def test_create_refuses_a_name_in_use(guest: Guest) -> None:
    guest.checkpoint("c1")
    answer = guest.virsh("checkpoint-create-as", "c1", status=1)
    assert answer.startswith("error: operation failed: ")
    assert "c1" in answer


def test_create_refuses_an_inactive_domain(spare: Guest) -> None:
    answer = spare.virsh("checkpoint-create-as", "c1", status=1)
    assert answer.startswith("error: Operation not supported: ")


def test_create_works_on_a_paused_domain(guest: Guest) -> None:
    guest.virsh("suspend")
    guest.checkpoint("c1")
    assert guest.checkpoints() == ["c1"]


def _raw_guest(spare: Guest) -> Guest:
    document = spare.virsh("dumpxml", "--inactive").replace("'qcow2'", "'raw'", 1)
    spare.define(document)
    spare.virsh("start")
    return spare


def test_create_refuses_raw_disks_by_name(spare: Guest) -> None:
    answer = _raw_guest(spare).virsh("checkpoint-create-as", "c1", status=1)
    assert "unsupported configuration: " in answer
    assert "vda" in answer


def test_create_leaves_unlisted_raw_disks_alone(spare: Guest) -> None:
    _raw_guest(spare).virsh("checkpoint-create-as", "c1", "--diskspec", "vdb")
    assert _disks(spare, "c1")[0] == _no("vda")


def _dumped(guest: Guest, name: str, *options: str) -> str:
    return guest.file(guest.virsh("checkpoint-dumpxml", name, *options), f"{name}.dump")


@pytest.mark.parametrize("form", [["--no-domain"], ["--security-info"], []])
def test_redefine_takes_back_what_was_dumped(guest: Guest, form: list[str]) -> None:
    guest.checkpoint("c1")
    path = _dumped(guest, "c1", *form)
    guest.virsh("checkpoint-delete", "c1", "--metadata")
    guest.virsh("checkpoint-create", path, "--redefine")
    assert guest.checkpoints() == ["c1"]


def test_redefine_keeps_time_and_description(guest: Guest) -> None:
    inside = f"<name>c1</name><description>old</description>{TIME}<disks><disk name='vda'/></disks>"
    _create(guest, inside, "--redefine")
    document = guest.virsh("checkpoint-dumpxml", "c1", "--no-domain")
    assert "<creationTime>1700000000</creationTime>" in document
    assert "<description>old</description>" in document


def test_redefine_of_an_existing_one_replaces_it(guest: Guest) -> None:
    guest.checkpoint("c1", "c2")
    _create(guest, f"<name>c1</name><description>new</description>{TIME}", "--redefine")
    assert guest.checkpoints() == ["c1", "c2"]
    assert guest.virsh("checkpoint-parent", "c2") == "c1"


def test_redefine_works_on_an_inactive_domain(spare: Guest) -> None:
    spare.redefine("c1")
    assert spare.checkpoints() == ["c1"]


def test_redefine_makes_branches(guest: Guest) -> None:
    guest.redefine("root")
    guest.redefine("left", "root")
    guest.redefine("right", "root")
    assert guest.checkpoints("--from", "root") == ["left", "right"]


def test_next_checkpoint_follows_the_redefined_current_one(guest: Guest) -> None:
    guest.redefine("old")
    guest.checkpoint("new")
    assert guest.virsh("checkpoint-parent", "new") == "old"


REDEFINE_REFUSALS = [
    (TIME, "XML error: "),
    ("<name>c2</name>", "internal error: "),
    (f"<name>c2</name>{TIME}<parent><name>zz</name></parent>", "invalid argument: "),
    (f"<name>c2</name>{TIME}<parent><name>c2</name></parent>", "invalid argument: "),
    (f"<name>c1</name>{TIME}<parent><name>child</name></parent>", "invalid argument: "),
]


@pytest.mark.parametrize(("inside", "error"), REDEFINE_REFUSALS)
def test_redefine_refuses(guest: Guest, inside: str, error: str) -> None:
    guest.redefine("c1")
    guest.redefine("child", "c1")
    assert f"error: {error}" in _create(guest, inside, "--redefine", status=1)
    assert guest.checkpoints() == ["c1", "child"]


def test_redefine_refuses_another_domains_document(guest: Guest) -> None:
    guest.checkpoint("c1")
    text = guest.virsh("checkpoint-dumpxml", "c1")
    path = guest.file(text.replace(guest.virsh("domuuid"), "00000000-0000-4000-8000-000000000001"))
    answer = guest.virsh("checkpoint-create", path, "--redefine", status=1)
    assert answer.startswith("error: invalid argument: ")


def test_redefine_validate_accepts_a_true_checkpoint(guest: Guest) -> None:
    guest.checkpoint("c1")
    path = _dumped(guest, "c1")
    guest.virsh("checkpoint-delete", "c1", "--metadata")
    guest.virsh("checkpoint-create", path, "--redefine", "--redefine-validate")
    assert guest.checkpoints() == ["c1"]


def test_redefine_validate_refuses_a_missing_bitmap(guest: Guest) -> None:
    inside = f"<name>c1</name>{TIME}<disks><disk name='vda'/></disks>"
    answer = _create(guest, inside, "--redefine", "--redefine-validate", status=1)
    assert answer.startswith("error: checkpoint inconsistent: ")
    assert guest.checkpoints() == []


def test_redefine_validate_needs_a_running_domain(spare: Guest) -> None:
    inside = f"<name>c1</name>{TIME}<disks><disk name='vda'/></disks>"
    answer = _create(spare, inside, "--redefine", "--redefine-validate", status=1)
    assert answer.startswith("error: Requested operation is not valid: ")


def test_virsh_wants_redefine_with_redefine_validate(guest: Guest) -> None:
    assert "--redefine is required" in _create(guest, "", "--redefine-validate", status=1)


def test_redefine_excludes_quiesce(guest: Guest) -> None:
    inside = f"<name>c1</name>{TIME}"
    answer = _create(guest, inside, "--redefine", "--quiesce", status=1)
    assert "CREATE_REDEFINE" in answer
    assert "CREATE_QUIESCE" in answer


def test_lost_metadata_leaves_the_bitmap_in_the_way(guest: Guest) -> None:
    guest.checkpoint("c1")
    guest.virsh("checkpoint-delete", "c1", "--metadata")
    answer = guest.virsh("checkpoint-create-as", "c1", status=1)
    assert answer.startswith("error: internal error: ")
    assert guest.checkpoints() == []
