"""A definition with any attribute or text spoiled is refused or built, and nothing else happens."""

from collections.abc import Iterator

import pytest
from lxml import etree
from machines import command, domain

from virtbackupd.drivers.errors import DriverError

SPOILED = ("", "x", "-1", "0xffffffffffffffff", "99999999999999999999", "a,b\n", "é")
SAMPLE = domain(
    "<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none' queues='1'/>"
    "<source file='/dev/null'/><target dev='vda' bus='virtio'/><blockio logical_block_size='512'/>"
    "<address type='pci' domain='0' bus='0' slot='9' function='0'/></disk>"
    "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/>"
    "<address type='drive' controller='0' bus='0' target='0' unit='0'/></disk>"
    "<disk type='file'><source file='/dev/null'/><target dev='sdb' bus='scsi'/>"
    "<wwn>5000c500155a7f6e</wwn></disk>"
    "<controller type='pci' index='1' model='pcie-root-port'><model name='pcie-root-port'/>"
    "<target chassis='1' port='0x10'/></controller>"
    "<controller type='usb' index='0' model='qemu-xhci' ports='8'/>"
    "<controller type='virtio-serial' index='0' ports='4' vectors='2'/>"
    "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/>"
    "<mtu size='1500'/></interface>"
    "<serial type='tcp'><source mode='bind' host='::1' service='1'/><target port='0'/></serial>"
    "<channel type='unix'><source mode='bind' path='/s'/><target type='virtio' name='a'/>"
    "<address type='virtio-serial' controller='0' bus='0' port='1'/></channel>"
    "<input type='tablet' bus='usb'><address type='usb' bus='0' port='2'/></input>"
    "<graphics type='vnc' port='5901' passwd='p'><listen type='address' address='::1'/></graphics>"
    "<video><model type='vga' vram='16384' heads='1' primary='yes'/></video>"
    "<sound model='ich9'><codec type='duplex'/></sound><watchdog model='i6300esb' action='reset'/>"
    "<memballoon model='virtio'><stats period='5'/></memballoon>"
    "<rng model='virtio'><rate bytes='9' period='1'/><backend model='random'>/r</backend></rng>",
    vcpu="<vcpu current='1'>2</vcpu><iothreads>1</iothreads>",
    boot="<boot dev='hd'/><bootmenu enable='yes' timeout='5'/><bios rebootTimeout='5'/>",
    extra="<cpu mode='custom'><model>Nehalem</model><topology sockets='2' cores='1' threads='1'/>"
    "<feature policy='disable' name='vme'/></cpu>"
    "<clock offset='variable' adjustment='5'><timer name='rtc' tickpolicy='catchup'/></clock>"
    "<features><hyperv mode='custom'><spinlocks state='on' retries='4096'/></hyperv></features>",
)


def spoiled(value: str) -> Iterator[str]:
    """The sample with each attribute in turn, then each text, replaced."""
    count = len(list(etree.fromstring(SAMPLE).iter(tag=etree.Element)))
    for position in range(count):
        names = list(etree.fromstring(SAMPLE).iter(tag=etree.Element))[position].attrib
        for name in (None, *map(str, names)):
            root = etree.fromstring(SAMPLE)
            element = list(root.iter(tag=etree.Element))[position]
            if name is None:
                element.text = value
            else:
                element.set(name, value)
            yield etree.tostring(root, encoding="unicode")


def test_the_sample_is_supported() -> None:
    assert command(SAMPLE)


@pytest.mark.parametrize("value", SPOILED)
def test_nothing_but_a_refusal_comes_of_it(value: str) -> None:
    for xml in spoiled(value):
        try:
            command(xml)
        except DriverError as refusal:
            assert refusal.message  # noqa: PT017 - most are refused, some are fine
