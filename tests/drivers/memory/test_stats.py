"""Statistics: field names, types, and figures that come from what the guest did."""

import pytest

from virtbackupd.drivers.enums import DomainStats, TypedParameterType
from virtbackupd.drivers.errors import InvalidArgument, OperationInvalid
from virtbackupd.drivers.interface import BlockStats
from virtbackupd.drivers.memory import monitor, stats
from virtbackupd.drivers.memory.domain import MemoryDomain


def work(guest: MemoryDomain) -> None:
    """Two writes of 1 KiB, a read of 512 bytes and a flush on vda; a read of 2 KiB on vdb."""
    lines = ("vda 'write 0 1k'", "vda 'write 0 1k'", "vda 'read 0 512'", "vda flush")
    for line in (*lines, "vdb 'read 0 2k'"):
        monitor.run_line(guest, f"qemu-io {line}")


def figures(guest: MemoryDomain, groups: int = 0) -> dict[str, object]:
    return {param.field: param.value for param in stats.domain_stats(guest, groups)}


def test_every_group_but_the_unknown_is_supported() -> None:
    assert stats.SUPPORTED_GROUPS == (
        DomainStats.STATE
        | DomainStats.CPU_TOTAL
        | DomainStats.BALLOON
        | DomainStats.VCPU
        | DomainStats.INTERFACE
        | DomainStats.BLOCK
    )


async def test_the_state_and_its_reason(guest: MemoryDomain) -> None:
    assert figures(guest, DomainStats.STATE) == {"state.state": 1, "state.reason": 1}


async def test_groups_that_nobody_asked_for_are_left_out(guest: MemoryDomain) -> None:
    fields = figures(guest, DomainStats.BALLOON)
    assert {name.partition(".")[0] for name in fields} == {"balloon"}
    assert (fields["balloon.current"], fields["balloon.maximum"]) == (524288, 524288)


async def test_no_group_means_all(guest: MemoryDomain) -> None:
    assert figures(guest) == figures(guest, stats.SUPPORTED_GROUPS)


async def test_unknown_groups_are_passed_over(guest: MemoryDomain) -> None:
    assert figures(guest, DomainStats.PERF) == {}


async def test_processor_time_grows_with_each_request(guest: MemoryDomain) -> None:
    before = stats.cpu_time(guest)
    work(guest)
    assert stats.cpu_time(guest) - before == 4 * stats.REQUEST_TIME
    assert figures(guest)["cpu.time"] == stats.cpu_time(guest)


async def test_each_processor_is_listed(guest: MemoryDomain) -> None:
    fields = figures(guest, DomainStats.VCPU)
    assert (fields["vcpu.current"], fields["vcpu.maximum"], fields["vcpu.1.state"]) == (2, 2, 1)


async def test_a_running_guest_waits_for_no_processor(guest: MemoryDomain) -> None:
    fields = figures(guest, DomainStats.VCPU)
    assert (fields["vcpu.0.wait"], fields["vcpu.0.delay"]) == (0, 0)


async def test_a_running_guest_has_all_its_memory(guest: MemoryDomain) -> None:
    fields = figures(guest, DomainStats.BALLOON)
    assert fields["balloon.rss"] == fields["balloon.current"]
    assert fields["balloon.last-update"] == 0


async def test_interfaces_are_silent(guest: MemoryDomain) -> None:
    fields = figures(guest, DomainStats.INTERFACE)
    assert (fields["net.count"], fields["net.0.name"], fields["net.0.rx.bytes"]) == (1, "vnet0", 0)


async def test_every_disk_and_drive_is_listed(guest: MemoryDomain) -> None:
    fields = figures(guest, DomainStats.BLOCK)
    assert fields["block.count"] == 3
    assert (fields["block.0.name"], fields["block.0.path"]) == ("vda", "/images/vda.qcow2")
    assert fields["block.2.name"] == "sda"
    assert "block.2.path" not in fields
    assert "block.2.capacity" not in fields


async def test_disk_figures_are_what_the_guest_did(guest: MemoryDomain) -> None:
    work(guest)
    fields = figures(guest, DomainStats.BLOCK)
    expected = {
        "rd.reqs": 1,
        "rd.bytes": 512,
        "wr.reqs": 2,
        "wr.bytes": 2048,
        "fl.reqs": 1,
        "allocation": 65536,
        "capacity": 4 * 1024 * 1024,
        "physical": 65536,
    }
    assert {name: fields[f"block.0.{name}"] for name in expected} == expected


async def test_a_threshold_is_shown_while_it_is_set(guest: MemoryDomain) -> None:
    assert "block.0.threshold" not in figures(guest)
    guest.counters("vda").threshold = 4096
    assert figures(guest)["block.0.threshold"] == 4096


async def test_an_inactive_domain_has_few_figures(guest: MemoryDomain) -> None:
    guest.destroy()
    fields = figures(guest)
    assert fields["state.state"] == 5
    assert fields["block.0.path"] == "/images/vda.qcow2"
    assert (
        not {"cpu.time", "balloon.rss", "net.count", "vcpu.0.state", "block.0.rd.reqs"}
        & fields.keys()
    )


async def test_a_restart_begins_at_zero(guest: MemoryDomain) -> None:
    work(guest)
    guest.destroy()
    await guest.create()
    assert stats.block_stats(guest, "vda") == BlockStats(0, 0, 0, 0, -1)


async def test_values_fit_their_types(guest: MemoryDomain) -> None:
    text = TypedParameterType.STRING
    for param in stats.domain_stats(guest, 0):
        assert isinstance(param.value, str if param.type == text else int), param


@pytest.mark.parametrize("name", ["vda", "/images/vda.qcow2"])
async def test_block_stats_of_a_disk(guest: MemoryDomain, name: str) -> None:
    work(guest)
    assert stats.block_stats(guest, name) == BlockStats(1, 512, 2, 2048, -1)


async def test_block_stats_of_all_disks_together(guest: MemoryDomain) -> None:
    work(guest)
    assert stats.block_stats(guest, "") == BlockStats(2, 2560, 2, 2048, -1)


async def test_block_stats_as_typed_parameters(guest: MemoryDomain) -> None:
    work(guest)
    params = stats.block_stats_params(guest, "vda")
    assert {param.field: param.value for param in params} == {
        "wr_bytes": 2048,
        "wr_operations": 2,
        "rd_bytes": 512,
        "rd_operations": 1,
        "flush_operations": 1,
        "wr_total_times": 0,
        "rd_total_times": 0,
        "flush_total_times": 0,
    }
    assert {param.type for param in params} == {TypedParameterType.LLONG}


async def test_an_unknown_disk_is_named_with_those_there_are(guest: MemoryDomain) -> None:
    with pytest.raises(InvalidArgument, match="'vdz'; its disks: vda, vdb, sda"):
        stats.block_stats(guest, "vdz")


async def test_an_inactive_domain_has_no_block_stats(guest: MemoryDomain) -> None:
    guest.destroy()
    with pytest.raises(OperationInvalid):
        stats.block_stats(guest, "vda")
