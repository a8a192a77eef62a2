"""Figures of real QEMUs under libvirt's names."""

import pytest

from virtbackupd.drivers.enums import DomainState, DomainStats
from virtbackupd.drivers.errors import ArgumentUnsupported, InvalidArgument
from virtbackupd.drivers.events import DomainBlockThreshold, Event
from virtbackupd.drivers.qemu.domain import QemuDomain
from virtbackupd.drivers.qemu.driver import QemuDriver

MIB = 1024 * 1024
ENFORCE = 1 << 31


async def _stats(qemu: QemuDriver, groups: int = 0) -> dict[str, int | float | str]:
    [record] = await qemu.get_all_domain_stats([], groups, 0)
    return {param.field: param.value for param in record.params}


async def test_state_and_reason(qemu: QemuDriver, guest: QemuDomain) -> None:
    found = await _stats(qemu, DomainStats.STATE)
    assert found == {"state.state": DomainState.RUNNING, "state.reason": guest.reason}


async def test_every_disk_has_its_figures(qemu: QemuDriver, guest: QemuDomain) -> None:
    found = await _stats(qemu, DomainStats.BLOCK)
    assert found["block.count"] == 3
    assert found["block.1.name"] == "vdb"
    assert found["block.1.capacity"] == 16 * MIB
    assert found["block.2.path"] == guest.definition.disks[2].source
    assert "block.0.rd.reqs" in found


async def test_processor_time_is_that_of_qemu(qemu: QemuDriver, guest: QemuDomain) -> None:
    found = await _stats(qemu, DomainStats.CPU_TOTAL | DomainStats.VCPU)
    assert found["cpu.time"]
    assert found["vcpu.current"] == guest.definition.vcpus
    assert "vcpu.0.time" in found


async def test_what_does_not_run_has_no_figures(qemu: QemuDriver, guest: QemuDomain) -> None:
    await guest.destroy()
    found = await _stats(qemu)
    assert found["block.count"] == 3
    assert "block.0.rd.reqs" not in found
    assert "cpu.time" not in found


async def test_unknown_groups_are_refused_when_enforced(
    qemu: QemuDriver, guest: QemuDomain
) -> None:
    assert guest.active
    with pytest.raises(ArgumentUnsupported):
        await qemu.get_all_domain_stats([], DomainStats.PERF, ENFORCE)


async def test_one_domain_that_is_gone_hides_no_other(qemu: QemuDriver, guest: QemuDomain) -> None:
    records = await qemu.get_all_domain_stats([bytes(16), guest.ref.uuid], 0, 0)
    assert [record.domain for record in records] == [guest.ref]


async def test_a_disk_is_counted(guest: QemuDomain) -> None:
    assert (await guest.block_stats("vda")).write_requests == 0
    fields = [param.field for param in await guest.block_stats_flags("vda", 0)]
    assert "flush_operations" in fields


async def test_all_disks_are_counted_together(guest: QemuDomain) -> None:
    total = await guest.block_stats("")
    each = [await guest.block_stats(disk) for disk in ("vda", "vdb", "vdc")]
    assert total.read_bytes >= max(one.read_bytes for one in each)


async def test_an_unknown_disk_is_named_beside_those_there_are(guest: QemuDomain) -> None:
    with pytest.raises(InvalidArgument, match=r"vdz.*vda, vdb, vdc"):
        await guest.block_stats("vdz")


async def test_the_sizes_of_a_disk_in_use(guest: QemuDomain) -> None:
    info = await guest.get_block_info("vdc", 0)
    assert (info.capacity, info.physical) == (4 * MIB, 4 * MIB)


@pytest.mark.parametrize(("target", "size"), [("vda", 64 * MIB), ("vdc", 4 * MIB)])
async def test_the_sizes_of_a_disk_not_in_use(guest: QemuDomain, target: str, size: int) -> None:
    await guest.destroy()
    assert (await guest.get_block_info(target, 0)).capacity == size


async def test_a_write_beyond_the_threshold_is_told(qemu: QemuDriver, guest: QemuDomain) -> None:
    heard: list[Event] = []
    await guest.set_block_threshold("vda", 65536, 0)
    with qemu.events.subscribed(heard.append):
        await guest.monitor_command('qemu-io vda "write 1M 64k"', 1)
    told = [event for event in heard if isinstance(event, DomainBlockThreshold)]
    assert {event.threshold for event in told} == {65536}
    assert [event.device.partition("[")[0] for event in told] == ["vda", "vda"]
