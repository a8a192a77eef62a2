"""Checkpoints through libvirt-python: create, tree, lists, redefine, delete, size."""

import time
import xml.etree.ElementTree as ET
from pathlib import Path

import libvirt
import pytest
from binding import guest
from documents import checkpoint_xml

DRIVERS = ("memory", "qemu")

REDEFINE = libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE
VALIDATE = libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE
BOTH_DISKS = "<disk name='vda'/><disk name='vdb'/>"
KIB64 = 65536


def create(machine: libvirt.virDomain, *names: str) -> libvirt.virDomainCheckpoint:
    """Checkpoints of both qcow2 disks, one after the other; the last one is returned."""
    made = [machine.checkpointCreateXML(checkpoint_xml(name, disks=BOTH_DISKS)) for name in names]
    return made[-1]


def branch(machine: libvirt.virDomain, name: str, parent: str) -> libvirt.virDomainCheckpoint:
    """A sibling: only redefinition can make one."""
    xml = checkpoint_xml(name, parent=parent, created=1, disks=BOTH_DISKS)
    return machine.checkpointCreateXML(xml, REDEFINE)


def names(checkpoints: list[libvirt.virDomainCheckpoint]) -> list[str]:
    return [checkpoint.getName() for checkpoint in checkpoints]


def sizes(checkpoint: libvirt.virDomainCheckpoint) -> dict[str, int]:
    """The size of each disk that has one."""
    document = ET.fromstring(checkpoint.getXMLDesc(libvirt.VIR_DOMAIN_CHECKPOINT_XML_SIZE))
    disks = document.iterfind("disks/disk[@size]")
    return {disk.attrib["name"]: int(disk.attrib["size"]) for disk in disks}


def test_new_checkpoints_form_a_chain(machine: libvirt.virDomain) -> None:
    leaf = create(machine, "c1", "c2", "c3")
    assert leaf.getParent().getName() == "c2"
    assert leaf.getParent().getParent().getName() == "c1"


def test_the_name_defaults_to_the_time(machine: libvirt.virDomain) -> None:
    before = int(time.time())
    made = machine.checkpointCreateXML(
        f"<domaincheckpoint><disks>{BOTH_DISKS}</disks></domaincheckpoint>"
    )
    assert before <= int(made.getName()) <= int(time.time())


def test_a_handle_knows_its_domain(machine: libvirt.virDomain) -> None:
    found = machine.checkpointLookupByName(create(machine, "c1").getName())
    assert found.getDomain().UUIDString() == machine.UUIDString()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (0, {"c1", "c2", "side", "root"}),
        (libvirt.VIR_DOMAIN_CHECKPOINT_LIST_ROOTS, {"c1", "root"}),
        (libvirt.VIR_DOMAIN_CHECKPOINT_LIST_LEAVES, {"c2", "side", "root"}),
        (libvirt.VIR_DOMAIN_CHECKPOINT_LIST_NO_LEAVES, {"c1"}),
        (libvirt.VIR_DOMAIN_CHECKPOINT_LIST_LEAVES | 8, set()),
        (libvirt.VIR_DOMAIN_CHECKPOINT_LIST_ROOTS | 4, {"root"}),
    ],
)
def test_list_filters(machine: libvirt.virDomain, flags: int, expected: set[str]) -> None:
    create(machine, "c1", "c2")
    branch(machine, "side", "c1")
    machine.checkpointCreateXML(checkpoint_xml("root", created=1, disks=BOTH_DISKS), REDEFINE)
    assert set(names(machine.listAllCheckpoints(flags))) == expected


def test_topological_order_puts_parents_first(machine: libvirt.virDomain) -> None:
    create(machine, "z", "m", "a")
    branch(machine, "b", "z")
    found = names(machine.listAllCheckpoints(libvirt.VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL))
    assert found.index("z") == 0
    assert found.index("m") < found.index("a")


@pytest.mark.parametrize(
    ("flags", "expected"), [(0, {"c2", "side"}), (1, {"c2", "side", "c3"}), (1 | 4, {"c3", "side"})]
)
def test_children(machine: libvirt.virDomain, flags: int, expected: set[str]) -> None:
    create(machine, "c1", "c2", "c3")
    branch(machine, "side", "c1")
    found = machine.checkpointLookupByName("c1").listAllChildren(flags)
    assert set(names(found)) == expected


def test_deleting_the_middle_links_its_neighbours(machine: libvirt.virDomain) -> None:
    leaf = create(machine, "c1", "c2", "c3")
    machine.checkpointLookupByName("c2").delete()
    assert leaf.getParent().getName() == "c1"


@pytest.mark.parametrize(
    ("flag", "left"),
    [
        (libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_CHILDREN, {"c1"}),
        (libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_CHILDREN_ONLY, {"c1", "c2"}),
    ],
)
def test_deleting_children(machine: libvirt.virDomain, flag: int, left: set[str]) -> None:
    create(machine, "c1", "c2", "c3", "c4")
    machine.checkpointLookupByName("c2").delete(flag)
    assert set(names(machine.listAllCheckpoints())) == left


def test_after_deleting_the_current_one_its_parent_is_current(machine: libvirt.virDomain) -> None:
    create(machine, "c1", "c2").delete()
    assert create(machine, "c3").getParent().getName() == "c1"


def test_metadata_only_leaves_the_bitmap(machine: libvirt.virDomain) -> None:
    kept = create(machine, "c1")
    xml = kept.getXMLDesc()
    kept.delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
    assert machine.listAllCheckpoints() == []
    again = machine.checkpointCreateXML(xml, REDEFINE | VALIDATE)
    assert again.getName() == "c1"


def test_redefinition_restores_every_word(machine: libvirt.virDomain) -> None:
    original = create(machine, "c1", "c2").getXMLDesc()
    machine.checkpointLookupByName("c2").delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
    assert machine.checkpointCreateXML(original, REDEFINE).getXMLDesc() == original


def test_redefinition_moves_a_node_with_its_children(machine: libvirt.virDomain) -> None:
    leaf = create(machine, "c1", "c2", "c3")
    moved = checkpoint_xml("c2", created=1, disks=BOTH_DISKS)
    machine.checkpointCreateXML(moved, REDEFINE)
    assert leaf.getParent().getName() == "c2"
    assert set(names(machine.listAllCheckpoints(1))) == {"c1", "c2"}


def test_size_counts_what_the_guest_touched_since(machine: libvirt.virDomain) -> None:
    checkpoint = create(machine, "c1")
    assert sizes(checkpoint) == {"vda": 0, "vdb": 0}
    guest(machine, "vda", "write -P 1 0 4k")
    guest(machine, "vda", "write -P 2 1M 128k")
    assert sizes(checkpoint) == {"vda": 3 * KIB64, "vdb": 0}


def test_size_is_not_kept(machine: libvirt.virDomain) -> None:
    checkpoint = create(machine, "c1")
    sizes(checkpoint)
    assert "size=" not in checkpoint.getXMLDesc()


def test_every_checkpoint_counts_for_itself(machine: libvirt.virDomain) -> None:
    first = create(machine, "c1")
    guest(machine, "vda", "write -P 1 0 64k")
    second = create(machine, "c2")
    guest(machine, "vda", "write -z 1M 64k")
    assert (sizes(first)["vda"], sizes(second)["vda"]) == (2 * KIB64, KIB64)


def test_a_missing_bitmap_has_no_size(machine: libvirt.virDomain) -> None:
    xml = checkpoint_xml("lost", created=1, disks="<disk name='vda'/>")
    assert sizes(machine.checkpointCreateXML(xml, REDEFINE)) == {}


def test_the_document_embeds_the_domain_unless_told_not_to(machine: libvirt.virDomain) -> None:
    checkpoint = create(machine, "c1")
    plain = checkpoint.getXMLDesc(libvirt.VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN)
    assert ET.fromstring(plain).find("domain") is None
    embedded = ET.fromstring(checkpoint.getXMLDesc()).findtext("domain/uuid")
    assert embedded == machine.UUIDString()


def test_checkpoints_outlive_a_stop(machine: libvirt.virDomain) -> None:
    create(machine, "c1")
    machine.destroy()
    assert names(machine.listAllCheckpoints()) == ["c1"]
    machine.create()
    assert create(machine, "c2").getParent().getName() == "c1"


def test_a_running_domain_is_undefined_with_its_checkpoints(machine: libvirt.virDomain) -> None:
    create(machine, "c1")
    machine.undefine()
    assert names(machine.listAllCheckpoints()) == ["c1"]


def test_checkpoints_follow_a_new_name(machine: libvirt.virDomain, short_dir: Path) -> None:
    create(machine, "c1")
    machine.destroy()
    machine.rename(f"{short_dir.name}-renamed")
    machine.create()
    (kept,) = machine.listAllCheckpoints()
    assert sizes(kept) == {"vda": 0, "vdb": 0}


def test_undefining_takes_the_metadata_along(
    module_connection: libvirt.virConnect, machine: libvirt.virDomain
) -> None:
    xml = machine.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    create(machine, "c1")
    machine.destroy()
    machine.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA)
    assert module_connection.defineXML(xml).listAllCheckpoints() == []


def test_domains_are_filtered_by_checkpoints(
    module_connection: libvirt.virConnect, machine: libvirt.virDomain
) -> None:
    create(machine, "c1")
    has = module_connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT)
    none = module_connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_NO_CHECKPOINT)
    assert [found.name() for found in has] == [machine.name()]
    assert machine.name() not in [found.name() for found in none]
