"""Attaching, detaching and updating one device."""

import pytest

from virtbackupd.drivers.definitions.device_edits import (
    attach_device,
    detach_device,
    update_device,
)
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.errors import (
    DeviceMissing,
    OperationFailed,
    OperationInvalid,
    XmlDetail,
    XmlError,
)

DOMAIN = DomainDefinition.parse(
    "<domain type='test'><name>d</name><memory>1</memory><devices>"
    "<disk><source file='/a'/><target dev='vda'/></disk>"
    "<interface type='user'><mac address='52:54:00:00:00:0A'/></interface>"
    "<rng model='virtio'><backend model='random'/></rng></devices></domain>"
)
VDB = "<disk type='file'><source file='/b'/><target dev='vdb'/></disk>"


def targets(domain: DomainDefinition) -> list[str]:
    return [disk.target for disk in domain.disks]


def test_a_new_disk_follows_the_others() -> None:
    changed = attach_device(DOMAIN, VDB)
    assert targets(changed) == ["vda", "vdb"]
    assert changed.to_xml().index("'vdb'") < changed.to_xml().index("<interface")


def test_attach_and_detach_change_nothing() -> None:
    assert detach_device(attach_device(DOMAIN, VDB), VDB).to_xml() == DOMAIN.to_xml()


def test_the_old_definition_stays() -> None:
    attach_device(DOMAIN, VDB)
    assert targets(DOMAIN) == ["vda"]


def test_a_target_is_attached_once() -> None:
    with pytest.raises(OperationInvalid, match="<disk> device 'vda' already"):
        attach_device(DOMAIN, "<disk><target dev='vda'/></disk>")


def test_a_disk_is_detached_by_its_target_alone() -> None:
    assert targets(detach_device(DOMAIN, "<disk><target dev='vda'/></disk>")) == []


def test_an_interface_is_detached_by_its_mac() -> None:
    text = "<interface><mac address='52:54:00:00:00:0a'/></interface>"
    assert detach_device(DOMAIN, text).interfaces == ()


def test_others_are_detached_by_their_xml() -> None:
    text = "<rng model='virtio'>\n  <backend model='random'/>\n</rng>"
    assert "<rng" not in detach_device(DOMAIN, text).to_xml()


@pytest.mark.parametrize(
    "text", ["<rng/>", "<rng model='virtio'/>", "<rng><backend model='random'/></rng>"]
)
def test_what_was_filled_in_need_not_be_told(text: str) -> None:
    assert "<rng" not in detach_device(DOMAIN, text).to_xml()


def test_the_only_interface_of_a_kind_needs_no_mac() -> None:
    assert detach_device(DOMAIN, "<interface type='user'/>").interfaces == ()


def test_one_of_several_interfaces_must_be_told_by_its_mac() -> None:
    other = "<interface type='user'><mac address='52:54:00:00:00:0b'/></interface>"
    with pytest.raises(OperationFailed, match=r"2 devices that fit this <interface>: add <mac>"):
        detach_device(attach_device(DOMAIN, other), "<interface type='user'/>")


@pytest.mark.parametrize(
    "xml",
    [
        VDB,
        "<rng model='other'/>",
        "<rng><backend model='builtin'/></rng>",
        "<rng><rate bytes='1'/></rng>",
        "<rng>text</rng>",
        "<sound/>",
    ],
)
def test_what_is_not_there_cannot_be_detached(xml: str) -> None:
    with pytest.raises(DeviceMissing, match="'d' has no <"):
        detach_device(DOMAIN, xml)


def test_an_update_takes_the_place() -> None:
    changed = update_device(DOMAIN, "<disk device='cdrom'><target dev='vda'/></disk>")
    assert [(disk.device, disk.empty) for disk in changed.disks] == [("cdrom", True)]


def test_a_senseless_device_is_refused() -> None:
    with pytest.raises(XmlError, match="no target"):
        attach_device(DOMAIN, "<disk/>")


def test_malformed_text_is_refused() -> None:
    with pytest.raises(XmlDetail, match="device document"):
        attach_device(DOMAIN, "<disk>")
