"""virsh checkpoint-dumpxml and checkpoint-edit: the document, its options, and changing it."""

import os
from xml.etree import ElementTree as ET

import pytest
from virsh_guest import Guest

DRIVERS = ("memory", "qemu")


def _dump(guest: Guest, *options: str, status: int = 0) -> str:
    return guest.virsh("checkpoint-dumpxml", "c1", *options, status=status)


@pytest.fixture
def marked(guest: Guest) -> Guest:
    """A running domain with one checkpoint, c1, described as `first one`."""
    guest.virsh("checkpoint-create-as", "c1", "first one")
    return guest


def test_document_has_libvirts_order_of_elements(marked: Guest) -> None:
    root = ET.fromstring(_dump(marked))
    assert [child.tag for child in root] == [
        "name",
        "description",
        "creationTime",
        "disks",
        "domain",
    ]


def test_document_without_domain_to_the_letter(marked: Guest) -> None:
    lines = _dump(marked, "--no-domain").splitlines()
    assert lines[3].startswith("  <creationTime>1")
    del lines[3]
    assert lines == [
        "<domaincheckpoint>",
        "  <name>c1</name>",
        "  <description>first one</description>",
        "  <disks>",
        "    <disk name='vda' checkpoint='bitmap' bitmap='c1'/>",
        "    <disk name='vdb' checkpoint='bitmap' bitmap='c1'/>",
        "    <disk name='sda' checkpoint='no'/>",
        "  </disks>",
        "</domaincheckpoint>",
    ]


def test_parent_stands_before_the_time(marked: Guest) -> None:
    marked.checkpoint("c2")
    root = ET.fromstring(marked.virsh("checkpoint-dumpxml", "c2", "--no-domain"))
    assert [child.tag for child in root] == ["name", "parent", "creationTime", "disks"]
    assert root.findtext("parent/name") == "c1"


def test_embedded_domain_is_the_inactive_form(marked: Guest) -> None:
    domain = ET.fromstring(_dump(marked)).find("domain")
    assert domain is not None
    assert domain.get("id") is None
    assert domain.findtext("uuid") == marked.virsh("domuuid")


def _sizes(guest: Guest, name: str = "c1") -> dict[str, str | None]:
    document = guest.virsh("checkpoint-dumpxml", name, "--size", "--no-domain")
    disks = ET.fromstring(document).iter("disk")
    return {disk.attrib["name"]: disk.get("size") for disk in disks}


def test_size_of_an_untouched_disk_is_zero(marked: Guest) -> None:
    assert _sizes(marked) == {"vda": "0", "vdb": "0", "sda": None}


def test_size_counts_whole_clusters(marked: Guest) -> None:
    marked.monitor('qemu-io vda "write -P 0xab 65535 2"')
    assert _sizes(marked)["vda"] == str(2 * 65536)


def test_size_is_not_stored(marked: Guest) -> None:
    _sizes(marked)
    assert "size=" not in _dump(marked, "--no-domain")


def test_older_checkpoints_see_all_writes_since(marked: Guest) -> None:
    marked.monitor('qemu-io vda "write -P 1 0 64k"')
    marked.checkpoint("c2")
    marked.monitor('qemu-io vda "write -P 2 1M 64k"')
    assert (_sizes(marked)["vda"], _sizes(marked, "c2")["vda"]) == ("131072", "65536")


def test_size_needs_a_running_domain(marked: Guest) -> None:
    marked.virsh("destroy")
    assert "Requested operation is not valid: " in _dump(marked, "--size", status=1)
    assert _dump(marked)


def test_size_of_a_lost_bitmap_is_left_out(guest: Guest) -> None:
    guest.redefine("c1")
    assert _sizes(guest) == {"vda": None}


def test_dump_of_a_redefined_checkpoint_has_no_domain(guest: Guest) -> None:
    guest.redefine("c1")
    assert "<domain " not in _dump(guest)


def test_xpath(marked: Guest) -> None:
    assert _dump(marked, "--xpath", "/domaincheckpoint/disks/disk[3]/@name") == 'name="sda"'


def test_xpath_wrapped(marked: Guest) -> None:
    wrapped = _dump(marked, "--xpath", "/domaincheckpoint/disks/disk", "--wrap")
    assert [node.get("name") for node in ET.fromstring(wrapped)] == ["vda", "vdb", "sda"]


def _graphics(spare: Guest) -> Guest:
    graphics = "<graphics type='vnc' port='-1' passwd='s3cret'/></devices>"
    document = spare.virsh("dumpxml").replace("</devices>", graphics)
    spare.define(document)
    spare.virsh("start")
    spare.checkpoint("c1")
    return spare


def test_passwords_only_with_security_info(spare: Guest) -> None:
    guest = _graphics(spare)
    assert "s3cret" not in _dump(guest)
    assert "s3cret" in _dump(guest, "--security-info")


def test_security_info_is_refused_read_only(marked: Guest) -> None:
    answer = _dump(marked.read_only, "--security-info", status=1)
    assert answer.startswith("error: operation forbidden: ")


def test_other_forms_are_allowed_read_only(marked: Guest) -> None:
    assert "<name>c1</name>" in _dump(marked.read_only)


def _edit(guest: Guest, command: str, *, status: int = 0) -> str:
    environment = {"PATH": os.defpath, "EDITOR": command}
    return guest.virsh("checkpoint-edit", "c1", status=status, environment=environment)


def test_edit_without_a_change(marked: Guest) -> None:
    assert _edit(marked, "true") == "Checkpoint c1 XML configuration not changed."


def test_edit_redefines(marked: Guest) -> None:
    assert _edit(marked, "sed -i s/first/second/") == "Checkpoint c1 edited."
    assert "<description>second one</description>" in _dump(marked)


def test_edit_cannot_rename(marked: Guest) -> None:
    answer = _edit(marked, "sed -i s/<name>c1</<name>c2</", status=1)
    assert "error: cannot change checkpoint name" in answer or "c2" in answer
    assert marked.checkpoints() == ["c1"]


def test_edit_keeps_the_tree(marked: Guest) -> None:
    marked.checkpoint("c2")
    _edit(marked, "sed -i s/first/second/")
    assert marked.virsh("checkpoint-parent", "c2") == "c1"
