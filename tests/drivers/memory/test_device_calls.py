"""Devices that come and go, in the definition and in the running domain."""

from pathlib import Path

import pytest
from controlling import at_once

from virtbackupd.drivers.errors import (
    ConfigUnsupported,
    DeviceMissing,
    OperationInvalid,
    OperationUnsupported,
    UnsupportedFlags,
)
from virtbackupd.drivers.events import DomainDeviceAdded, DomainDeviceRemoved, Event
from virtbackupd.drivers.memory.domain import MemoryDomain

LIVE, CONFIG = 1, 2
RNG = "<rng model='virtio'><backend model='random'/></rng>"
CARD = "<interface type='user'><mac address='52:54:00:00:00:02'/></interface>"
PULL = """<domainbackup mode='pull'><server transport='unix' socket='{0}/nbd'/><disks>
<disk name='vda' type='file'><scratch file='{0}/scratch'/></disk></disks></domainbackup>"""


def disk(path: object = "/images/new", target: str = "vdc", device: str = "disk") -> str:
    source = f"<source file='{path}'/>" if path else ""
    return f"<disk device='{device}'><driver type='raw'/>{source}<target dev='{target}'/></disk>"


def came_and_went(guest: MemoryDomain, alias: str) -> list[Event]:
    return [DomainDeviceAdded(guest.ref, alias), DomainDeviceRemoved(guest.ref, alias)]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "a.raw").write_bytes(b"1" * 65536)
    return tmp_path / "a.raw"


async def test_a_disk_is_attached_with_its_contents(guest: MemoryDomain, raw: Path) -> None:
    await guest.attach_device(disk(raw))
    answer = at_once(guest.monitor_command('qemu-io vdc "read -P 49 0 64k"', 1))
    assert "verification failed" not in answer
    assert "vdc" not in guest.get_xml_desc(2)


async def test_attached_for_good(guest: MemoryDomain) -> None:
    await guest.attach_device_flags(disk(), LIVE | CONFIG)
    assert "vdc" in guest.get_xml_desc(0)
    assert "vdc" in guest.get_xml_desc(2)


async def test_an_inactive_domain_changes_its_definition(guest: MemoryDomain) -> None:
    guest.destroy()
    await guest.attach_device_flags(disk(), 0)
    await guest.create()
    assert guest.disk_image("vdc") is not None


async def test_a_detached_disk_is_gone(guest: MemoryDomain) -> None:
    await guest.detach_device(disk(target="vda"))
    assert guest.disk_image("vda") is None
    assert "vda" in guest.get_xml_desc(2)


async def test_events_name_the_device(guest: MemoryDomain, events: list[Event]) -> None:
    await guest.attach_device(disk())
    await guest.detach_device(disk())
    assert events[-2:] == came_and_went(guest, "virtio-disk2")


async def test_an_interface_comes_and_goes(guest: MemoryDomain, events: list[Event]) -> None:
    await guest.attach_device(CARD)
    assert "52:54:00:00:00:02" in guest.get_xml_desc(0)
    await guest.detach_device(CARD)
    assert events[-2:] == came_and_went(guest, "net1")


async def test_a_medium_is_changed(guest: MemoryDomain, raw: Path) -> None:
    await guest.update_device_flags(disk(raw, "sda", "cdrom"), LIVE)
    image = guest.disk_image("sda")
    assert image is not None
    assert image.read(0, 1) == b"1"
    await guest.update_device_flags(disk("", "sda", "cdrom"), LIVE)
    assert guest.disk_image("sda") is None


async def test_a_disk_in_a_backup_stays(guest: MemoryDomain, tmp_path: Path) -> None:
    await guest.backup_begin(PULL.format(tmp_path), None, 0)
    with pytest.raises(OperationUnsupported, match="in use by a backup"):
        await guest.detach_device(disk(target="vda"))
    assert guest.disk_image("vda") is not None


async def test_a_disk_whose_target_is_taken(guest: MemoryDomain) -> None:
    with pytest.raises(OperationInvalid):
        await guest.attach_device(disk(target="vda"))


async def test_a_disk_that_is_not_there(guest: MemoryDomain) -> None:
    with pytest.raises(DeviceMissing):
        await guest.detach_device(disk())


@pytest.mark.parametrize("target", ["sdb", "hda"])
async def test_a_bus_without_hot_plug(guest: MemoryDomain, target: str) -> None:
    xml = disk(target=target).replace(f"'{target}'", f"'{target}' bus='sata'")
    with pytest.raises(OperationUnsupported, match="use one of virtio"):
        await guest.attach_device(xml)


async def test_only_a_drive_changes_its_medium(guest: MemoryDomain) -> None:
    with pytest.raises(OperationUnsupported, match="no drive"):
        await guest.update_device_flags(disk(target="vda"), LIVE)


async def test_other_devices_wait_for_the_next_start(guest: MemoryDomain) -> None:
    with pytest.raises(ConfigUnsupported, match="flag CONFIG"):
        await guest.attach_device(RNG)
    await guest.attach_device_flags(RNG, CONFIG)
    assert "<rng" in guest.get_xml_desc(2)


async def test_a_transient_domain_has_nothing_stored(guest: MemoryDomain) -> None:
    guest.undefine()
    with pytest.raises(OperationInvalid, match="transient"):
        await guest.attach_device_flags(disk(), LIVE | CONFIG)
    assert "vdc" not in guest.get_xml_desc(0)


async def test_live_needs_a_running_domain(guest: MemoryDomain) -> None:
    guest.destroy()
    with pytest.raises(OperationInvalid):
        await guest.attach_device(disk())


async def test_unknown_flags(guest: MemoryDomain) -> None:
    with pytest.raises(UnsupportedFlags):
        await guest.attach_device_flags(disk(), 4)
