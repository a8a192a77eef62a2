"""The domain document: what is read, what survives, what a change yields."""

from pathlib import Path
from uuid import UUID

import pytest
from lxml import etree

from virtbackupd.drivers.definitions.domain import DomainDefinition, nested_domain
from virtbackupd.drivers.definitions.tree import attribute_pairs
from virtbackupd.drivers.errors import XmlDetail, XmlError
from virtbackupd.drivers.limits import DriverLimits

SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.xml"))
MINIMAL = "<domain type='test'><name>d</name><memory>2048</memory></domain>"

ADDED = {"uuid", "currentMemory", "vcpu", "readonly", "devices"}
"""Elements that may be new in the output."""
REWRITTEN = {"memory", "currentMemory", "uuid"}
"""Elements whose text is put into canonical form."""


def sample(name: str) -> DomainDefinition:
    return DomainDefinition.parse((Path(__file__).parent / "samples" / f"{name}.xml").read_text())


def every_sample() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)


def texts(text: str) -> list[tuple[str, str]]:
    """Tag and text of each element that is not ours to add."""
    root = etree.fromstring(text.encode())
    found = [(str(node.tag), (node.text or "").strip()) for node in root.iter()]
    return [(tag, "" if tag in REWRITTEN else text) for tag, text in found if tag not in ADDED]


def attributes(text: str) -> set[tuple[str, str, str]]:
    """Tag, name and value of each attribute that is not ours to change."""
    root = etree.fromstring(text.encode())
    pairs = [(str(node.tag), *pair) for node in root.iter("*") for pair in attribute_pairs(node)]
    return {pair for pair in pairs if pair[:2] != ("domain", "id") and pair[1] != "unit"}


@every_sample()
def test_elements_that_are_not_modelled_survive(path: Path) -> None:
    before = path.read_text()
    assert texts(DomainDefinition.parse(before).to_xml()) == texts(before)


@every_sample()
def test_attributes_that_are_not_modelled_survive(path: Path) -> None:
    before = path.read_text()
    assert attributes(before) <= attributes(DomainDefinition.parse(before).to_xml())


@every_sample()
def test_the_output_is_canonical(path: Path) -> None:
    once = DomainDefinition.parse(path.read_text()).to_xml()
    assert DomainDefinition.parse(once).to_xml() == once


@every_sample()
def test_reading_the_output_gives_the_same_values(path: Path) -> None:
    first = DomainDefinition.parse(path.read_text())
    assert DomainDefinition.parse(first.to_xml(id=3)) == first


@every_sample()
def test_nesting_changes_only_indentation(path: Path) -> None:
    text = DomainDefinition.parse(path.read_text()).to_xml()
    nested = nested_domain(text, secure=True)
    assert nested.startswith("  <domain ")
    assert DomainDefinition.parse(nested).to_xml() == text


def test_a_machine_of_virt_install() -> None:
    found = sample("virt_install_kvm")
    assert found.uuid_text == "9b8a2f64-5d10-4c8a-9f5c-1c8b8a1f0e11"
    assert (found.type, found.os_type, found.arch) == ("kvm", "hvm", "x86_64")
    assert (found.machine, found.emulator) == ("pc-q35-7.2", "/usr/bin/qemu-system-x86_64")
    assert (found.memory, found.vcpus, found.max_vcpus) == (2097152, 2, 2)
    assert [disk.target for disk in found.disks] == ["vda", "sda"]
    assert found.has_guest_agent
    assert found.interfaces[0].source == "default"


def test_a_machine_of_virt_manager() -> None:
    found = sample("virt_manager_windows")
    assert found.uuid == UUID("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0").bytes
    assert (found.name, found.title) == ("win 2022 & friends", "Domain controller <main>")
    assert found.description == "First line\n  second line, indented\nlast \"line\" with 'quotes'"
    assert (found.memory, found.current_memory) == (8 * 1024**2, 6 * 1024**2)
    assert (found.vcpus, found.max_vcpus) == (4, 8)


def test_a_machine_with_layers() -> None:
    found = sample("layered_images")
    assert found.memory == 524289
    assert [layer.source for layer in found.disks[0].backing] == ["/dev/vg/base", "rbd/pool/golden"]
    assert [disk.bus for disk in found.disks] == ["virtio", "virtio", "ide"]
    assert (found.serials[0].port, found.serials[0].alias) == (1, "ua-debug")
    assert found.consoles[0].kind == "console"


def test_defaults_of_a_minimal_domain() -> None:
    found = DomainDefinition.parse(MINIMAL)
    assert (found.vcpus, found.current_memory, found.os_type) == (1, 2048, "hvm")
    assert (found.on_poweroff, found.on_reboot, found.on_crash) == ("destroy", "restart", "destroy")
    assert (found.disks, found.has_guest_agent, found.title) == ((), False, None)


def test_the_minimal_output() -> None:
    found = DomainDefinition.parse(MINIMAL)
    assert found.to_xml() == (
        "<domain type='test'>\n"
        "  <name>d</name>\n"
        f"  <uuid>{found.uuid_text}</uuid>\n"
        "  <memory unit='KiB'>2048</memory>\n"
        "  <currentMemory unit='KiB'>2048</currentMemory>\n"
        "  <vcpu placement='static'>1</vcpu>\n"
        "  <devices/>\n"
        "</domain>\n"
    )


def test_validate_is_accepted() -> None:
    assert DomainDefinition.parse(MINIMAL, validate=True).name == "d"


def test_the_live_form_has_the_id_behind_the_type() -> None:
    text = sample("virt_manager_windows").to_xml(id=12)
    assert text.startswith("<domain type='kvm' id='12' xmlns:qemu=")


@pytest.mark.parametrize(("id_", "inactive"), [(None, False), (12, True)])
def test_the_inactive_form_has_no_id(id_: int | None, *, inactive: bool) -> None:
    text = sample("virt_manager_windows").to_xml(id=id_, inactive=inactive)
    assert text.startswith("<domain type='kvm' xmlns:qemu=")


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("virt_install_kvm", "s3cret"),
        ("virt_install_kvm", "passwdValidTo"),
        ("virt_manager_windows", "12345678"),
        ("layered_images", "topsecret"),
    ],
)
def test_secrets_are_shown_only_on_demand(name: str, secret: str) -> None:
    found = sample(name)
    assert secret in found.to_xml(secure=True)
    assert secret not in found.to_xml(secure=False)
    assert secret not in nested_domain(found.to_xml(), secure=False)


def test_texts_are_cached() -> None:
    found = DomainDefinition.parse(MINIMAL)
    assert found.to_xml() is found.to_xml(inactive=True)


@pytest.mark.parametrize("name", ["vda", "/images/top.qcow2"])
def test_finding_a_disk(name: str) -> None:
    disk = sample("layered_images").find_disk(name)
    assert disk is not None
    assert disk.target == "vda"


@pytest.mark.parametrize("name", ["vdz", "images/top.qcow2", "https/disk.iso", "default/v1", ""])
def test_finding_no_disk(name: str) -> None:
    assert sample("layered_images").find_disk(name) is None


def test_a_path_of_two_disks_finds_none() -> None:
    disks = "".join(f"<disk><source file='/a'/><target dev='{t}'/></disk>" for t in ("vda", "vdb"))
    found = DomainDefinition.parse(
        f"<domain type='test'><name>d</name><memory>1</memory><devices>{disks}</devices></domain>"
    )
    assert found.find_disk("/a") is None


def test_renaming_changes_only_the_name() -> None:
    before = sample("virt_install_kvm")
    after = before.with_name("new<name>")
    assert after.to_xml() == before.to_xml().replace("debian12<", "new&lt;name&gt;<", 1)


def test_title_and_description_go_behind_the_uuid() -> None:
    changed = DomainDefinition.parse(MINIMAL).with_description("two\nlines").with_title("T")
    root = etree.fromstring(changed.to_xml())
    assert [child.tag for child in root][:4] == ["name", "uuid", "title", "description"]


@pytest.mark.parametrize("text", [None, ""])
def test_title_and_description_are_removed(text: str | None) -> None:
    before = sample("virt_manager_windows")
    after = before.with_title(text).with_description(text)
    assert (after.title, after.description) == (None, None)
    assert "<title" not in after.to_xml()


def test_a_title_is_one_line() -> None:
    with pytest.raises(XmlError, match="line break"):
        DomainDefinition.parse(MINIMAL).with_title("two\nlines")


def test_changing_memory() -> None:
    changed = DomainDefinition.parse(MINIMAL).with_memory(current=1024, maximum=4096)
    assert (changed.current_memory, changed.memory) == (1024, 4096)


def test_a_smaller_maximum_takes_the_current_size_along() -> None:
    changed = DomainDefinition.parse(MINIMAL).with_memory(maximum=512)
    assert (changed.current_memory, changed.memory) == (512, 512)


def test_changing_virtual_cpus() -> None:
    changed = DomainDefinition.parse(MINIMAL).with_vcpus(current=2, maximum=4)
    assert (changed.vcpus, changed.max_vcpus) == (2, 4)
    assert "<vcpu placement='static' current='2'>4</vcpu>" in changed.to_xml()


def test_too_many_current_cpus_are_refused() -> None:
    with pytest.raises(XmlError, match="3 of 1"):
        DomainDefinition.parse(MINIMAL).with_vcpus(current=3)


def test_a_change_leaves_the_old_definition() -> None:
    before = sample("virt_install_kvm")
    text = before.to_xml()
    before.with_name("other").with_memory(maximum=1)
    assert (before.name, before.to_xml()) == ("debian12", text)


def test_the_deepest_domain_fits_into_its_envelope() -> None:
    levels = DriverLimits().max_xml_depth - 2 - 1
    with pytest.raises(XmlDetail, match="nested"):
        DomainDefinition.parse(MINIMAL.replace("</domain>", "<a>" * 62 + "</a>" * 62 + "</domain>"))
    deep = MINIMAL.replace("</domain>", "<a>" * levels + "</a>" * levels + "</domain>")
    assert DomainDefinition.parse(deep).name == "d"
