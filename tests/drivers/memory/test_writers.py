"""Raw and qcow2 files as written here, judged by qemu-img."""

import errno
import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from virtbackupd.drivers.memory.clusters import CLUSTER, Cluster
from virtbackupd.drivers.memory.writers import Qcow2Writer, RawWriter, Writer, write_all

CAPACITY = 5 * CLUSTER + 512


def qemu_img(*arguments: str) -> str:
    command = ["qemu-img", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT)


def block(index: int) -> bytes:
    return bytes([index + 1]) * CLUSTER


def write(writer: Writer, *indices: int, zeroes: tuple[int, ...] = ()) -> None:
    contents = {index: block(index) for index in indices} | dict.fromkeys(zeroes)
    writer.write_batch(sorted(contents.items(), key=lambda item: item[0]))
    writer.finish()


def as_raw(path: Path) -> bytes:
    raw = path.with_suffix(".copy")
    qemu_img("convert", "-O", "raw", str(path), str(raw))
    return raw.read_bytes()


def expected(*indices: int, size: int = CAPACITY) -> bytes:
    content = (block(i) if i in indices else bytes(CLUSTER) for i in range(6))
    return b"".join(content)[:size]


def test_a_qcow2_file_passes_the_check_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    write(Qcow2Writer(opened(path), CAPACITY), 0, 2, 5)
    qemu_img("check", str(path))
    assert as_raw(path) == expected(0, 2, 5)


@settings(
    max_examples=8,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(indices=st.sets(st.integers(0, 3 * 8192)), capacity=st.just(3 * 8193 * CLUSTER))
def test_any_set_of_clusters_passes_the_check(
    tmp_path: Path, indices: set[int], capacity: int
) -> None:
    path = tmp_path / "a.qcow2"
    writer = Qcow2Writer(opened(path), capacity)
    writer.write_batch([(index, b"x" * CLUSTER) for index in sorted(indices)])
    writer.finish()
    qemu_img("check", str(path))


def allocated(path: Path) -> list[tuple[int, int, bool]]:
    found = json.loads(qemu_img("map", "--output=json", str(path)))
    own = [extent for extent in found if extent["depth"] == 0 and extent["present"]]
    return [(e["start"], e["length"], e["zero"]) for e in own]


def base_image(tmp_path: Path) -> Path:
    base = tmp_path / "base.raw"
    base.write_bytes(b"\xff" * CAPACITY)
    return base


def test_an_incremental_file_holds_exactly_the_clusters_given(tmp_path: Path) -> None:
    base, path = base_image(tmp_path), tmp_path / "a.qcow2"
    writer = Qcow2Writer(opened(path), CAPACITY, backing_file=str(base), backing_format="raw")
    write(writer, 1, zeroes=(3,))
    qemu_img("check", str(path))
    assert allocated(path) == [(CLUSTER, CLUSTER, False), (3 * CLUSTER, CLUSTER, True)]


def test_zero_clusters_hide_the_backing_file(tmp_path: Path) -> None:
    base, path = base_image(tmp_path), tmp_path / "a.qcow2"
    write(
        Qcow2Writer(opened(path), CAPACITY, backing_file=str(base), backing_format="raw"),
        zeroes=(0,),
    )
    assert as_raw(path) == bytes(CLUSTER) + b"\xff" * (CAPACITY - CLUSTER)


def test_a_terabyte_of_nothing_is_small(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    write(Qcow2Writer(opened(path), 1 << 40))
    qemu_img("check", str(path))
    assert path.stat().st_blocks * 512 < 64 << 10


def test_a_qcow2_file_is_invalid_until_finished(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    write(Qcow2Writer(opened(path), CAPACITY), 1)
    writer = Qcow2Writer(opened(path), CAPACITY)
    assert path.read_bytes()[:4] == bytes(4)
    writer.close()


def test_kept_clusters_give_way_to_written_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    kept: dict[int, Cluster | None] = {0: block(0), 1: b"k" * CLUSTER}
    write(Qcow2Writer(opened(path), CAPACITY, kept=kept), 1, 2)
    assert as_raw(path) == expected(0, 1, 2)


def test_a_raw_file_is_sparse(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    write(RawWriter(opened(path), CAPACITY), 1, 5)
    assert path.read_bytes() == expected(1, 5)
    assert path.stat().st_blocks * 512 < CAPACITY


def test_zeroes_overwrite_a_used_raw_file(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(b"\xff" * CAPACITY)
    writer = RawWriter(opened(path), CAPACITY, fresh=False)
    write(writer, 1, zeroes=(0, 2, 3, 4, 5))
    assert (writer.needs_zeroes, path.read_bytes()) == (True, expected(1))


def test_more_pieces_than_one_call_takes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_all(opened(path), [b"ab", b""] * 3000, 1)
    assert path.read_bytes() == b"\0" + b"ab" * 3000


def test_a_full_disk_is_reported() -> None:
    full = os.open("/dev/full", os.O_RDWR)
    with pytest.raises(OSError, match="space") as caught:
        write_all(full, [b"x"], 0)
    os.close(full)
    assert caught.value.errno == errno.ENOSPC
