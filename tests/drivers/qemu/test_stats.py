"""Figures of real QEMUs under libvirt's names."""

import pytest
from waiting import until

from virtbackupd.drivers.enums import ControlState, DomainState, DomainStats
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
    # The host counts in hundredths of a second, and a fast one starts QEMU in less.
    await until(lambda: guest.get_info().cpu_time)
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


async def test_what_does_not_run_has_the_sizes_of_its_images(
    qemu: QemuDriver, guest: QemuDomain
) -> None:
    await guest.destroy()
    found = await _stats(qemu, DomainStats.BLOCK)
    assert found["block.0.capacity"] == 64 * MIB
    assert 0 < int(found["block.0.allocation"]) < 64 * MIB
    assert 0 < int(found["block.0.physical"]) < 64 * MIB
    assert (found["block.2.capacity"], found["block.2.physical"]) == (4 * MIB, 4 * MIB)


async def test_a_file_takes_up_what_its_file_system_gave_it(
    qemu: QemuDriver, guest: QemuDomain
) -> None:
    for command in ("write 0 1M", "flush"):
        await guest.monitor_command(f'qemu-io vdc "{command}"', 1)
    found = await _stats(qemu, DomainStats.BLOCK)
    assert MIB <= int(found["block.2.physical"]) < 4 * MIB


async def test_unknown_groups_are_refused_when_enforced(
    qemu: QemuDriver, guest: QemuDomain
) -> None:
    assert guest.active
    with pytest.raises(ArgumentUnsupported):
        await qemu.get_all_domain_stats([], 1 << 20, ENFORCE)


async def test_one_domain_that_is_gone_hides_no_other(qemu: QemuDriver, guest: QemuDomain) -> None:
    records = await qemu.get_all_domain_stats([bytes(16), guest.ref.uuid], 0, 0)
    assert [record.domain for record in records] == [guest.ref]


async def test_a_disk_is_counted(guest: QemuDomain) -> None:
    assert (await guest.block_stats("vda")).write_requests == 0
    fields = [param.field for param in await guest.block_stats_flags("vda", 0)]
    assert "flush_operations" in fields


async def test_all_disks_are_counted_together(guest: QemuDomain) -> None:
    # The firmware looks for something to start on each of them.
    await guest.suspend()
    total = await guest.block_stats("")
    each = [await guest.block_stats(disk) for disk in ("vda", "vdb", "vdc")]
    assert total.read_bytes == sum(one.read_bytes for one in each)


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


async def test_no_disk_has_failed(guest: QemuDomain) -> None:
    assert await guest.get_disk_errors(0) == []


async def test_a_failed_disk_is_named_with_its_failure(
    guest: QemuDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = [
        {"qdev": "/machine/peripheral/virtio-disk0/virtio-backend", "io-status": "nospace"},
        {"qdev": "virtio-disk1", "io-status": "failed"},
        {"qdev": "virtio-disk2", "io-status": "ok"},
        {"qdev": ""},
    ]

    async def told(command: str) -> object:
        assert command == "query-block"
        return devices

    monkeypatch.setattr(guest.monitor, "execute", told)
    assert await guest.get_disk_errors(0) == [("vda", 2), ("vdb", 1)]


async def test_a_domain_that_nobody_works_on_is_under_control(guest: QemuDomain) -> None:
    assert guest.get_control_info(0) == (ControlState.OK, 0, 0)


async def test_a_call_at_work_is_seen(guest: QemuDomain) -> None:
    async with guest.modify("a call"):
        assert guest.get_control_info(0)[0] == ControlState.JOB


async def test_a_lost_monitor_is_seen(guest: QemuDomain) -> None:
    guest.monitor.lost.set()
    assert guest.get_control_info(0)[0] == ControlState.ERROR
