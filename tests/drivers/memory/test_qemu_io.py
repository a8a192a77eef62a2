"""The guest's disk commands: what they change, count and answer."""

import pytest

from virtbackupd.drivers.events import DomainBlockThreshold, Event
from virtbackupd.drivers.memory.clusters import CLUSTER
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.qemu_io import run

MIB = 1024 * 1024


def io(guest: MemoryDomain, line: str, target: str = "vda") -> str:
    disk = guest.definition.find_disk(target)
    assert disk is not None
    return run(guest, disk, line)


def image_of(guest: MemoryDomain) -> Image:
    image = guest.disk_image("vda")
    assert image is not None
    return image


async def test_write_fills_the_range_with_the_pattern(guest: MemoryDomain) -> None:
    io(guest, "write -P 0xab 1k 2k")
    assert image_of(guest).read(0, 4096) == bytes(1024) + b"\xab" * 2048 + bytes(1024)


async def test_write_without_pattern_writes_the_default_byte(guest: MemoryDomain) -> None:
    io(guest, "write 0 512")
    assert image_of(guest).read(0, 512) == b"\xcd" * 512


async def test_write_answers_in_the_words_of_the_tool(guest: MemoryDomain) -> None:
    first, second = io(guest, "write -P 0xab 64k 64k").splitlines()
    assert first == "wrote 65536/65536 bytes at offset 65536"
    assert second.startswith("64 KiB, 1 ops; ")


async def test_write_z_makes_zeroes_and_frees_the_cluster(guest: MemoryDomain) -> None:
    io(guest, "write 0 128k")
    io(guest, "write -z -u 0 64k")
    assert image_of(guest).read(0, CLUSTER) == bytes(CLUSTER)
    assert image_of(guest).allocation == CLUSTER


async def test_discard_frees_what_it_covers(guest: MemoryDomain) -> None:
    io(guest, "write 0 64k")
    assert io(guest, "discard 0 64k").startswith("discard 65536/65536 bytes at offset 0\n")
    assert image_of(guest).allocation == 0


@pytest.mark.parametrize("line", ["write 0 1", "write -z 0 1", "discard 0 1"])
async def test_changes_are_dirty(guest: MemoryDomain, line: str) -> None:
    bitmap = image_of(guest).bitmaps.add("b")
    io(guest, line)
    assert bitmap.dirty_clusters() == [0]


async def test_reading_makes_nothing_dirty(guest: MemoryDomain) -> None:
    bitmap = image_of(guest).bitmaps.add("b")
    io(guest, "read 0 1M")
    assert bitmap.count == 0


async def test_read_verifies_the_pattern(guest: MemoryDomain) -> None:
    io(guest, "write -P 7 0 3M")
    assert "failed" not in io(guest, "read -P 7 0 3M")


async def test_read_complains_about_another_pattern_and_still_reads(guest: MemoryDomain) -> None:
    first, second, _ = io(guest, "read -P 1 0 64k").splitlines()
    assert first == "Pattern verification failed at offset 0, 65536 bytes"
    assert second == "read 65536/65536 bytes at offset 0"


async def test_read_verifies_only_the_part_named(guest: MemoryDomain) -> None:
    io(guest, "write -P 7 100 50")
    assert "failed" not in io(guest, "read -P 7 -s 100 -l 50 0 4k")
    assert "failed at offset 99, 50 bytes" in io(guest, "read -P 7 -s 99 -l 50 0 4k")


async def test_read_v_dumps_the_bytes(guest: MemoryDomain) -> None:
    io(guest, "write -P 0x41 16 2")
    assert io(guest, "read -v 16 18").splitlines()[:2] == [
        "00000010:  41 41" + " 00" * 14 + "  AA..............",
        "00000020:  00 00" + " " * 42 + "  ..",
    ]


async def test_flush_answers_nothing_and_counts(guest: MemoryDomain) -> None:
    assert io(guest, "flush") == ""
    assert guest.counters("vda").flush_requests == 1


async def test_length_is_the_capacity(guest: MemoryDomain) -> None:
    assert io(guest, "length") == "4 MiB\n"


async def test_map_names_what_holds_data(guest: MemoryDomain) -> None:
    io(guest, "write 64k 64k")
    assert io(guest, "map").splitlines() == [
        "64 KiB (0x10000) bytes not allocated at offset 0 bytes (0x0)",
        "64 KiB (0x10000) bytes     allocated at offset 64 KiB (0x10000)",
        "3.875 MiB (0x3e0000) bytes not allocated at offset 128 KiB (0x20000)",
    ]


async def test_help_lists_the_commands(guest: MemoryDomain) -> None:
    assert io(guest, "help").startswith("read off len -- ")


async def test_q_says_nothing(guest: MemoryDomain) -> None:
    assert io(guest, "write -q 0 64k") == ""


async def test_c_is_for_machines(guest: MemoryDomain) -> None:
    assert io(guest, "write -C 0 64k").startswith("65536,1,0:00:00.00,")


async def test_requests_and_bytes_are_counted(guest: MemoryDomain) -> None:
    for line in ("write 0 64k", "write -z 0 1k", "read 0 512"):
        io(guest, line)
    counters = guest.counters("vda")
    assert (counters.write_requests, counters.write_bytes) == (2, 66560)
    assert (counters.read_requests, counters.read_bytes) == (1, 512)


async def test_refused_requests_are_not_counted(guest: MemoryDomain) -> None:
    io(guest, "write 1G 64k")
    assert guest.counters("vda").write_requests == 0


async def test_a_write_past_the_threshold_tells_once(
    guest: MemoryDomain, events: list[Event]
) -> None:
    events.clear()
    guest.counters("vda").threshold = 1024
    io(guest, "write 0 1k")
    io(guest, "write 1k 512")
    io(guest, "write 1k 512")
    assert events == [DomainBlockThreshold(guest.ref, "vda", "/images/vda.qcow2", 1024, 512)]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("foo", 'command "foo" not found'),
        ("write 0", "bad argument count 1 to write, expected at least 2 arguments"),
        ("write 0 1k 2k", "write off len -- "),
        (
            "write 0 xx",
            "Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- xx",
        ),
        ("write -P 300 0 1k", "300 is not a valid pattern byte"),
        ("write -P x 0 1k", "x is not a valid pattern byte"),
        ("write -P", "bad argument count"),
        ("write -1 64k", "write: option -1 not recognized"),
        ("write -z -P 1 0 1k", "Only one of -z, -P, and -s"),
        ("write -u 0 1k", "-u requires -z to be specified"),
        ("write 4M 1", "write failed: Input/output error"),
        ("read 1G 1", "read failed: Input/output error"),
        ("discard 0 8M", "discard failed: Input/output error"),
        ("read 0 4G", "length cannot exceed 2147483136, given 4G"),
        ("read -s 1 0 1k", "-s and -l need a pattern"),
        ("read -P 1 -s 1k -l 1 0 1k", "pattern verification range exceeds"),
    ],
)
async def test_complaints(guest: MemoryDomain, line: str, complaint: str) -> None:
    assert io(guest, line).startswith(complaint)


async def test_an_empty_line_does_nothing(guest: MemoryDomain) -> None:
    assert io(guest, "") == ""


@pytest.mark.parametrize("line", ["write 0 1k", "discard 0 1k"])
async def test_a_read_only_disk_is_not_changed(guest: MemoryDomain, line: str) -> None:
    assert "failed: Operation not permitted" in io(guest, line, "vdb")


async def test_a_read_only_disk_can_be_read(guest: MemoryDomain) -> None:
    assert io(guest, "read 0 1k", "vdb").startswith("read 1024/1024")


async def test_an_empty_drive_has_no_medium(guest: MemoryDomain) -> None:
    assert io(guest, "read 0 1k", "sda") == "read failed: No medium found\n"
