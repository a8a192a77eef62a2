"""Files made by qemu-img, loaded into memory."""

import subprocess
from pathlib import Path

import pytest

from virtbackupd.drivers.memory.clusters import CLUSTER
from virtbackupd.drivers.memory.load import Loader, read_header
from virtbackupd.drivers.memory.pattern import pattern_cluster
from virtbackupd.drivers.qcow2 import ImageFormatError

CONTENT = bytes(CLUSTER) + bytes(pattern_cluster(1, 1)) + b"end".ljust(512, b"\0")


@pytest.fixture
def raw(tmp_path: Path) -> str:
    path = tmp_path / "a.raw"
    path.write_bytes(CONTENT)
    return str(path)


def qemu_img(*arguments: str) -> None:
    subprocess.run(["qemu-img", *arguments], check=True, capture_output=True)


def converted(raw: str, *options: str) -> str:
    qemu_img("convert", "-O", "qcow2", *options, raw, raw + ".qcow2")
    return raw + ".qcow2"


def test_a_raw_file_is_loaded_sparse(raw: str) -> None:
    image = Loader().image(raw)
    assert image.read(0, len(CONTENT)) == CONTENT
    assert (image.format, image.allocation) == ("raw", 2 * CLUSTER)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-o", "compat=0.10"),
        ("-o", "cluster_size=4096"),
        ("-o", "cluster_size=2097152"),
        ("-c",),
    ],
)
def test_a_qcow2_file_is_loaded(raw: str, options: tuple[str, ...]) -> None:
    image = Loader().image(converted(raw, *options))
    assert image.read(0, len(CONTENT)) == CONTENT
    assert image.format == "qcow2"


def test_a_backing_chain_is_loaded(raw: str) -> None:
    top = raw + ".top"
    qemu_img("create", "-f", "qcow2", "-b", "a.raw", "-F", "raw", top)
    subprocess.run(["qemu-io", "-c", "write -z 64k 64k", top], check=True, capture_output=True)
    image = Loader().image(top)
    assert image.backing is not None
    assert image.backing.read(0, len(CONTENT)) == CONTENT
    assert image.read(0, len(CONTENT)) == bytes(2 * CLUSTER) + CONTENT[2 * CLUSTER :]


def test_a_raw_file_has_no_header(raw: str) -> None:
    assert read_header(raw) is None


def test_a_wrong_format_is_refused(raw: str) -> None:
    with pytest.raises(ImageFormatError, match="is not a qcow2 image"):
        Loader().image(raw, "qcow2")


def test_a_qcow2_file_can_be_taken_as_raw(raw: str) -> None:
    path = converted(raw)
    assert Loader().image(path, "raw").read(0, 4) == b"QFI\xfb"


def test_a_file_that_backs_itself_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "loop")
    qemu_img("create", "-f", "qcow2", path, "1M")
    qemu_img("rebase", "-u", "-b", path, "-F", "qcow2", path)
    with pytest.raises(ImageFormatError, match="more than 200 files"):
        Loader().image(path)


def test_a_cut_file_is_refused(raw: str) -> None:
    path = converted(raw)
    with Path(path).open("r+b") as file:
        file.truncate(CLUSTER)
    with pytest.raises(ImageFormatError, match="ends before"):
        Loader().image(path)
