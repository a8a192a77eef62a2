"""Copies of a frozen disk into files, while the guest goes on writing."""

import os
from pathlib import Path

import pytest
import trio

from virtbackupd.drivers.memory.bitmap import DirtyMap
from virtbackupd.drivers.memory.clusters import CLUSTER
from virtbackupd.drivers.memory.copy import CopyPlan, run_copy
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.load import Loader
from virtbackupd.drivers.memory.targets import create_target, reuse_target
from virtbackupd.drivers.memory.writers import RawWriter

CAPACITY = 8 * CLUSTER + 512


@pytest.fixture
def image() -> Image:
    image = Image(CAPACITY, path="/images/a")
    image.fill_pattern(1, 2 * CLUSTER, 3 * CLUSTER)
    return image


@pytest.fixture
def target(tmp_path: Path) -> str:
    return str(tmp_path / "target")


def test_a_full_plan_passes_over_holes(image: Image) -> None:
    plan = CopyPlan.full(image, needs_zeroes=False)
    assert [index for index, _ in plan.take()] == [2, 3, 4]
    assert (plan.done, plan.total, plan.take()) == (CAPACITY, CAPACITY, [])


def test_a_full_plan_takes_holes_when_they_matter(image: Image) -> None:
    batch = CopyPlan.full(image, needs_zeroes=True).take()
    assert [index for index, content in batch if content is None] == [0, 1, 5, 6, 7, 8]


def test_progress_advances(image: Image) -> None:
    plan = CopyPlan.full(image, needs_zeroes=False)
    assert [plan.done for _ in range(3) if plan.take(1)] == [3 * CLUSTER, 4 * CLUSTER, CAPACITY]


def test_an_incremental_plan_counts_dirty_bytes(image: Image) -> None:
    plan = CopyPlan.incremental(image, DirtyMap([0, 2, 99]))
    assert plan.total == 2 * CLUSTER
    assert plan.take(1) == [(0, None)]
    assert plan.done == CLUSTER


def test_an_incremental_plan_of_nothing(image: Image) -> None:
    assert CopyPlan.incremental(image, DirtyMap([])).take() == []


@pytest.mark.parametrize("format_", ["raw", "qcow2"])
async def test_a_full_copy(image: Image, target: str, format_: str) -> None:
    writer = create_target(target, format_, CAPACITY)
    await run_copy(CopyPlan.full(image, needs_zeroes=writer.needs_zeroes), writer)
    assert Loader().image(target, format_).read(0, CAPACITY) == image.read(0, CAPACITY)


async def test_a_full_copy_over_a_used_file(image: Image, target: str) -> None:
    await trio.Path(target).write_bytes(b"\xff" * CAPACITY)
    writer = reuse_target(target, "raw", CAPACITY, keep=False)
    await run_copy(CopyPlan.full(image, needs_zeroes=writer.needs_zeroes), writer)
    assert await trio.Path(target).read_bytes() == image.read(0, CAPACITY)


async def test_the_guest_may_write_meanwhile(image: Image, target: str) -> None:
    wanted = image.read(0, CAPACITY)

    async def scribble(_: int) -> None:
        image.fill(0, CAPACITY, 7)

    with image.freeze() as frozen:
        plan = CopyPlan.full(frozen, needs_zeroes=False)
        await run_copy(plan, create_target(target, "raw", CAPACITY), between=scribble, batch_size=1)
    assert await trio.Path(target).read_bytes() == wanted


async def test_a_chain_of_increments_equals_the_disk(image: Image, tmp_path: Path) -> None:
    full, increment = str(tmp_path / "full"), str(tmp_path / "increment")
    await run_copy(CopyPlan.full(image, needs_zeroes=False), create_target(full, "qcow2", CAPACITY))
    bitmap = image.bitmaps.add("day")
    image.write(CLUSTER + 5, b"new")
    image.discard(2 * CLUSTER, CLUSTER)
    below = {"backing_file": full, "backing_format": "qcow2"}
    writer = create_target(increment, "qcow2", CAPACITY, **below)
    await run_copy(CopyPlan.incremental(image, DirtyMap.merge([bitmap])), writer)
    assert Loader().image(increment).read(0, CAPACITY) == image.read(0, CAPACITY)


async def test_qemu_img_finds_a_copy_equal(image: Image, tmp_path: Path) -> None:
    paths = {name: str(tmp_path / name) for name in ("raw", "qcow2")}
    for format_, path in paths.items():
        writer = create_target(path, format_, CAPACITY)
        await run_copy(CopyPlan.full(image, needs_zeroes=False), writer)
    command = ["qemu-img", "compare", "-f", "raw", "-F", "qcow2", *paths.values()]
    done = await trio.run_process(command, capture_stdout=True)
    assert b"identical" in done.stdout


async def test_a_cancelled_copy_stops_between_batches(image: Image, target: str) -> None:
    plan = CopyPlan.full(image, needs_zeroes=False)
    with trio.CancelScope() as scope:

        async def stop(_: int) -> None:
            scope.cancel()

        writer = create_target(target, "qcow2", CAPACITY)
        await run_copy(plan, writer, between=stop, batch_size=1)
    assert scope.cancelled_caught
    assert plan.done < plan.total


async def test_a_failed_write_ends_the_copy(image: Image) -> None:
    writer = RawWriter(os.open("/dev/full", os.O_RDWR), CAPACITY, fresh=False)
    with pytest.raises(OSError, match="space"):
        await run_copy(CopyPlan.full(image, needs_zeroes=True), writer)
