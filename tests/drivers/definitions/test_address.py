"""Addresses of devices, read and written."""

import pytest
from lxml import etree

from virtbackupd.drivers.definitions.address import (
    Address,
    DriveAddress,
    OtherAddress,
    PciAddress,
    UsbAddress,
    VirtioSerialAddress,
    read_address,
    write_address,
)
from virtbackupd.drivers.errors import XmlError

MULTIFUNCTION = """<address type='pci' domain='0x0000' bus='0x00' slot='0x02' function='0x0'
 multifunction='on'/>"""
BOTH = [
    (
        "<address type='pci' domain='0x0000' bus='0x0a' slot='0x1f' function='0x7'/>",
        PciAddress(10, 31, 7),
    ),
    (
        MULTIFUNCTION,
        PciAddress(0, 2, 0, multifunction=True),
    ),
    (
        "<address type='drive' controller='1' bus='0' target='2' unit='3'/>",
        DriveAddress(1, 0, 2, 3),
    ),
    ("<address type='usb' bus='0' port='1.2'/>", UsbAddress(0, "1.2")),
    (
        "<address type='virtio-serial' controller='0' bus='0' port='4'/>",
        VirtioSerialAddress(0, 0, 4),
    ),
    ("<address type='isa'/>", OtherAddress("isa")),
]


def device(address: str) -> etree._Element:
    return etree.fromstring(f"<disk>{address}</disk>")


@pytest.mark.parametrize(("text", "address"), BOTH)
def test_an_address_is_read(text: str, address: Address) -> None:
    assert read_address(device(text)) == address


@pytest.mark.parametrize(("text", "address"), BOTH)
def test_an_address_is_written(text: str, address: Address) -> None:
    target = device("<address type='spapr-vio' reg='1'/>")
    write_address(target, address)
    assert etree.tostring(target[0]) == etree.tostring(etree.fromstring(text))


@pytest.mark.parametrize("text", ["", "<address type='pci'/>"])
def test_there_may_be_none(text: str) -> None:
    assert read_address(device(text)) is None


def test_decimal_numbers_are_understood() -> None:
    found = read_address(device("<address type='pci' bus='1' slot='10' function='0'/>"))
    assert found == PciAddress(1, 10)


@pytest.mark.parametrize(
    "attributes",
    ["slot='x'", "slot='0x20'", "bus='256'", "function='8'", "slot='-1'", "domain='1' slot='1'"],
)
def test_what_is_no_place_is_refused(attributes: str) -> None:
    with pytest.raises(XmlError, match="address of a <disk>"):
        read_address(device(f"<address type='pci' {attributes}/>"))
