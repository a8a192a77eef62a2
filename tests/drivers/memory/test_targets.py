"""Files for a backup: created, reused, refused; qemu-img is the judge."""

import stat
import subprocess
from pathlib import Path

import pytest

from virtbackupd.drivers.memory.clusters import CLUSTER
from virtbackupd.drivers.memory.load import Loader, read_header
from virtbackupd.drivers.memory.targets import create_empty_qcow2, create_target, reuse_target
from virtbackupd.drivers.qcow2 import ImageFormatError

CAPACITY = 4 * CLUSTER


def qemu_img(*arguments: str) -> None:
    subprocess.run(["qemu-img", *arguments], check=True, capture_output=True)


def qemu_io(path: Path, command: str) -> None:
    subprocess.run(["qemu-io", "-c", command, str(path)], check=True, capture_output=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "target"


@pytest.fixture
def overlay(tmp_path: Path, path: Path) -> Path:
    """A qcow2 file that somebody has prepared on top of a raw one full of 0xff."""
    base = tmp_path / "base.raw"
    base.write_bytes(b"\xff" * CAPACITY)
    qemu_img("create", "-f", "qcow2", "-b", str(base), "-F", "raw", str(path))
    return path


def test_an_empty_file_passes_the_check(path: Path) -> None:
    create_empty_qcow2(str(path), 1 << 40)
    qemu_img("check", str(path))
    assert Loader().image(str(path)).capacity == 1 << 40


def test_a_new_file_is_for_its_owner_only(path: Path) -> None:
    create_empty_qcow2(str(path), CAPACITY)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("format_", ["raw", "qcow2"])
def test_an_existing_file_is_not_overwritten(path: Path, format_: str) -> None:
    path.write_text("precious")
    with pytest.raises(FileExistsError):
        create_target(str(path), format_, CAPACITY)
    assert path.read_text() == "precious"


def test_a_file_that_cannot_be_begun_is_removed(path: Path) -> None:
    with pytest.raises(ImageFormatError):
        create_target(str(path), "qcow2", CAPACITY, backing_file="x" * 2000)
    assert not path.exists()


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        create_target(str(tmp_path / "none" / "file"), "raw", CAPACITY)


def test_a_reused_file_keeps_its_backing_file(overlay: Path) -> None:
    writer = reuse_target(str(overlay), "qcow2", CAPACITY, keep=True)
    writer.write_batch([(1, b"n" * CLUSTER)])
    writer.finish()
    qemu_img("check", str(overlay))
    header = read_header(str(overlay))
    assert header is not None
    assert header.backing_format == "raw"
    assert Loader().image(str(overlay)).read(CLUSTER - 1, 2) == b"\xffn"


def test_a_reused_file_keeps_its_contents(overlay: Path) -> None:
    qemu_io(overlay, "write -P 1 0 128k")
    qemu_io(overlay, "write -z 128k 64k")
    writer = reuse_target(str(overlay), "qcow2", CAPACITY, keep=True)
    writer.write_batch([(1, b"\2" * CLUSTER)])
    writer.finish()
    qemu_img("check", str(overlay))
    image = Loader().image(str(overlay))
    assert [image.read(i * CLUSTER, 1) for i in range(4)] == [b"\1", b"\2", b"\0", b"\xff"]


def test_a_reused_file_may_lose_its_contents(overlay: Path) -> None:
    qemu_io(overlay, "write -P 1 0 64k")
    reuse_target(str(overlay), "qcow2", CAPACITY, keep=False).finish()
    assert Loader().image(str(overlay)).read(0, 1) == b"\xff"


def test_a_reused_raw_file_keeps_what_is_not_written(path: Path) -> None:
    path.write_bytes(b"\xff" * CAPACITY)
    writer = reuse_target(str(path), "raw", CAPACITY, keep=True)
    writer.write_batch([(0, None)])
    writer.finish()
    assert path.read_bytes() == bytes(CLUSTER) + b"\xff" * (CAPACITY - CLUSTER)


@pytest.mark.parametrize("format_", ["raw", "qcow2"])
def test_a_prepared_file_must_have_the_right_size(path: Path, format_: str) -> None:
    qemu_img("create", "-f", format_, str(path), "64k")
    with pytest.raises(ImageFormatError, match="disk of 65536 bytes, but 262144 bytes"):
        reuse_target(str(path), format_, CAPACITY, keep=True)


def test_a_prepared_file_must_have_the_right_format(path: Path) -> None:
    path.write_bytes(bytes(CAPACITY))
    with pytest.raises(ImageFormatError, match="prepare it with qemu-img create"):
        reuse_target(str(path), "qcow2", CAPACITY, keep=True)


def test_small_clusters_with_contents_are_refused(path: Path) -> None:
    qemu_img("create", "-f", "qcow2", "-o", "cluster_size=4096", str(path), str(CAPACITY))
    qemu_io(path, "write 0 4k")
    with pytest.raises(ImageFormatError, match="smaller than 65536"):
        reuse_target(str(path), "qcow2", CAPACITY, keep=True)
