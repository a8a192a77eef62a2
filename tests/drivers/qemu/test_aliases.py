"""The names of devices in a running machine, which are libvirt's."""

import pytest
from machines import completed, domain, tree

from virtbackupd.drivers.qemu.aliases import with_aliases


def aliases(devices: str, path: str, machine: str = "q35") -> list[str | None]:
    live = with_aliases(completed(domain(devices, machine=machine)))
    return [alias.get("name") for alias in tree(live).findall(f"devices/{path}/alias")]


@pytest.mark.parametrize(
    ("target", "bus", "expected"),
    [
        ("vdc", "virtio", "virtio-disk2"),
        ("sdb", "usb", "usb-disk1"),
        ("hdc", "ide", "ide0-1-0"),
        ("fda", "fdc", "fdc0-0-0"),
        ("sdb", "scsi", "scsi0-0-1"),
    ],
)
def test_disks_are_named_by_bus_and_place(target: str, bus: str, expected: str) -> None:
    disk = f"<disk><source file='/d'/><target dev='{target}' bus='{bus}'/></disk>"
    assert aliases(disk, "disk", "pc") == [expected]


def test_sata_and_virtio_scsi_disks_have_more_numbers() -> None:
    disks = (
        "<controller type='scsi' model='virtio-scsi'/>"
        "<disk><source file='/d'/><target dev='sda' bus='sata'/></disk>"
        "<disk><source file='/e'/><target dev='sdb' bus='scsi'/></disk>"
    )
    assert aliases(disks, "disk") == ["sata0-0-0", "scsi0-0-0-1"]


@pytest.mark.parametrize(
    ("machine", "expected"),
    [("pc", {"pci.0", "usb"}), ("q35", {"pcie.0", "ide", "usb", "pci.1", "pci.2", "pci.3"})],
)
def test_controllers_are_named(machine: str, expected: set[str]) -> None:
    assert set(aliases("", "controller", machine)) == expected


def test_other_devices_are_counted() -> None:
    devices = "<interface type='user'/>" * 2 + "<input type='tablet' bus='usb'/>"
    assert aliases(devices, "interface") == ["net0", "net1"]
    assert aliases(devices, "input") == ["input0"]
    assert aliases(devices, "memballoon") == ["balloon0"]


def test_the_first_console_is_the_first_serial_port() -> None:
    devices = "<serial type='pty'/><console type='pty'/><console><target type='virtio'/></console>"
    assert aliases(devices, "console") == ["serial0", "console1"]


def test_a_name_of_the_authors_own_is_kept() -> None:
    devices = "<interface type='user'><alias name='ua-mine'/></interface>"
    assert aliases(devices, "interface") == ["ua-mine"]


def test_any_other_name_is_ours() -> None:
    devices = "<interface type='user'><alias name='net7'/></interface>"
    assert aliases(devices, "interface") == ["net0"]
