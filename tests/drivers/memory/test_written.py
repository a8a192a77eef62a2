"""What was written, by bytes: exact since any checkpoint, or said to be known by clusters only."""

from pathlib import Path
from typing import Any

import pytest
from controlling import control, ranges
from hypothesis import given
from hypothesis import strategies as st

from virtbackupd.drivers.memory import written as written_module
from virtbackupd.drivers.memory.bitmap import BitmapSet, ChangeLog
from virtbackupd.drivers.memory.clusters import CLUSTER
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.host import Host
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.state_file import load_state, save_state
from virtbackupd.drivers.memory.world_state import restore, take

MIB = 1 << 20
BLOCK = CLUSTER // 8
WRITES = st.lists(
    st.one_of(st.none(), st.tuples(st.integers(0, 24), st.integers(0, 16))), max_size=12
)
"""Of so many blocks; None begins a new bitmap."""


def checkpoint(guest: MemoryDomain, name: str) -> None:
    guest.checkpoint_create_xml(
        f"<domaincheckpoint><name>{name}</name><disks><disk name='vda'/></disks>"
        "</domaincheckpoint>",
        0,
    )


async def exact(guest: MemoryDomain, since: str, **arguments: Any) -> Any:  # noqa: ANN401 - JSON
    return await control(guest, "changed-ranges", disk="vda", since=since, exact=True, **arguments)


def blocks(found: list[tuple[int, int]] | None) -> set[int]:
    assert found is not None
    return {block for start, end in found for block in range(start // BLOCK, end // BLOCK)}


@given(WRITES)
def test_bytes_since_every_epoch_are_those_written(writes: list[tuple[int, int] | None]) -> None:
    log = ChangeLog()
    bitmaps = BitmapSet("/images/a", log)
    expected = {0: set[int]()}
    bitmaps.add("0")
    for write in writes:
        if write is None:
            bitmaps.add(str(len(expected)))
            expected[len(expected)] = set()
        else:
            log.stamp(write[0] * BLOCK, write[1] * BLOCK)
            for known in expected.values():
                known.update(range(write[0], sum(write)))
    for name, known in expected.items():
        bitmap = bitmaps.get(str(name))
        assert bitmap is not None
        assert blocks(bitmap.ranges()) == known
        assert {block * BLOCK // CLUSTER for block in known} == set(bitmap.dirty_clusters())


async def test_exact_changes_since_each_checkpoint(guest: MemoryDomain, image: Image) -> None:
    image.write(0, b"before")
    checkpoint(guest, "c1")
    image.write(10, b"12345")
    image.fill(CLUSTER - 1, 2, 7)
    checkpoint(guest, "c2")
    image.write(15, b"6")
    found = await exact(guest, "c1")
    assert found["ranges"] == ranges((10, 6), (CLUSTER - 1, 2))
    assert (found["bytes"], found["granularity"], found["bitmap"]) == (8, 1, "valid")
    assert (await exact(guest, "c2"))["ranges"] == ranges((15, 1))


async def test_what_was_discarded_in_part_counts_as_asked_for(
    guest: MemoryDomain, image: Image
) -> None:
    checkpoint(guest, "c1")
    image.discard(100, CLUSTER)
    assert (await exact(guest, "c1"))["ranges"] == ranges((100, CLUSTER))


async def test_nothing_is_changed_behind_the_end(guest: MemoryDomain, image: Image) -> None:
    image.resize(MIB + 512)
    checkpoint(guest, "c1")
    image.write_zeroes(MIB, 512)
    assert (await exact(guest, "c1"))["ranges"] == ranges((MIB, 512))


async def test_a_disk_that_was_cut_and_grown_again_has_forgotten_its_end(
    guest: MemoryDomain, image: Image
) -> None:
    checkpoint(guest, "c1")
    image.write(MIB - 1, b"ab")
    image.resize(MIB)
    image.resize(2 * MIB)
    assert (await exact(guest, "c1"))["ranges"] == ranges((MIB - 1, 1))


async def test_what_was_cut_off_within_a_cluster_is_not_told(
    guest: MemoryDomain, image: Image
) -> None:
    checkpoint(guest, "c1")
    image.write(MIB - 2, b"abc")
    image.resize(MIB - 512)
    image.write(0, b"x")
    assert (await exact(guest, "c1"))["ranges"] == ranges((0, 1))


async def test_layers_are_taken_together(guest: MemoryDomain, image: Image) -> None:
    checkpoint(guest, "c1")
    image.write(5, b"x")
    top = Image(image.capacity, path="/images/top", backing=image)
    top.bitmaps.add("c1")
    top.write(7, b"y")
    guest.media["vda"] = top
    assert (await exact(guest, "c1"))["ranges"] == ranges((5, 1), (7, 1))


async def test_of_too_many_places_only_clusters_are_known(
    guest: MemoryDomain, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(written_module, "MAX_RANGES", 3)
    checkpoint(guest, "c1")
    for place in range(4):
        image.write(2 * place, b"x")
    found = await exact(guest, "c1")
    assert (found["granularity"], found["ranges"]) == (CLUSTER, ranges((0, CLUSTER)))


async def test_the_oldest_epochs_are_forgotten_first(
    guest: MemoryDomain, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(written_module, "MAX_RANGES", 3)
    for name in ("c1", "c2"):
        checkpoint(guest, name)
        image.write(0, b"x")
        image.write(2, b"x")
    assert (await exact(guest, "c1"))["granularity"] == CLUSTER
    assert (await exact(guest, "c2"))["ranges"] == ranges((0, 1), (2, 1))


async def test_after_too_many_a_new_checkpoint_is_exact_again(
    guest: MemoryDomain, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(written_module, "MAX_RANGES", 1)
    checkpoint(guest, "c1")
    image.write(0, b"x")
    image.write(2, b"x")
    checkpoint(guest, "c2")
    image.write(9, b"x")
    assert (await exact(guest, "c2"))["ranges"] == ranges((9, 1))


async def test_going_back_goes_back_in_bytes_too(
    host: Host, guest: MemoryDomain, image: Image
) -> None:
    checkpoint(guest, "c1")
    image.write(3, b"x")
    state = take(host)
    image.write(5, b"y")
    restore(host, state)
    assert (await exact(guest, "c1"))["ranges"] == ranges((3, 1))
    image.write(4, b"z")
    assert (await exact(guest, "c1"))["ranges"] == ranges((3, 2))
    restore(host, state)
    assert (await exact(guest, "c1"))["ranges"] == ranges((3, 1))


async def test_a_saved_world_knows_the_bytes(
    host: Host, guest: MemoryDomain, image: Image, tmp_path: Path
) -> None:
    checkpoint(guest, "c1")
    image.write(3, b"x")
    checkpoint(guest, "c2")
    image.write(CLUSTER, b"y")
    save_state(tmp_path / "saved", take(host), "/images")
    restore(host, load_state(tmp_path / "saved", "/images"))
    again = host.domains.by_name("guest")
    assert (await exact(again, "c1"))["ranges"] == ranges((3, 1), (CLUSTER, 1))
    assert (await exact(again, "c2"))["ranges"] == ranges((CLUSTER, 1))


async def test_pages_of_exact_changes(guest: MemoryDomain, image: Image) -> None:
    checkpoint(guest, "c1")
    for place in (0, 10, 20):
        image.write(place, b"x")
    found = await exact(guest, "c1", start=5, limit=1)
    assert (found["ranges"], found["next"], found["bytes"]) == (ranges((10, 1)), 20, 3)
