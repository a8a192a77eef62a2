"""What a domain document must have and what is filled in."""

import pytest

from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.errors import NoName, Origin, XmlError


def domain(
    name: str = "<name>d</name>",
    memory: str = "<memory>1024</memory>",
    rest: str = "",
    attributes: str = "type='test'",
) -> DomainDefinition:
    return DomainDefinition.parse(f"<domain {attributes}>{name}{memory}{rest}</domain>")


def disks(*targets: str) -> str:
    found = "".join(f"<disk><target dev='{target}'/></disk>" for target in targets)
    return f"<devices>{found}</devices>"


@pytest.mark.parametrize(
    "name",
    ["<name>a/b</name>", "<name>a\nb</name>", "<name>.</name>", "<name>..</name>"],
)
def test_bad_names(name: str) -> None:
    with pytest.raises(XmlError, match="name") as caught:
        domain(name=name)
    assert caught.value.origin is Origin.DOMAIN


@pytest.mark.parametrize("name", ["", "<name/>"])
def test_no_name(name: str) -> None:
    with pytest.raises(NoName):
        domain(name=name)


@pytest.mark.parametrize("attributes", ["", "type=''"])
def test_a_domain_needs_a_type(attributes: str) -> None:
    with pytest.raises(XmlError, match="'d' has no type"):
        domain(attributes=attributes)


@pytest.mark.parametrize("memory", ["", "<memory>0</memory>"])
def test_a_domain_needs_memory(memory: str) -> None:
    with pytest.raises(XmlError, match="'d' has no memory size"):
        domain(memory=memory)


@pytest.mark.parametrize(
    "memory",
    [
        "<memory/>",
        "<memory>-5</memory>",
        "<memory>much</memory>",
        "<memory unit='XB'>1</memory>",
        "<memory>1</memory><currentMemory>x</currentMemory>",
    ],
)
def test_bad_memory(memory: str) -> None:
    with pytest.raises(XmlError, match="emory"):
        domain(memory=memory)


def test_current_memory_is_at_most_the_maximum() -> None:
    assert domain(rest="<currentMemory>4096</currentMemory>").current_memory == 1024


def test_no_current_memory_means_all() -> None:
    assert domain(rest="<currentMemory>0</currentMemory>").current_memory == 1024


@pytest.mark.parametrize("uuid", ["x", "0" * 31, "0" * 33, "00000000-0000-0000-0000-00000000000g"])
def test_malformed_uuids(uuid: str) -> None:
    with pytest.raises(XmlError, match="malformed UUID"):
        domain(rest=f"<uuid>{uuid}</uuid>")


def test_a_uuid_is_made_once() -> None:
    found = domain()
    assert len(found.uuid) == 16
    assert DomainDefinition.parse(found.to_xml()).uuid == found.uuid
    assert domain().uuid != found.uuid


def test_a_uuid_is_printed_in_its_usual_form() -> None:
    text = "ABCDEF0123456789ABCDEF0123456789"
    assert (
        "<uuid>abcdef01-2345-6789-abcd-ef0123456789</uuid>"
        in domain(rest=f"<uuid>{text}</uuid>").to_xml()
    )


@pytest.mark.parametrize(
    ("vcpu", "expected"),
    [
        ("", (1, 1)),
        ("<vcpu/>", (1, 1)),
        ("<vcpu>4</vcpu>", (4, 4)),
        ("<vcpu current='2'>4</vcpu>", (2, 4)),
        ("<vcpu current='4' cpuset='0-3'>4</vcpu>", (4, 4)),
    ],
)
def test_virtual_cpus(vcpu: str, expected: tuple[int, int]) -> None:
    found = domain(rest=vcpu)
    assert (found.vcpus, found.max_vcpus) == expected


@pytest.mark.parametrize(
    "vcpu",
    [
        "<vcpu>0</vcpu>",
        "<vcpu current='0'>1</vcpu>",
        "<vcpu current='3'>2</vcpu>",
        "<vcpu>x</vcpu>",
    ],
)
def test_bad_virtual_cpus(vcpu: str) -> None:
    with pytest.raises(XmlError, match="virtual CPUs"):
        domain(rest=vcpu)


def test_disk_targets_are_unique() -> None:
    with pytest.raises(XmlError, match="'d' has two disks with the target 'vda'"):
        domain(rest=disks("vda", "vdb", "vda"))


def test_disks_keep_their_order() -> None:
    found = domain(rest=disks("vdb", "sda", "vda"))
    assert [disk.target for disk in found.disks] == ["vdb", "sda", "vda"]


def test_an_id_in_the_document_is_dropped() -> None:
    assert "id=" not in domain(attributes="id='5' type='test'").to_xml()
