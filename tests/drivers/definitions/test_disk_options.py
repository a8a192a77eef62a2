"""The view on a disk's options."""

import pytest
from lxml import etree

from virtbackupd.drivers.definitions.address import DriveAddress
from virtbackupd.drivers.definitions.disk_options import DiskHardware, read_disk_hardware
from virtbackupd.drivers.errors import XmlError


def disk(text: str) -> DiskHardware:
    return read_disk_hardware(etree.fromstring(f"<disk type='file'>{text}</disk>"))


def test_what_is_not_said_is_none() -> None:
    found = disk("<target dev='vda'/>")
    assert {found.cache, found.io, found.error_policy, found.boot_order, found.address} == {None}


def test_the_drivers_options_are_read() -> None:
    found = disk("<driver cache='none' io='native' discard='unmap' queues='4' iothread='2'/>")
    assert (found.cache, found.io, found.discard) == ("none", "native", "unmap")
    assert (found.queues, found.iothread) == (4, 2)


def test_how_the_guest_sees_it_is_read() -> None:
    found = disk(
        "<target dev='sda' bus='usb' removable='on' tray='open' rotation_rate='1'/>"
        "<wwn>5000c500155a7f6e</wwn><blockio logical_block_size='512'/><boot order='3'/>"
        "<address type='drive' controller='0' bus='0' target='0' unit='2'/>"
    )
    assert (found.removable, found.tray_open, found.rotation_rate) == (True, True, 1)
    assert (found.wwn, found.logical_block, found.boot_order) == ("5000c500155a7f6e", 512, 3)
    assert found.address == DriveAddress(0, 0, 0, 2)


@pytest.mark.parametrize(
    ("cache", "expected"),
    [("default", None), ("none", True), ("writeback", True), ("writethrough", False)],
)
def test_a_cache_mode_is_volatile_or_not(cache: str, expected: bool | None) -> None:
    assert disk(f"<driver cache='{cache}'/>").write_cache is expected


def test_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(XmlError, match="queues"):
        disk("<driver queues='many'/>")
