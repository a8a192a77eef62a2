"""Devices that come and go while a real QEMU runs, without a guest that would help."""

from collections.abc import Callable

import pytest
import trio
import trio.testing
from waiting import until

from virtbackupd.drivers.enums import DeviceModify
from virtbackupd.drivers.errors import (
    ConfigUnsupported,
    DeviceMissing,
    DriverError,
    OperationInvalid,
    OperationUnsupported,
)
from virtbackupd.drivers.events import (
    DomainDeviceAdded,
    DomainDeviceRemovalFailed,
    DomainDeviceRemoved,
    Event,
)
from virtbackupd.drivers.qemu import hotplug
from virtbackupd.drivers.qemu.domain import QemuDomain
from virtbackupd.drivers.qemu.driver import QemuDriver
from virtbackupd.drivers.qemu.qmp import MonitorLost
from virtbackupd.drivers.qemu.run import Leaving

MakeImage = Callable[..., str]
DISK = """<disk type='file'><driver name='qemu' type='{format}'/><source file='{path}'/>
<target dev='{target}' bus='{bus}'/></disk>"""
INTERFACE = "<interface type='user'><mac address='52:54:00:00:00:99'/>{rest}</interface>"
XML = """<domain type='qemu'><name>plug</name><memory unit='MiB'>32</memory>
<os><type machine='q35'>hvm</type></os><devices>
<controller type='scsi' model='virtio-scsi'/>
<disk type='file' device='cdrom'><target dev='sdb' bus='sata'/></disk>
<disk type='file' device='floppy'><target dev='fda' bus='fdc'/></disk>
</devices></domain>"""


def disk(path: str, target: str, bus: str, format: str = "qcow2") -> str:  # noqa: A002
    return DISK.format(path=path, target=target, bus=bus, format=format)


@pytest.fixture
async def plug(qemu: QemuDriver, monkeypatch: pytest.MonkeyPatch) -> QemuDomain:
    """Whoever waits for its devices to go has patience on a slow machine, too."""
    monkeypatch.setattr(hotplug, "PATIENCE", 60)
    ref = await qemu.domain_define_xml(XML)
    domain = qemu.domain_by_uuid(ref.uuid)
    await domain.create()
    return domain


async def nodes_of(domain: QemuDomain) -> list[str]:
    found = await domain.monitor.execute("query-named-block-nodes", {"flat": True})
    return sorted(node["node-name"] for node in found)


@pytest.mark.parametrize(("target", "bus"), [("vda", "virtio"), ("sdd", "scsi"), ("sde", "usb")])
async def test_a_disk_is_attached(
    plug: QemuDomain, make_image: MakeImage, target: str, bus: str
) -> None:
    await plug.attach_device(disk(make_image("a.qcow2"), target, bus))
    assert target in plug.nodes.disks
    assert f"<target dev='{target}' bus='{bus}'/>" in plug.get_xml_desc(0)
    assert f"<target dev='{target}' bus='{bus}'/>" not in plug.get_xml_desc(2)


async def test_an_attached_disk_can_be_written(plug: QemuDomain, make_image: MakeImage) -> None:
    await plug.attach_device(disk(make_image("a.qcow2"), "vda", "virtio"))
    answer = await plug.monitor_command('qemu-io vda "write -P 1 0 64k"', 1)
    assert not answer.strip()


@pytest.mark.parametrize(("target", "bus"), [("sdd", "scsi"), ("sde", "usb")])
async def test_a_disk_is_detached(
    plug: QemuDomain, make_image: MakeImage, target: str, bus: str
) -> None:
    xml = disk(make_image("a.qcow2"), target, bus)
    await plug.attach_device(xml)
    await plug.detach_device(xml)
    assert await nodes_of(plug) == []
    assert f"dev='{target}'" not in plug.get_xml_desc(0)


async def test_coming_and_going_are_told(plug: QemuDomain, make_image: MakeImage) -> None:
    heard: list[Event] = []
    xml = disk(make_image("a.qcow2"), "sdd", "scsi")
    with plug.events.subscribed(heard.append):
        await plug.attach_device(xml)
        await plug.detach_device(xml)
    alias = "scsi0-0-0-3"
    assert heard == [DomainDeviceAdded(plug.ref, alias), DomainDeviceRemoved(plug.ref, alias)]


async def test_a_guest_that_does_not_let_go_keeps_the_disk(
    plug: QemuDomain, make_image: MakeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hotplug, "PATIENCE", 0.1)
    xml = disk(make_image("a.qcow2"), "vda", "virtio")
    await plug.attach_device(xml)
    await plug.detach_device(xml)
    assert "vda" in plug.nodes.disks


async def test_what_is_let_go_of_in_time_is_cleared_away_on_return(
    plug: QemuDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hotplug, "PATIENCE", 0.01)
    leaving, returned = Leaving(), trio.Event()

    async def wait() -> None:
        await hotplug._answer(plug, "net0", leaving)
        returned.set()

    leaving.answered.set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked(10 * hotplug.PATIENCE)
        assert not returned.is_set()
        leaving.cleared.set()


async def test_a_refusal_that_comes_late_is_not_the_answer_to_the_next_call(
    plug: QemuDomain,
) -> None:
    run = plug.require_run()
    await plug.attach_device(INTERFACE.format(rest="<model type='virtio'/>"))
    run.leaving["net0"] = Leaving()
    hotplug.kept(plug, run, {"device": "net0"})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(plug.detach_device_alias, "net0", 0)
        await until(lambda: "net0" in run.leaving)
        hotplug.gone(plug, run, {"device": "net0"})


async def test_a_qemu_that_dies_amid_a_removal_takes_nobody_with_it(
    plug: QemuDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(domain: QemuDomain, name: str) -> None:
        raise MonitorLost(f"{name} of {domain.ref.name}")

    monkeypatch.setattr(hotplug, "_forget_netdev", lost)
    run = plug.require_run()
    await plug.attach_device(INTERFACE.format(rest="<model type='virtio'/>"))
    leaving = run.leaving["net0"] = Leaving()
    hotplug.gone(plug, run, {"device": "net0"})
    assert "net0" not in plug.get_xml_desc(0)
    await leaving.cleared.wait()


async def test_a_guest_that_refuses_is_told(
    plug: QemuDomain, make_image: MakeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Event] = []
    monkeypatch.setattr(hotplug, "PATIENCE", 0.1)
    xml = disk(make_image("a.qcow2"), "vda", "virtio")
    await plug.attach_device(xml)
    await plug.detach_device(xml)
    with plug.events.subscribed(heard.append):
        plug.dispatch_event("DEVICE_UNPLUG_GUEST_ERROR", {"device": "virtio-disk0"}, 0.0)
    assert heard == [DomainDeviceRemovalFailed(plug.ref, "virtio-disk0")]


async def test_an_image_that_cannot_be_opened_leaves_nothing(plug: QemuDomain) -> None:
    before = await nodes_of(plug)
    with pytest.raises(DriverError, match="/no/such"):
        await plug.attach_device(disk("/no/such", "vda", "virtio", "raw"))
    assert await nodes_of(plug) == before
    assert plug.definition.find_disk("vda") is None


async def test_a_target_cannot_be_attached_twice(plug: QemuDomain, make_image: MakeImage) -> None:
    await plug.attach_device(disk(make_image("a.qcow2"), "vda", "virtio"))
    with pytest.raises(OperationInvalid, match="vda"):
        await plug.attach_device(disk(make_image("b.qcow2"), "vda", "virtio"))


async def test_sata_cannot_be_hotplugged(plug: QemuDomain, make_image: MakeImage) -> None:
    with pytest.raises(OperationUnsupported, match="sata"):
        await plug.attach_device(disk(make_image("a.qcow2"), "sdc", "sata"))


async def test_a_disk_that_is_not_there_cannot_be_detached(plug: QemuDomain) -> None:
    with pytest.raises(DeviceMissing, match="no <disk>"):
        await plug.detach_device(disk("/a", "vdz", "virtio"))


async def test_other_devices_wait_for_the_next_start(plug: QemuDomain) -> None:
    with pytest.raises(ConfigUnsupported, match="<rng>"):
        await plug.attach_device("<rng model='virtio'><backend model='builtin'/></rng>")


async def test_a_stored_definition_is_changed_alone(
    plug: QemuDomain, make_image: MakeImage
) -> None:
    xml = disk(make_image("a.qcow2"), "vda", "virtio")
    await plug.attach_device_flags(xml, DeviceModify.CONFIG)
    stored = plug.host.settings.definitions / "plug.xml"
    assert "dev='vda'" in await trio.Path(stored).read_text()
    assert plug.definition.find_disk("vda") is None


async def test_both_are_changed(plug: QemuDomain, make_image: MakeImage) -> None:
    xml = disk(make_image("a.qcow2"), "sdd", "scsi")
    await plug.attach_device_flags(xml, DeviceModify.LIVE | DeviceModify.CONFIG)
    await plug.detach_device_flags(xml, DeviceModify.LIVE | DeviceModify.CONFIG)
    assert "dev='sdd'" not in plug.get_xml_desc(0) + plug.get_xml_desc(2)


async def test_a_device_is_detached_by_its_alias(plug: QemuDomain, make_image: MakeImage) -> None:
    await plug.attach_device(disk(make_image("a.qcow2"), "sdd", "scsi"))
    await plug.detach_device_alias("scsi0-0-0-3", 0)
    assert plug.definition.find_disk("sdd") is None


async def test_an_interface_is_attached_and_its_cable_pulled(plug: QemuDomain) -> None:
    await plug.attach_device(INTERFACE.format(rest="<model type='virtio'/>"))
    xml = INTERFACE.format(rest="<model type='virtio'/><link state='down'/>")
    await plug.update_device_flags(xml, 0)
    assert "<link state='down'/>" in plug.get_xml_desc(0)


async def test_what_is_not_supported_is_refused_by_name(plug: QemuDomain) -> None:
    with pytest.raises(ConfigUnsupported, match="type 'network'"):
        await plug.attach_device("<interface type='network'><source network='a'/></interface>")


async def test_an_attached_disk_survives_in_the_status_file(
    plug: QemuDomain, make_image: MakeImage
) -> None:
    await plug.attach_device(disk(make_image("a.qcow2"), "vda", "virtio"))
    assert "dev='vda'" in await trio.Path(plug.status.path).read_text()
