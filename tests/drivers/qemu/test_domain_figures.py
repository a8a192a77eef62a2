"""The figures of a machine with a bit of everything: chains, an empty drive, threads, a balloon."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from virtbackupd.drivers.defined_driver import STATS_BACKING
from virtbackupd.drivers.enums import DomainStats, MemoryStat
from virtbackupd.drivers.qemu import hotplug, processors
from virtbackupd.drivers.qemu.domain import QemuDomain
from virtbackupd.drivers.qemu.driver import QemuDriver

MIB = 1024 * 1024
LIMIT = 65536
XML = """<domain type='qemu'><name>rich</name>
<memory unit='MiB'>48</memory><currentMemory unit='MiB'>32</currentMemory>
<vcpu current='2'>3</vcpu><iothreads>2</iothreads>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices>
<disk type='file'><driver name='qemu' type='qcow2'/><source file='{overlay}'/>
<target dev='vda' bus='virtio'/></disk>
<disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>
<controller type='scsi' model='virtio-scsi'/>
<interface type='user'/>
<memballoon model='virtio'/>
</devices></domain>"""
PLUGGED = """<disk type='file'><driver name='qemu' type='qcow2'/><source file='{path}'/>
<target dev='sdb' bus='scsi'/></disk>"""
MEDIUM = """<disk type='file' device='cdrom'>{source}<target dev='sda' bus='sata'/><readonly/>
</disk>"""
DISK = ("name", "path", "backingIndex")
REQUESTS = tuple(f"{how}.{what}" for how in ("rd", "wr") for what in ("reqs", "bytes", "times"))
REQUESTS += ("fl.reqs", "fl.times")
SIZES = ("allocation", "capacity", "physical")
FIELDS = (
    *("state.state", "state.reason", "cpu.time", "cpu.user", "cpu.system"),
    *("cpu.cache.monitor.count", "cpu.haltpoll.success.time", "cpu.haltpoll.fail.time"),
    *("balloon.current", "balloon.maximum", "balloon.last-update", "balloon.rss"),
    *("vcpu.current", "vcpu.maximum"),
    *(f"vcpu.{n}.{what}" for n in (0, 1) for what in ("state", "time", "wait", "delay")),
    *("net.count", "block.count"),
    *(f"block.0.{what}" for what in (*DISK, *REQUESTS, *SIZES)),
    *(f"block.1.{what}" for what in (*DISK, *SIZES)),
    *(f"block.2.{what}" for what in ("name", *REQUESTS)),
    "iothread.count",
    *(f"iothread.{n}.poll-{what}" for n in (1, 2) for what in ("max-ns", "grow", "shrink")),
    *(f"dirtyrate.calc_{what}" for what in ("status", "start_time", "period", "mode")),
)
"""What libvirtd 9.0 gives for such a machine with QEMU 7.2, in its order."""


@pytest.fixture
async def rich(qemu: QemuDriver, make_image: Callable[..., str]) -> QemuDomain:
    base = make_image("base.qcow2")
    overlay = make_image("overlay.qcow2", "-b", base, "-F", "qcow2")
    ref = await qemu.domain_define_xml(XML.format(overlay=overlay))
    domain = qemu.domain_by_uuid(ref.uuid)
    await domain.create()
    return domain


async def _stats(qemu: QemuDriver, groups: int = 0) -> dict[str, int | float | str]:
    [record] = await qemu.get_all_domain_stats([], groups, STATS_BACKING)
    return {param.field: param.value for param in record.params}


async def test_a_running_domain_has_libvirts_fields_in_its_order(
    qemu: QemuDriver, rich: QemuDomain
) -> None:
    assert rich.active
    assert tuple(await _stats(qemu)) == FIELDS


async def test_an_image_below_a_disk_has_its_own_sizes(qemu: QemuDriver, rich: QemuDomain) -> None:
    assert rich.active
    found = await _stats(qemu, DomainStats.BLOCK)
    assert str(found["block.1.path"]).endswith("base.qcow2")
    assert found["block.1.capacity"] == 64 * MIB
    assert found["block.1.physical"]


async def test_iothreads_poll_as_qemu_says(qemu: QemuDriver, rich: QemuDomain) -> None:
    assert rich.active
    found = await _stats(qemu, DomainStats.IOTHREAD)
    assert (found["iothread.count"], found["iothread.2.poll-max-ns"]) == (2, 32768)


async def test_a_threshold_is_shown_until_it_is_reached(qemu: QemuDriver, rich: QemuDomain) -> None:
    await rich.set_block_threshold("vda", LIMIT, 0)
    before = await _stats(qemu, DomainStats.BLOCK)
    await rich.monitor_command('qemu-io vda "write 1M 64k"', 1)
    after = await _stats(qemu, DomainStats.BLOCK)
    assert before["block.0.threshold"] == LIMIT
    assert "block.0.threshold" not in after


async def test_a_threshold_can_be_taken_back(qemu: QemuDriver, rich: QemuDomain) -> None:
    await rich.set_block_threshold("vda", LIMIT, 0)
    await rich.set_block_threshold("vda", 0, 0)
    assert "block.0.threshold" not in await _stats(qemu, DomainStats.BLOCK)


async def test_a_scratch_image_grows_by_what_was_copied(
    qemu: QemuDriver, rich: QemuDomain, state_dir: Path
) -> None:
    await rich.monitor_command('qemu-io vda "write 0 1M"', 1)
    server = f"<server transport='unix' socket='{state_dir}/nbd.sock'/>"
    disk = f"<disk name='vda' type='file'><scratch file='{state_dir}/scratch'/></disk>"
    xml = f"<domainbackup mode='pull'>{server}<disks>{disk}</disks></domainbackup>"
    await rich.backup_begin(xml, None, 0)
    await rich.monitor_command('qemu-io vda "write 0 1M"', 1)
    found = await _stats(qemu, DomainStats.BLOCK)
    assert found["block.2.path"] == f"{state_dir}/scratch"
    assert int(found["block.2.allocation"]) > MIB
    assert found["block.2.capacity"] == 64 * MIB


async def test_a_guest_without_a_driver_has_all_of_its_memory(rich: QemuDomain) -> None:
    assert rich.get_info().memory == 48 * 1024
    assert "<currentMemory unit='KiB'>49152</currentMemory>" in rich.definition.to_xml()


async def test_a_change_of_the_balloon_is_followed(qemu: QemuDriver, rich: QemuDomain) -> None:
    rich.dispatch_event("BALLOON_CHANGE", {"actual": 40 * MIB}, 0)
    assert rich.get_info().memory == 40 * 1024
    assert (await _stats(qemu, DomainStats.BALLOON))["balloon.current"] == 40 * 1024
    assert "<currentMemory unit='KiB'>40960</currentMemory>" in rich.definition.to_xml()


async def test_the_memory_of_a_domain(rich: QemuDomain) -> None:
    found = dict(await rich.memory_stats(0))
    assert set(found) == {MemoryStat.ACTUAL_BALLOON, MemoryStat.LAST_UPDATE, MemoryStat.RSS}
    assert found[MemoryStat.ACTUAL_BALLOON] == 48 * 1024
    assert found[MemoryStat.RSS] > 1024


async def test_each_processor_that_is_plugged_in(rich: QemuDomain) -> None:
    found = rich.get_vcpus()
    assert [vcpu.number for vcpu in found] == [0, 1]
    assert all(any(vcpu.cpu_map) and vcpu.cpu >= 0 for vcpu in found)


async def test_the_processor_of_a_guest_that_works_has_been_busy(rich: QemuDomain) -> None:
    with trio.fail_after(60):
        while not rich.get_vcpus()[0].cpu_time:  # noqa: ASYNC110 - the kernel tells nobody
            await trio.sleep(0.01)


async def test_processors_may_be_numbered_beyond_their_count(
    rich: QemuDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processors, "cpu_count", lambda: 2)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {1, 9})
    assert [vcpu.cpu_map for vcpu in rich.get_vcpus()] == [b"\x02\x02"] * 2


async def test_a_disk_that_was_plugged_in_has_its_own_size(
    rich: QemuDomain, make_image: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hotplug, "PATIENCE", 60)
    for size in (4 * MIB, 8 * MIB):
        path = make_image(f"{size}.qcow2", size=size)
        device = PLUGGED.format(path=path)
        await rich.attach_device(device)
        assert rich.run is not None
        assert rich.run.capacities["sdb"] == size
        await rich.detach_device(device)


async def test_a_medium_has_its_own_size(rich: QemuDomain, make_image: Callable[..., str]) -> None:
    path = make_image("medium.raw", format="raw", size=MIB)
    await rich.update_device_flags(MEDIUM.format(source=f"<source file='{path}'/>"), 1)
    assert rich.run is not None
    assert rich.run.capacities["sda"] == MIB
    await rich.update_device_flags(MEDIUM.format(source=""), 1)
    assert "sda" not in rich.run.capacities
