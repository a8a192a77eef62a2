"""What is written into a definition that leaves it out."""

import re
from dataclasses import replace

import pytest
from machines import capabilities, completed, domain, tree

from virtbackupd.drivers.definitions.tree import attribute_pairs
from virtbackupd.drivers.errors import ConfigUnsupported, XmlError


def test_the_machine_gets_its_full_name() -> None:
    assert completed(domain()).machine == capabilities().canonical("q35")
    assert completed(domain(machine="pc")).machine == capabilities().canonical("pc")


def test_the_emulator_and_architecture_are_named() -> None:
    found = completed(domain())
    assert (found.emulator, found.arch) == (capabilities().path, "x86_64")


def test_an_unknown_machine_is_refused() -> None:
    with pytest.raises(ConfigUnsupported, match="no machine 'virt-1'"):
        completed(domain(machine="virt-1"))


@pytest.mark.parametrize("machine", ["isapc", "microvm"])
def test_a_machine_of_another_kind_is_refused(machine: str) -> None:
    with pytest.raises(ConfigUnsupported, match="use q35 or pc"):
        completed(domain(machine=machine))


def test_the_processor_is_named() -> None:
    assert tree(completed(domain())).findtext("cpu/model") == "qemu64"


def test_a_topology_alone_is_no_model() -> None:
    cpu = "<cpu><topology sockets='1' cores='1' threads='1'/></cpu>"
    found = tree(completed(domain(extra=cpu)))
    assert found.findtext("cpu/model") == "qemu64"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("<cpu mode='host-passthrough'/>", "mode check='none' migratable='on'"),
        ("<cpu mode='host-model'/>", "mode check='partial'"),
        ("<cpu mode='maximum'/>", "mode check='none'"),
        ("<cpu><model>qemu64</model></cpu>", "mode match='exact' check='partial'"),
        ("<cpu match='strict'><model>qemu64</model></cpu>", "mode match='strict' check='partial'"),
    ],
)
def test_how_strictly_the_processor_is_meant_is_spelt_out(given: str, shown: str) -> None:
    element = tree(completed(domain(extra=given))).find("cpu")
    assert element is not None
    values = [f"{name}='{value}'" for name, value in attribute_pairs(element) if name != "mode"]
    assert " ".join(["mode", *values]) == shown


def test_a_model_may_be_replaced_unless_the_document_forbids_it() -> None:
    allowed = tree(completed(domain(extra="<cpu><model>qemu64</model></cpu>")))
    forbidden = "<cpu><model fallback='forbid'>qemu64</model></cpu>"
    assert allowed.find("cpu/model[@fallback='allow']") is not None
    assert (
        tree(completed(domain(extra=forbidden))).find("cpu/model[@fallback='forbid']") is not None
    )


def test_it_boots_from_the_first_disk() -> None:
    assert tree(completed(domain())).find("os/boot[@dev='hd']") is not None


def test_a_boot_order_on_devices_stands_alone() -> None:
    interface = "<interface type='user'><boot order='1'/></interface>"
    assert tree(completed(domain(interface))).find("os/boot") is None
    with pytest.raises(ConfigUnsupported, match="use one"):
        completed(domain(interface, boot="<boot dev='hd'/>"))


def test_what_happens_at_the_end_is_written() -> None:
    found = tree(completed(domain()))
    ends = [found.findtext(f"on_{what}") for what in ("poweroff", "reboot", "crash")]
    assert ends == ["destroy", "restart", "destroy"]


def test_graphics_bring_a_screen_a_mouse_and_a_keyboard() -> None:
    found = tree(completed(domain("<graphics type='vnc'/>")))
    assert found.find("devices/video/model[@primary='yes']") is not None
    assert len(found.findall("devices/input[@bus='ps2']")) == 2
    assert found.find("devices/graphics[@autoport='yes']/listen[@type='address']") is not None


def test_without_graphics_there_are_none() -> None:
    found = tree(completed(domain()))
    assert found.find("devices/video") is None
    assert found.find("devices/input") is None


def test_an_interface_gets_an_address_of_qemus() -> None:
    mac = tree(completed(domain("<interface type='user'/>"))).find("devices/interface/mac")
    assert mac is not None
    assert re.fullmatch(r"52:54:00(:[0-9a-f]{2}){3}", mac.get("address", ""))


def test_a_console_brings_a_serial_port_and_a_port_a_console() -> None:
    for device in ("<console type='pty'/>", "<serial type='pty'/>"):
        found = tree(completed(domain(device)))
        assert found.find("devices/serial/target[@type='isa-serial'][@port='0']") is not None
        assert found.find("devices/console/target[@type='serial'][@port='0']") is not None


def test_devices_are_in_libvirts_order() -> None:
    devices = "<rng model='virtio'><backend model='builtin'/></rng><serial type='pty'/>"
    tags = [child.tag for child in tree(completed(domain(devices))).iterfind("devices/*")]
    assert tags.index("controller") < tags.index("serial") < tags.index("rng")


def test_every_pc_has_a_balloon_unless_it_is_refused() -> None:
    assert tree(completed(domain())).find("devices/memballoon[@model='virtio']") is not None
    found = tree(completed(domain("<memballoon model='none'/>")))
    assert [balloon.get("model") for balloon in found.iterfind("devices/memballoon")] == ["none"]


def test_controllers_without_a_number_get_the_next() -> None:
    found = tree(completed(domain("<controller type='scsi' model='virtio-scsi'/>" * 2)))
    scsi = found.findall("devices/controller[@type='scsi']")
    assert [controller.get("index") for controller in scsi] == ["0", "1"]


def test_kvm_is_refused_where_it_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("machines.capabilities", lambda: _without_kvm)
    with pytest.raises(ConfigUnsupported, match="use <domain type='qemu'>"):
        completed(domain().replace("type='qemu'", "type='kvm'", 1))


_without_kvm = replace(capabilities(), kvm=False)


@pytest.mark.parametrize("attribute", ["index", "ports"])
def test_a_controllers_numbers_are_numbers(attribute: str) -> None:
    with pytest.raises(XmlError, match=f"the {attribute} of a <controller>"):
        completed(domain(f"<controller type='usb' {attribute}='x'/>"))
