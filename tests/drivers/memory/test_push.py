"""The pace of a push backup, on a clock that jumps to the next deadline."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.enums import DomainState
from virtbackupd.drivers.jobs import DiskJob
from virtbackupd.drivers.memory.copy import CopyPlan
from virtbackupd.drivers.memory.define import adopt
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.host import Host
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.push import _keep_pace, _PushDisk
from virtbackupd.drivers.memory.targets import create_target

MIB = 1 << 20
XML = """<domain type='test'><name>slow</name><memory>1024</memory><os><type>hvm</type></os>
<devices><disk type='file'><driver type='qcow2'/><source file='/i/a'/><target dev='vda'/></disk>
</devices></domain>"""


@pytest.fixture
async def slow(nursery: trio.Nursery) -> MemoryDomain:
    """A domain with 16 MiB of data, on a host where copies begin with 1 MiB per second."""
    host = Host(nursery, copy_rate=MIB)
    image = Image(16 * MIB, path="/i/a")
    image.fill_pattern(1, 0, 16 * MIB)
    host.images.add(image)
    return adopt(host, DomainDefinition.parse(XML), DomainState.RUNNING)


async def push(domain: MemoryDomain, target: Path) -> None:
    disk = f"<disk name='vda' type='file'><target file='{target}'/></disk>"
    await domain.backup_begin(f"<domainbackup><disks>{disk}</disks></domainbackup>", None, 0)


async def test_rate_of_the_host(
    slow: MemoryDomain, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    begun = trio.current_time()
    await push(slow, tmp_path / "target")
    assert slow.backup is not None
    await slow.backup.over.wait()
    assert trio.current_time() - begun == pytest.approx(16)


@pytest.fixture
def copying(tmp_path: Path) -> Iterator[_PushDisk]:
    """A copy that has just written a piece, limited to 1 MiB per second."""
    image = Image(MIB, path="/i/a")
    writer = create_target(str(tmp_path / "copy"), "raw", MIB)
    with image.freeze() as view:
        plan = CopyPlan.full(view, needs_zeroes=False)
        yield _PushDisk(view, writer, plan, DiskJob("vda", "/i/a", MIB, bandwidth=MIB))
    writer.close()


async def test_piece_takes_its_time(
    copying: _PushDisk, autojump_clock: trio.testing.MockClock
) -> None:
    await _keep_pace(copying, 4 * MIB)
    assert trio.current_time() == pytest.approx(4)


@pytest.mark.parametrize(("bandwidth", "expected"), [(2 * MIB, 2), (0, 1), (MIB // 2, 8)])
async def test_new_limit_counts_at_once(
    copying: _PushDisk, autojump_clock: trio.testing.MockClock, bandwidth: int, expected: int
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_keep_pace, copying, 4 * MIB)
        await trio.sleep(1)
        copying.job.bandwidth = bandwidth
        copying.announce_speed()
    assert trio.current_time() == pytest.approx(expected)


async def test_driver_end_cancels_the_copy(slow: MemoryDomain, tmp_path: Path) -> None:
    await push(slow, tmp_path / "target")
    assert slow.backup is not None
    slow.backup.interrupt()
    assert not (tmp_path / "target").exists()
    assert slow.get_job_stats(1).type == 5
