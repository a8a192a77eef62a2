"""Addresses as libvirt gives them; the expected ones were read from libvirt 9.0 with QEMU 7.2."""

import pytest
from machines import addresses, completed, domain, tree

from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.errors import ConfigUnsupported

_DISK = "<disk><source file='/d'/><target dev='{target}' bus='{bus}'/>{rest}</disk>"
_RNG = "<rng model='virtio'><backend model='builtin'/></rng>"


def disk(target: str, bus: str, rest: str = "") -> str:
    return _DISK.format(target=target, bus=bus, rest=rest)


FULL = (
    disk("vda", "virtio")
    + disk("sda", "scsi")
    + "<interface type='user'/><graphics type='vnc'/><channel type='unix'>"
    "<target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
)


@pytest.fixture(scope="module")
def pc() -> DomainDefinition:
    return completed(domain(FULL, machine="pc"))


@pytest.fixture(scope="module")
def q35() -> DomainDefinition:
    return completed(domain(FULL))


@pytest.mark.parametrize(
    ("device", "place"),
    [
        ("interface", "0:3.0"),
        ("controller[@type='scsi']", "0:4.0"),
        ("controller[@type='virtio-serial']", "0:5.0"),
        ("controller[@type='usb']", "0:1.2"),
        ("disk[1]", "0:6.0"),
        ("memballoon", "0:7.0"),
        ("video", "0:2.0"),
    ],
)
def test_devices_of_a_pc_take_slots_in_libvirts_order(
    pc: DomainDefinition, device: str, place: str
) -> None:
    assert addresses(pc, device) == [place]


def test_express_devices_have_ports_of_their_own(q35: DomainDefinition) -> None:
    express = [
        *addresses(q35, "controller[@type='usb']"),
        *addresses(q35, "controller[@type='virtio-serial']"),
        *addresses(q35, "disk[1]"),
        *addresses(q35, "memballoon"),
    ]
    assert len(set(express)) == 4
    assert all(place.endswith(":0.0") and not place.startswith("0:") for place in express)


def test_the_chipsets_places_are_kept(q35: DomainDefinition) -> None:
    assert addresses(q35, "controller[@type='sata']") == ["0:1f.2"]
    assert addresses(q35, "video") == ["0:1.0"]


def test_conventional_devices_share_a_bridge(q35: DomainDefinition) -> None:
    bridge = tree(q35).find("devices/controller[@model='pcie-to-pci-bridge']")
    assert bridge is not None
    index = int(bridge.get("index", "0"))
    assert addresses(q35, "interface") == [f"{index}:1.0"]
    assert addresses(q35, "controller[@type='scsi']") == [f"{index}:2.0"]


def test_one_root_port_is_left_for_hotplug(q35: DomainDefinition) -> None:
    ports = {
        controller.get("index")
        for controller in tree(q35).findall("devices/controller[@model='pcie-root-port']")
    }
    used = {
        str(int(address.get("bus", "0"), 16))
        for address in tree(q35).findall("devices/*/address[@type='pci']")
    }
    assert len(ports - used) == 1


def test_root_ports_share_slots_and_are_numbered() -> None:
    found = completed(domain("<controller type='pci' model='pcie-root-port'/>" * 10))
    ports = tree(found).findall("devices/controller[@model='pcie-root-port']/target")
    assert [port.get("port") for port in ports[:3]] == ["0x8", "0x9", "0xa"]
    assert addresses(found, "controller[@index='9']") == ["0:2.0"]


@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_doing_it_again_changes_nothing(machine: str) -> None:
    once = completed(domain(FULL, machine=machine))
    assert completed(once.to_xml()).to_xml() == once.to_xml()


def test_an_address_that_is_given_is_kept() -> None:
    rest = "<address type='pci' bus='0x00' slot='0x09' function='0x0'/>"
    found = completed(domain(disk("vda", "virtio", rest), machine="pc"))
    assert addresses(found, "disk") == ["0:9.0"]


def test_two_devices_cannot_share_a_place() -> None:
    rest = "<address type='pci' bus='0x00' slot='0x09' function='0x0'/>"
    with pytest.raises(ConfigUnsupported, match=r"0000:00:09\.0 is used by 2"):
        completed(domain(disk("vda", "virtio", rest) + disk("vdb", "virtio", rest), machine="pc"))


def test_a_bus_that_an_address_names_is_made() -> None:
    rest = "<address type='pci' bus='0x03' slot='0x00' function='0x0'/>"
    found = completed(domain(disk("vda", "virtio", rest)))
    assert tree(found).find("devices/controller[@index='3'][@model='pcie-root-port']") is not None


def test_a_full_bus_gets_a_bridge() -> None:
    found = completed(domain(_RNG * 34, machine="pc"))
    places = addresses(found, "rng")
    assert len(set(places)) == 34
    assert places[-1].startswith("1:")


@pytest.mark.parametrize(
    ("target", "bus", "place"),
    [
        ("hda", "ide", "0.0.0.0"),
        ("hdd", "ide", "0.1.0.1"),
        ("fdb", "fdc", "0.0.0.1"),
        ("sdc", "scsi", "0.0.0.2"),
        ("sdh", "scsi", "0.0.0.8"),
        ("sdp", "scsi", "1.0.0.0"),
        ("sda", "usb", "0.1"),
    ],
)
def test_drives_follow_the_letter_of_their_target(target: str, bus: str, place: str) -> None:
    assert addresses(completed(domain(disk(target, bus), machine="pc")), "disk") == [place]


def test_sata_drives_have_six_places() -> None:
    found = completed(domain(disk("sdf", "sata") + disk("sdg", "sata")))
    assert addresses(found, "disk") == ["0.0.0.5", "1.0.0.0"]
    assert tree(found).find("devices/controller[@type='sata'][@index='1']") is not None


def test_a_target_without_a_letter_has_no_place() -> None:
    with pytest.raises(ConfigUnsupported, match="sd1"):
        completed(domain(disk("sd1", "scsi")))


def test_a_drive_address_belongs_to_one_disk() -> None:
    rest = "<address type='drive' controller='0' bus='0' target='0' unit='1'/>"
    with pytest.raises(ConfigUnsupported, match="another disk's"):
        completed(domain(disk("sda", "scsi", rest) + disk("sdb", "scsi")))


def test_usb_ports_run_out() -> None:
    with pytest.raises(ConfigUnsupported, match="no free USB port"):
        completed(domain("<input type='tablet' bus='usb'/>" * 3, machine="pc"))


def test_channels_begin_at_port_one_and_consoles_at_nought() -> None:
    channel = "<channel type='null'><target type='virtio' name='a'/></channel>"
    console = "<console type='pty'><target type='virtio'/></console>"
    found = completed(domain(channel * 2 + console))
    assert addresses(found, "channel") == ["0.0.1", "0.0.2"]
    assert addresses(found, "console") == ["0.0.0"]


@pytest.mark.parametrize(("machine", "slot"), [("q35", "1d"), ("pc", "2")])
def test_usb_companions_share_a_slot(machine: str, slot: str) -> None:
    usb = (
        "<controller type='usb' index='0' model='ich9-ehci1'/>"
        "<controller type='usb' index='0' model='ich9-uhci1'><master startport='0'/></controller>"
    )
    found = completed(domain(usb, machine=machine))
    assert addresses(found, "controller[@type='usb']") == [f"0:{slot}.7", f"0:{slot}.0"]
