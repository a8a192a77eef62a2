"""The `<disk>` element: sources, defaults, flags and the backing chain."""

import pytest
from lxml import etree

from virtbackupd.drivers.definitions.disk import (
    BackingStore,
    DiskDefinition,
    normalise_disk,
    read_disk,
)
from virtbackupd.drivers.definitions.secret import SecretName
from virtbackupd.drivers.errors import XmlError


def disk(inner: str = "<target dev='vda'/>", attributes: str = "") -> DiskDefinition:
    element = etree.fromstring(f"<disk {attributes}>{inner}</disk>")
    normalise_disk(element)
    return read_disk(element)


def test_defaults() -> None:
    found = disk()
    assert (found.target, found.bus, found.device) == ("vda", "virtio", "disk")
    assert (found.source_type, found.source, found.format) == ("file", None, "raw")
    assert (found.read_only, found.transient, found.shareable) == (False, False, False)
    assert (found.serial, found.secret, found.backing) == (None, None, ())


@pytest.mark.parametrize(
    ("type_", "source", "name", "local"),
    [
        ("file", "<source file='/a'/>", "/a", True),
        ("block", "<source dev='/dev/a'/>", "/dev/a", True),
        ("dir", "<source dir='/d'/>", "/d", True),
        ("network", "<source protocol='rbd' name='p/i'/>", "rbd/p/i", False),
        ("volume", "<source pool='p' volume='v'/>", "p/v", False),
        ("nvme", "<source type='pci' namespace='1'/>", "pci/1", False),
        ("vhostuser", "<source type='unix' path='/s'/>", "unix//s", False),
    ],
)
def test_sources(type_: str, source: str, name: str, *, local: bool) -> None:
    found = disk(f"{source}<target dev='vda'/>", f"type='{type_}'")
    assert found.source == name
    assert found.local_path == (name if local else None)
    assert not found.empty


@pytest.mark.parametrize(
    "source", ["", "<source/>", "<source file=''/>", "<source startupPolicy='optional'/>"]
)
def test_a_drive_without_media_is_empty(source: str) -> None:
    assert disk(f"{source}<target dev='sda'/>", "device='cdrom'").empty


@pytest.mark.parametrize(
    ("target", "bus"),
    [
        ("fda", "fdc"),
        ("hdb", "ide"),
        ("sdaa", "scsi"),
        ("vda", "virtio"),
        ("xvda", "xen"),
        ("ubda", "uml"),
        ("ioemu:hda", "ide"),
        ("nvme0n1", None),
    ],
)
def test_the_bus_follows_from_the_target(target: str, bus: str | None) -> None:
    assert disk(f"<target dev='{target}'/>").bus == bus


def test_a_given_bus_stays() -> None:
    assert disk("<target dev='sda' bus='usb'/>").bus == "usb"


def test_a_cdrom_is_always_read_only() -> None:
    assert disk(attributes="device='cdrom'").read_only


@pytest.mark.parametrize("flag", ["read_only", "transient", "shareable"])
def test_flags(flag: str) -> None:
    element = flag.replace("_", "")
    assert getattr(disk(f"<target dev='vda'/><{element}/>"), flag) is True


@pytest.mark.parametrize(
    ("device", "removable"), [("disk", False), ("lun", False), ("cdrom", True), ("floppy", True)]
)
def test_removable(device: str, *, removable: bool) -> None:
    assert disk(attributes=f"device='{device}'").removable is removable


def test_serial_and_format() -> None:
    found = disk("<driver type='qcow2'/><target dev='vda'/><serial>S1</serial>")
    assert (found.format, found.serial) == ("qcow2", "S1")


def test_the_secret_of_an_encrypted_image() -> None:
    inner = "<encryption format='luks'><secret type='passphrase' uuid='u'/></encryption>"
    assert disk(f"<source file='/a'>{inner}</source><target dev='vda'/>").secret == SecretName("u")


def test_the_backing_chain() -> None:
    chain = (
        "<backingStore type='block'><format type='qcow2'/><source dev='/dev/b'/>"
        "<backingStore><source file='/c'/><backingStore/></backingStore></backingStore>"
    )
    assert disk(f"<target dev='vda'/>{chain}").backing == (
        BackingStore("block", "/dev/b", "qcow2"),
        BackingStore("file", "/c", "raw"),
    )


@pytest.mark.parametrize("inner", ["", "<target/>", "<target dev=''/>"])
def test_a_disk_needs_a_target(inner: str) -> None:
    with pytest.raises(XmlError, match="target"):
        disk(inner)


@pytest.mark.parametrize("attributes", ["type='tape'", "device='tape'"])
def test_unknown_kinds_are_refused(attributes: str) -> None:
    with pytest.raises(XmlError, match=r"'vda' has the unknown .* 'tape'"):
        disk(attributes=attributes)
