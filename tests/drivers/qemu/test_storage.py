"""Files of backups: only those that were created here count as ours."""

from pathlib import Path

import pytest

from virtbackupd.drivers.errors import InvalidArgument
from virtbackupd.drivers.qemu import storage
from virtbackupd.drivers.qemu.block_nodes import Layer
from virtbackupd.drivers.qemu.image_chain import Image
from virtbackupd.drivers.qemu.storage import Store


def store(path: Path, number: int = 1) -> Store:
    return Store(Layer(number, Image("file", str(path), "qcow2")), capacity=1 << 20)


def test_a_created_file_is_ours(tmp_path: Path) -> None:
    made = store(tmp_path / "a")
    storage.create([made])
    assert made.made
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_removed_keeps_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    storage.remove_files([str(tmp_path / name) for name in ("folder", "gone", "file")])
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert "folder is not needed any more, but stays" in caplog.text


def test_a_file_that_somebody_else_has_created_is_not(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("mine")
    ours, other = store(tmp_path / "a"), store(tmp_path / "b", 2)
    with pytest.raises(InvalidArgument, match="exists already"):
        storage.create([ours, other])
    assert (ours.made, other.made) == (True, False)
