"""The pace of a push backup, on a clock that jumps to the next deadline or stands until moved."""

from pathlib import Path

import pytest
import trio
import trio.testing

from virtbackupd.drivers.clock import Clock, settled
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.enums import DomainState, JobType
from virtbackupd.drivers.jobs import DiskJob
from virtbackupd.drivers.memory.clusters import CLUSTER
from virtbackupd.drivers.memory.copy import CopyPlan
from virtbackupd.drivers.memory.define import adopt
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.host import Host
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.pace import Pace, Stop

MIB = 1 << 20
BYTES = 1
COMPLETED = 1
XML = """<domain type='test'><name>slow</name><memory>1024</memory><os><type>hvm</type></os>
<devices><disk type='file'><driver type='qcow2'/><source file='/i/a'/><target dev='vda'/></disk>
</devices></domain>"""


def make_domain(nursery: trio.Nursery, clock: Clock) -> MemoryDomain:
    """A domain with 16 MiB of data, on a host where copies begin with 1 MiB per second."""
    host = Host(nursery, copy_rate=MIB, clock=clock)
    image = Image(16 * MIB, path="/i/a")
    image.fill_pattern(1, 0, 16 * MIB)
    host.images.add(image)
    return adopt(host, DomainDefinition.parse(XML), DomainState.RUNNING)


@pytest.fixture
async def slow(nursery: trio.Nursery) -> MemoryDomain:
    return make_domain(nursery, Clock())


@pytest.fixture
async def standing(nursery: trio.Nursery) -> MemoryDomain:
    """The same on a host whose clock stands."""
    return make_domain(nursery, Clock(0))


async def push(domain: MemoryDomain, target: Path) -> None:
    disk = f"<disk name='vda' type='file'><target file='{target}'/></disk>"
    await domain.backup_begin(f"<domainbackup><disks>{disk}</disks></domainbackup>", None, 0)


def processed(domain: MemoryDomain) -> int:
    return domain.get_block_job_info("vda", 0).cur


async def test_rate_of_the_host(
    slow: MemoryDomain, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    begun = trio.current_time()
    await push(slow, tmp_path / "target")
    assert slow.backup is not None
    await slow.backup.over.wait()
    assert trio.current_time() - begun == pytest.approx(16)


async def test_nothing_is_copied_while_the_clock_stands(
    standing: MemoryDomain, tmp_path: Path
) -> None:
    await push(standing, tmp_path / "target")
    await settled(standing.clock)
    assert processed(standing) == 0


@pytest.mark.parametrize("seconds", [0.5, 1, 1.0625, 7])
async def test_a_step_copies_what_its_time_allows(
    standing: MemoryDomain, tmp_path: Path, seconds: float
) -> None:
    await push(standing, tmp_path / "target")
    await standing.clock.step(seconds)
    assert processed(standing) == int(seconds * MIB)
    info = standing.get_job_info()
    assert (info.time_elapsed, info.file_processed) == (int(seconds * 1000), int(seconds * MIB))


async def test_only_whole_clusters_are_copied(standing: MemoryDomain, tmp_path: Path) -> None:
    await push(standing, tmp_path / "target")
    standing.block_job_set_speed("vda", 100_000, BYTES)
    await standing.clock.step(1)
    assert processed(standing) == CLUSTER
    await standing.clock.step(1)
    assert processed(standing) == 200_000 // CLUSTER * CLUSTER


@pytest.mark.parametrize("steps", [1, 7, 32])
async def test_many_steps_copy_as_much_as_one(
    standing: MemoryDomain, tmp_path: Path, steps: int
) -> None:
    await push(standing, tmp_path / "target")
    for _ in range(steps):
        await standing.clock.step(3.2 / steps)
    await standing.clock.step(0.8)
    assert processed(standing) == 4 * MIB


async def test_a_new_speed_counts_from_now_on(standing: MemoryDomain, tmp_path: Path) -> None:
    await push(standing, tmp_path / "target")
    await standing.clock.step(1)
    standing.block_job_set_speed("vda", 5, 0)
    assert standing.get_block_job_info("vda", 0).bandwidth == 5
    await standing.clock.step(2)
    assert processed(standing) == 11 * MIB


async def test_no_speed_is_no_limit(standing: MemoryDomain, tmp_path: Path) -> None:
    await push(standing, tmp_path / "target")
    standing.block_job_set_speed("vda", 0, 0)
    await settled(standing.clock)
    assert standing.backup is None
    assert standing.get_job_stats(COMPLETED).type == JobType.COMPLETED


async def test_a_push_ends_when_its_time_has_come(standing: MemoryDomain, tmp_path: Path) -> None:
    await push(standing, tmp_path / "target")
    await standing.clock.step(15.99)
    assert standing.get_job_info().type == JobType.UNBOUNDED
    await standing.clock.step(0.01)
    figures = {param.field: param.value for param in standing.get_job_stats(COMPLETED).params}
    assert (figures["time_elapsed"], figures["disk_processed"]) == (16_000, 16 * MIB)


@pytest.mark.parametrize(("bandwidth", "left"), [(2 * MIB, 7.5), (MIB // 2, 30)])
async def test_a_new_limit_moves_the_end(
    standing: MemoryDomain, tmp_path: Path, bandwidth: int, left: float
) -> None:
    await push(standing, tmp_path / "target")
    await standing.clock.step(1)
    standing.block_job_set_speed("vda", bandwidth, BYTES)
    await standing.clock.step(left - 0.001)
    assert standing.get_job_info().type == JobType.UNBOUNDED
    await standing.clock.step(0.001)
    assert standing.get_job_info().type == JobType.NONE


async def test_driver_end_cancels_the_copy(slow: MemoryDomain, tmp_path: Path) -> None:
    await push(slow, tmp_path / "target")
    assert slow.backup is not None
    slow.backup.interrupt()
    assert not (tmp_path / "target").exists()
    assert slow.get_job_stats(1).type == 5


async def test_an_abort_ends_a_push_that_stands(standing: MemoryDomain, tmp_path: Path) -> None:
    await push(standing, tmp_path / "target")
    standing.abort_job()
    await settled(standing.clock)
    assert standing.get_job_stats(COMPLETED).type == JobType.CANCELLED


@pytest.mark.parametrize(
    ("stop", "expected"),
    [(Stop(percent=25), 250), (Stop(processed=333), 333), (Stop(processed=5000), 1000)],
)
def test_where_a_copy_stops(stop: Stop, expected: int) -> None:
    assert stop.of(1000) == expected


async def test_holes_are_passed_at_once(nursery: trio.Nursery) -> None:
    image = Image(16 * MIB, path="/i/a")
    image.write(8 * MIB, b"data")
    plan, job = CopyPlan.full(image, needs_zeroes=False), DiskJob("vda", "", 16 * MIB, bandwidth=1)
    clock = Clock(0)
    pace, turns = Pace(clock, plan, job), list[int]()

    async def take() -> None:
        turns.append(await pace.turn())
        plan.take(turns[-1])
        turns.append(await pace.turn())

    nursery.start_soon(take)
    await clock.step(CLUSTER)
    assert turns[0] == 1
    assert (len(turns), plan.left) == (2, 0)
