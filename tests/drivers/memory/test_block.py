"""The calls on one disk of a domain in memory."""

from pathlib import Path

import pytest
from contract import ask

from virtbackupd.drivers.errors import (
    DriverError,
    InvalidArgument,
    OperationInvalid,
    OperationUnsupported,
)
from virtbackupd.drivers.events import DomainBlockThreshold, Event
from virtbackupd.drivers.interface import BlockInfo, BlockJobInfo
from virtbackupd.drivers.memory.domain import MemoryDomain

MIB = 1 << 20
BYTES = 1


async def test_block_info(guest: MemoryDomain) -> None:
    guest.monitor_command('qemu-io vda "write 0 64k"', 1)
    assert guest.get_block_info("vda", 0) == BlockInfo(65536, 4 * MIB, 65536)


async def test_block_info_by_path_while_inactive(guest: MemoryDomain) -> None:
    guest.destroy()
    assert (await ask(guest.get_block_info("/images/vda.qcow2", 0))).capacity == 4 * MIB


@pytest.mark.parametrize("name", ["vdz", "sda", "/images/none"])
async def test_block_info_refuses(guest: MemoryDomain, name: str) -> None:
    with pytest.raises(InvalidArgument):
        guest.get_block_info(name, 0)


@pytest.mark.parametrize(("size", "flags"), [(8192, 0), (8 * MIB, BYTES)])
async def test_resize(guest: MemoryDomain, size: int, flags: int) -> None:
    guest.block_resize("vda", size, flags)
    assert (await ask(guest.get_block_info("vda", 0))).capacity == 8 * MIB


async def test_grown_area_is_not_dirty(guest: MemoryDomain) -> None:
    disks = "<disks><disk name='vda'/></disks>"
    xml = f"<domaincheckpoint><name>c1</name>{disks}</domaincheckpoint>"
    guest.checkpoint_create_xml(xml, 0)
    guest.block_resize("vda", 8 * MIB, BYTES)
    assert "size='0'" in guest.checkpoint_get_xml_desc("c1", 4)


@pytest.mark.parametrize(
    ("name", "size", "kind"),
    [
        ("vdz", 1, InvalidArgument),
        ("vda", 2**63, InvalidArgument),
        ("vdb", 1, OperationUnsupported),
        ("sda", 1, OperationUnsupported),
    ],
)
async def test_resize_refuses(
    guest: MemoryDomain, name: str, size: int, kind: type[DriverError]
) -> None:
    with pytest.raises(kind):
        guest.block_resize(name, size, 0)


async def test_resize_needs_a_running_domain(guest: MemoryDomain) -> None:
    guest.destroy()
    with pytest.raises(OperationInvalid):
        guest.block_resize("vda", 8192, 0)


async def test_no_block_job(guest: MemoryDomain) -> None:
    assert guest.get_block_job_info("vda", 0) == BlockJobInfo(0, 0, 0, 0, 0)


async def test_calls_on_a_missing_job(guest: MemoryDomain) -> None:
    with pytest.raises(InvalidArgument, match="no active block job"):
        guest.block_job_abort("vda", 0)
    with pytest.raises(InvalidArgument, match="no active block job"):
        guest.block_job_set_speed("vda", 1, 0)


async def test_threshold_is_told_once(guest: MemoryDomain, events: list[Event]) -> None:
    events.clear()
    guest.set_block_threshold("vda", MIB, 0)
    guest.monitor_command('qemu-io vda "write 1M 64k"', 1)
    guest.monitor_command('qemu-io vda "write 1M 64k"', 1)
    (event,) = events
    assert isinstance(event, DomainBlockThreshold)
    assert (event.threshold, event.excess) == (MIB, 65536)


async def test_threshold_by_the_number_in_the_statistics(guest: MemoryDomain) -> None:
    guest.set_block_threshold("vdb[2]", MIB, 0)
    assert guest.counters("vdb").threshold == MIB


async def test_threshold_by_an_unknown_number(guest: MemoryDomain) -> None:
    with pytest.raises(InvalidArgument, match=r"no disk vda\[77\]"):
        guest.set_block_threshold("vda[77]", MIB, 0)


async def test_threshold_on_an_unknown_disk(guest: MemoryDomain) -> None:
    with pytest.raises(InvalidArgument):
        guest.set_block_threshold("vdz[1]", MIB, 0)


async def test_threshold_on_scratch(
    guest: MemoryDomain, events: list[Event], tmp_path: Path
) -> None:
    scratch = f"<disk name='vda'><scratch file='{tmp_path / 'scratch'}'/></disk>"
    server = f"<server transport='unix' socket='{tmp_path / 'nbd'}'/><disks>{scratch}</disks>"
    guest.monitor_command('qemu-io vda "write 0 1M"', 1)
    await guest.backup_begin(f"<domainbackup mode='pull'>{server}</domainbackup>", None, 0)
    index = guest.backup_get_xml_desc(0).partition("index='")[2].partition("'")[0]
    events.clear()
    guest.set_block_threshold(f"vda[{index}]", 131072, 0)
    guest.monitor_command('qemu-io vda "write 0 256k"', 1)
    (event,) = events
    assert isinstance(event, DomainBlockThreshold)
    assert (event.device, event.excess) == (f"vda[{index}]", 65536)
    guest.destroy()
