"""The control commands with which a test is the guest."""

import base64
import hashlib
from typing import Any

import pytest
from controlling import control

from virtbackupd.drivers.errors import InvalidArgument, OperationInvalid, OperationUnsupported
from virtbackupd.drivers.events import DomainBlockThreshold, Event
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.image import Image

MIB = 1 << 20
CLUSTER = 65536


def image_of(guest: MemoryDomain) -> Image:
    image = guest.disk_image("vda")
    assert image is not None
    return image


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def test_data_is_written_and_read_back(guest: MemoryDomain) -> None:
    data = b"precious \0\xff"
    assert await control(guest, "guest-write", disk="vda", offset=1000, data=text(data)) == {
        "written": len(data)
    }
    found = await control(guest, "guest-read", disk="vda", offset=1000, length=len(data))
    assert found == {"data": text(data), "sha256": hashlib.sha256(data).hexdigest()}


async def test_one_byte_fills_a_range(guest: MemoryDomain) -> None:
    await control(guest, "guest-write", disk="vda", offset="1 MiB", length="64k", byte=7)
    assert image_of(guest).read(MIB, CLUSTER) == b"\7" * CLUSTER
    assert image_of(guest).data_clusters() == [16]


async def test_a_seed_writes_the_pattern_of_world_files(guest: MemoryDomain) -> None:
    expected = Image(4 * MIB, path="/e")
    expected.fill_pattern(5, CLUSTER, 2 * CLUSTER)
    await control(guest, "guest-write", disk="vda", offset=CLUSTER, length=2 * CLUSTER, seed=5)
    assert image_of(guest).read(0, 4 * CLUSTER) == expected.read(0, 4 * CLUSTER)


@pytest.mark.parametrize(
    "arguments", [{"data": text(b"x" * 100)}, {"length": CLUSTER, "seed": 1}], ids=str
)
async def test_writes_are_in_bitmaps_and_running_backups_keep_what_was(
    guest: MemoryDomain, arguments: dict[str, object]
) -> None:
    bitmap = image_of(guest).bitmaps.add("b")
    with image_of(guest).freeze() as frozen:
        await control(guest, "guest-write", disk="vda", offset=0, **arguments)
        assert frozen.read(0, 100) == bytes(100)
    assert bitmap.dirty_clusters() == [0]


async def test_zeroes_take_no_space(guest: MemoryDomain) -> None:
    image_of(guest).fill(0, CLUSTER, 1)
    await control(guest, "guest-zero", disk="vda", offset=0, length=CLUSTER)
    assert image_of(guest).allocation == 0


async def test_discarding_frees_whole_clusters(guest: MemoryDomain) -> None:
    image_of(guest).fill(0, 2 * CLUSTER, 1)
    found = await control(guest, "guest-discard", disk="vda", offset=0, length=CLUSTER + 1)
    assert found == {"discarded": CLUSTER + 1}
    assert image_of(guest).data_clusters() == [1]


async def test_requests_are_counted(guest: MemoryDomain) -> None:
    await control(guest, "guest-write", disk="vda", offset=0, length=10, byte=1)
    await control(guest, "guest-read", disk="vda", offset=0, length=20)
    counters = guest.counters("vda")
    assert (counters.write_bytes, counters.read_bytes) == (10, 20)


async def test_a_write_past_the_threshold_publishes_an_event(
    guest: MemoryDomain, events: list[Event]
) -> None:
    guest.set_block_threshold("vda", 100, 0)
    await control(guest, "guest-write", disk="vda", offset=100, length=10, byte=1)
    passed = [event for event in events if isinstance(event, DomainBlockThreshold)]
    assert [event.excess for event in passed] == [10]


@pytest.mark.parametrize(
    ("command", "arguments", "complaint"),
    [
        ("guest-write", {"disk": "vda", "offset": 0}, "one of data, byte and seed"),
        (
            "guest-write",
            {"disk": "vda", "offset": 0, "length": 1, "byte": 1, "seed": 1},
            "one of data, byte and seed",
        ),
        ("guest-write", {"disk": "vda", "offset": 0, "byte": 1}, "length goes with byte"),
        ("guest-write", {"disk": "vda", "offset": 0, "length": 1, "data": ""}, "length goes with"),
        ("guest-write", {"disk": "vda", "offset": 0, "length": 1, "byte": 256}, "<= 255"),
        ("guest-write", {"disk": "vda", "offset": 0, "data": "?"}, "base64"),
        ("guest-write", {"disk": "vda", "offset": 1, "length": 65536, "seed": 1}, "multiples of"),
        ("guest-write", {"disk": "vda", "offset": 0, "length": 99, "seed": 1}, "multiples of"),
        ("guest-write", {"disk": "vda", "offset": "4M", "length": 1, "byte": 1}, "capacity"),
        ("guest-write", {"disk": "vda", "offset": "x", "length": 1, "byte": 1}, "not a size"),
        ("guest-write", {"disk": "vda", "offset": -1, "length": 1, "byte": 1}, ">= 0"),
        ("guest-write", {"disk": "vda", "offset": 0, "length": "2G", "byte": 1}, "1 GiB"),
        ("guest-zero", {"disk": "vdz", "offset": 0, "length": 1}, "vda, vdb, sda"),
        ("guest-zero", {"disk": "sda", "offset": 0, "length": 1}, "no medium"),
        ("guest-zero", {"disk": "vda", "offset": 0}, "length"),
        ("guest-read", {"disk": "vda", "offset": 0, "length": "3M"}, "2 MiB"),
        ("guest-read", {"disk": "vda", "offset": 0, "length": 1, "colour": 1}, "colour"),
        ("guest-read", {"disk": "vda", "offset": "5M", "length": 1}, "capacity"),
    ],
)
async def test_wrong_arguments(
    guest: MemoryDomain, command: str, arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        await control(guest, command, **arguments)


async def test_a_read_only_disk_is_not_written(guest: MemoryDomain) -> None:
    with pytest.raises(OperationUnsupported, match="vdb of domain guest is read-only"):
        await control(guest, "guest-zero", disk="vdb", offset=0, length=1)


async def test_a_guest_that_does_not_run_does_nothing(guest: MemoryDomain) -> None:
    guest.destroy()
    with pytest.raises(OperationInvalid, match="not running"):
        await control(guest, "guest-read", disk="vda", offset=0, length=1)
