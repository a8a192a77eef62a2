"""The views on devices."""

import pytest
from lxml import etree

from virtbackupd.drivers.definitions.address import PciAddress
from virtbackupd.drivers.definitions.hardware import Hardware, read_hardware
from virtbackupd.drivers.errors import XmlError


def hardware(devices: str) -> Hardware:
    return read_hardware(etree.fromstring(f"<domain><devices>{devices}</devices></domain>"))


def test_a_domain_may_have_no_devices() -> None:
    found = read_hardware(etree.fromstring("<domain/>"))
    assert (found.controllers, found.balloon) == ((), None)


def test_a_controller_is_read() -> None:
    (found,) = hardware(
        "<controller type='pci' index='3' model='pcie-root-port'><model name='ioh3420'/>"
        "<target chassis='3' port='0x1a'/><alias name='pci.3'/>"
        "<address type='pci' bus='0x00' slot='0x03' function='0x2'/></controller>"
    ).controllers
    assert (found.index, found.model_name, found.chassis, found.port) == (3, "ioh3420", 3, 26)
    assert (found.place.alias, found.place.address) == ("pci.3", PciAddress(0, 3, 2))


def test_an_interface_is_read() -> None:
    (found,) = hardware(
        "<interface type='bridge'><mac address='52:54:00:1:2:3'/><source bridge='br0'/>"
        "<model type='virtio'/><link state='down'/><mtu size='9000'/><boot order='2'/></interface>"
    ).interfaces
    assert (found.bridge, found.model, found.mtu, found.link_up) == ("br0", "virtio", 9000, False)
    assert found.place.boot_order == 2


@pytest.mark.parametrize(
    ("attributes", "automatic", "port"),
    [("port='-1'", True, None), ("port='5901'", False, 5901), ("autoport='yes'", True, None)],
)
def test_a_vnc_port_may_be_automatic(attributes: str, automatic: bool, port: int | None) -> None:
    (found,) = hardware(f"<graphics type='vnc' {attributes}/>").graphics
    assert (found.autoport, found.port) == (automatic, port)


def test_an_address_to_listen_on_has_two_places() -> None:
    old, new = hardware(
        "<graphics type='vnc' listen='::1'/>"
        "<graphics type='vnc'><listen type='address' address='::2'/></graphics>"
    ).graphics
    assert (old.listen, new.listen) == ("::1", "::2")


def test_a_socket_is_a_kind_of_listening() -> None:
    (found,) = hardware("<graphics type='vnc' socket='/s'/>").graphics
    assert (found.listen_type, found.socket) == ("socket", "/s")


def test_video_sound_and_input_are_read() -> None:
    found = hardware(
        "<video><model type='vga' vram='16384' heads='1' primary='yes'/></video>"
        "<sound model='ich6'><codec type='micro'/></sound><input type='mouse' bus='ps2'/>"
    )
    assert (found.videos[0].memory, found.videos[0].primary) == (16384, True)
    assert found.sounds[0].codecs == ("micro",)
    assert (found.inputs[0].type, found.inputs[0].bus) == ("mouse", "ps2")


def test_the_small_devices_are_read() -> None:
    found = hardware(
        "<watchdog model='ib700' action='poweroff'/><panic model='hyperv'/>"
        "<memballoon model='virtio' autodeflate='on'><stats period='5'/></memballoon>"
        "<rng model='virtio'><rate bytes='9'/><backend model='random'>/r</backend></rng>"
    )
    assert (found.watchdogs[0].action, found.panics[0].model) == ("poweroff", "hyperv")
    assert found.balloon is not None
    assert (found.balloon.deflate, found.balloon.period) == (True, 5)
    assert (found.rngs[0].path, found.rngs[0].rate_bytes) == ("/r", 9)


@pytest.mark.parametrize(
    "device",
    [
        "<controller type='usb' index='x'/>",
        "<controller type='pci' index='1'><target chassis='0xg'/></controller>",
        "<graphics type='vnc' port='99999'/>",
        "<interface type='user'><boot order='first'/></interface>",
    ],
)
def test_a_number_that_is_none_is_refused(device: str) -> None:
    with pytest.raises(XmlError):
        hardware(device)
