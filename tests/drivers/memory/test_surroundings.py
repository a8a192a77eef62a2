"""The clock, fault rules and what was read over NBD: what a saved world brings, and what stays."""

import math
import shutil
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from virtbackupd.drivers import clock as clock_module
from virtbackupd.drivers.clock import Clock
from virtbackupd.drivers.errors import OperationInvalid
from virtbackupd.drivers.faults.engine import Faults
from virtbackupd.drivers.interface import DriverOptions
from virtbackupd.drivers.memory import open_driver
from virtbackupd.drivers.memory.bitmap import DirtyMap
from virtbackupd.drivers.memory.control_commands import run as run_command
from virtbackupd.drivers.memory.driver import MemoryDriver
from virtbackupd.drivers.memory.host import Host
from virtbackupd.drivers.memory.nbd_record import DiskReads

NOON = 1_769_860_800.0
"""2026-01-31T12:00:00Z."""
RULE = "[[faults]]\nname = '{}'\nmatch = {{ nbd = 'read' }}\neffect = {{ kind = 'drop' }}\n"
OLD = Path(__file__).parent / "files" / "world-version-1"
CLUSTER = 65536


def rules(name: str) -> Faults:
    found = Faults()
    found.load_text(RULE.format(name))
    return found


def names(host: Host) -> list[str]:
    return [rule["name"] for rule in host.faults.report()["rules"]]


@asynccontextmanager
async def opened(
    folder: Path,
    world: Path | None = None,
    clock: Clock | None = None,
    faults: Faults | None = None,
) -> AsyncIterator[Host]:
    options = DriverOptions(folder, world, clock=clock or Clock(), faults=faults or Faults())
    async with open_driver(options) as driver:
        assert isinstance(driver, MemoryDriver)
        yield driver.host


async def run(host: Host, command: str, /, **arguments: object) -> object:
    answer = run_command(host, None, command, arguments)
    return await answer if isinstance(answer, Awaitable) else answer


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    async with opened(tmp_path / "state") as host:
        yield host


@pytest.fixture
async def saved(tmp_path: Path) -> Path:
    """By a host whose clock stands and that has a rule."""
    path = tmp_path / "saved"
    async with opened(tmp_path / "first", clock=Clock(NOON), faults=rules("saved")) as host:
        await run(host, "world-save", path=str(path))
    return path


async def test_a_saved_world_brings_its_clock_and_its_faults(host: Host, saved: Path) -> None:
    host.faults.load_text(RULE.format("dropped"))
    await run(host, "world-load", path=str(saved))
    assert (host.clock.stopped, host.clock.time(), names(host)) == (True, NOON, ["saved"])


async def test_a_host_starts_with_the_clock_and_the_faults_of_a_saved_world(
    tmp_path: Path, saved: Path
) -> None:
    async with opened(tmp_path / "second", saved) as host:
        assert (host.clock.stopped, host.clock.time(), names(host)) == (True, NOON, ["saved"])


async def test_a_clock_and_faults_that_were_asked_for_at_the_start_come_first(
    tmp_path: Path, saved: Path
) -> None:
    clock = Clock(NOON + 60)
    async with opened(tmp_path / "second", saved, clock, rules("asked for")) as host:
        assert (host.clock.time(), names(host)) == (NOON + 60, ["asked for"])


async def test_a_world_file_leaves_clock_and_faults_alone(host: Host, tmp_path: Path) -> None:
    world = tmp_path / "world.toml"
    await trio.Path(world).write_text('[[domains]]\nname = "next"\n')
    host.clock.stop()
    host.clock.set_time(NOON)
    host.faults.load_text(RULE.format("kept"))
    await run(host, "world-load", path=str(world))
    assert host.clock.stopped
    assert names(host) == ["kept"]


@pytest.mark.parametrize("command", ["snapshot-restore", "world-reset"])
async def test_going_back_in_memory_leaves_clock_and_faults_alone(host: Host, command: str) -> None:
    await run(host, "snapshot-take", name="a")
    host.clock.stop()
    host.faults.load_text(RULE.format("kept"))
    await run(host, command, **({"name": "a"} if command == "snapshot-restore" else {}))
    assert host.clock.stopped
    assert names(host) == ["kept"]


async def test_a_file_of_the_first_version_is_still_read(host: Host, tmp_path: Path) -> None:
    shutil.copy(OLD, tmp_path / "old")
    host.faults.load_text(RULE.format("kept"))
    await run(host, "world-load", path=str(tmp_path / "old"))
    domain = host.domains.by_name("old")
    image = domain.disk_image("vda")
    assert image is not None
    assert image.read(CLUSTER, 2) == b"\7\7"
    assert list(domain.checkpoints) == ["monday"]
    bitmap = image.bitmaps.get("monday")
    assert bitmap is not None
    assert bitmap.dirty_clusters() == [1]
    assert (domain.reads, names(host), host.clock.stopped) == ({}, ["kept"], False)


async def test_a_clock_under_way_lets_no_saved_world_in(
    host: Host, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock_module, "SETTLE_LIMIT", math.inf)
    host.clock.stop()
    host.domains.by_name("test").suspend()
    async with trio.open_nursery() as steps:
        with host.clock.working():
            steps.start_soon(host.clock.step, 60)
            await wait_all_tasks_blocked()
            with pytest.raises(OperationInvalid, match="being moved by another call"):
                await run(host, "world-load", path=str(saved))
    assert host.domains.by_name("test").get_state(0)[0] == 3


def noted(host: Host) -> DiskReads:
    reads = host.domains.by_name("test").reads.setdefault("vda", DiskReads())
    reads.begin("monday", DirtyMap([2, 0]))
    reads.note(0, 10)
    reads.note(CLUSTER, CLUSTER)
    return reads


async def test_what_was_read_is_in_a_saved_world(host: Host, tmp_path: Path) -> None:
    reads = noted(host)
    path = tmp_path / "with-reads"
    await run(host, "world-save", path=str(path))
    reads.note(0, 4096)
    await run(host, "world-load", path=str(path))
    found = host.domains.by_name("test").reads["vda"]
    assert (found.count, found.bytes, found.complete) == (2, 10 + CLUSTER, True)
    assert found.ranges() == [(0, 10), (CLUSTER, CLUSTER)]
    assert found.since == "monday"
    assert found.changed is not None
    assert list(found.outside(found.changed)) == [(CLUSTER, CLUSTER)]


async def test_what_was_read_goes_back_with_a_snapshot(host: Host) -> None:
    await run(host, "snapshot-take", name="unread")
    noted(host)
    await run(host, "snapshot-take", name="read")
    await run(host, "snapshot-restore", name="unread")
    assert host.domains.by_name("test").reads == {}
    await run(host, "snapshot-restore", name="read")
    assert host.domains.by_name("test").reads["vda"].count == 2


async def test_a_record_goes_on_after_going_back_and_the_snapshot_stays_as_it_was(
    host: Host,
) -> None:
    noted(host)
    await run(host, "snapshot-take", name="a")
    for _ in range(2):
        await run(host, "snapshot-restore", name="a")
        reads = host.domains.by_name("test").reads["vda"]
        assert reads.ranges() == [(0, 10), (CLUSTER, CLUSTER)]
        reads.note(10, 5)
        assert reads.ranges() == [(0, 15), (CLUSTER, CLUSTER)]
