"""What this driver does not model is refused by name."""

import pytest
from machines import completed, domain

from virtbackupd.drivers.definitions.document import parse_fragment
from virtbackupd.drivers.errors import ConfigUnsupported
from virtbackupd.drivers.qemu.known_elements import ELEMENTS, REMEDIES, VALUES
from virtbackupd.drivers.qemu.refusals import check_device

REFUSED = {
    "<tpm>": domain("<tpm model='tpm-crb'><backend type='emulator'/></tpm>"),
    "<hostdev>": domain("<hostdev mode='subsystem' type='pci'/>"),
    "<redirdev>": domain("<redirdev bus='usb' type='spicevmc'/>"),
    "<filesystem>": domain("<filesystem type='mount'/>"),
    "type 'spice'": domain("<graphics type='spice'/>"),
    "type 'qxl'": domain("<video><model type='qxl'/></video>"),
    "type 'network' of <interface>": domain("<interface type='network'/>"),
    "type 'network' of <disk>": domain(
        "<disk type='network'><source protocol='nbd'/><target dev='vda'/></disk>"
    ),
    "<hugepages> in <memoryBacking>": domain(extra="<memoryBacking><hugepages/></memoryBacking>"),
    "<launchSecurity>": domain(extra="<launchSecurity type='sev'/>"),
    "<numatune>": domain(extra="<numatune/>"),
    "<iotune>": domain("<disk><target dev='vda'/><iotune/></disk>"),
    "<filterref>": domain("<interface type='user'><filterref filter='x'/></interface>"),
    "attribute queues='4' of <driver>": domain(
        "<interface type='user'><driver queues='4'/></interface>"
    ),
    "model 'egd'": domain("<rng model='virtio'><backend model='egd'/></rng>"),
    "cpuset": domain(vcpu="<vcpu cpuset='0'>1</vcpu>"),
    "<commandline of": domain(
        tail="<b:commandline xmlns:b='http://libvirt.org/schemas/domain/bhyve/1.0'/>"
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_unknown_part_is_named(what: str) -> None:
    with pytest.raises(ConfigUnsupported, match=what):
        completed(REFUSED[what])


def test_the_refusal_tells_what_to_write_instead() -> None:
    with pytest.raises(ConfigUnsupported, match="use <graphics type='vnc'/>"):
        completed(REFUSED["type 'spice'"])


def test_metadata_is_none_of_our_business() -> None:
    extra = "<metadata><a:x xmlns:a='http://a'><tpm/></a:x></metadata>"
    assert "<tpm/>" in completed(domain(extra=extra)).to_xml()


def test_comments_are_no_elements() -> None:
    completed(domain("<!-- tpm -->"))


def test_a_single_device_is_checked_the_same_way() -> None:
    device = parse_fragment("<disk><target dev='vda'/><iotune/></disk>", "device")
    with pytest.raises(ConfigUnsupported, match="<iotune>"):
        check_device(device)


def test_every_value_belongs_to_an_attribute_of_the_grammar() -> None:
    for key in VALUES:
        element, _, attribute = key.partition("@")
        assert attribute in ELEMENTS[element].partition("|")[0].split(), key


def test_every_remedy_is_for_something_that_is_refused() -> None:
    for key in REMEDIES:
        element, _, value = key.partition("=")
        assert "@" not in key or value not in VALUES[element].split(), key


def test_every_row_can_be_reached() -> None:
    named = {child for text in ELEMENTS.values() for child in text.partition("|")[2].split()}
    assert {key.partition("/")[2] for key in ELEMENTS if "/" in key} <= named
