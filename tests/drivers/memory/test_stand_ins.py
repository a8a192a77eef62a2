"""Stand-in files: QEMU's own tool recognises them, and only the driver's folder is touched."""

import json
import subprocess
from pathlib import Path

import pytest

from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.stand_ins import place_stand_ins


def described(path: Path) -> dict[str, object]:
    command = ["qemu-img", "info", "--output=json", str(path)]
    found: dict[str, object] = json.loads(subprocess.check_output(command, timeout=20))
    return found


@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
def test_format_and_size(tmp_path: Path, image_format: str) -> None:
    image = Image(3 << 20, path=str(tmp_path / "a"), format=image_format)
    place_stand_ins([image], tmp_path)
    found = described(tmp_path / "a")
    assert (found["format"], found["virtual-size"]) == (image_format, 3 << 20)


def test_the_backing_file_is_named(tmp_path: Path) -> None:
    base = Image(1 << 20, path=str(tmp_path / "base"), format="raw")
    top = Image(1 << 20, path=str(tmp_path / "top"), backing=base)
    place_stand_ins([base, top], tmp_path)
    assert described(tmp_path / "top")["backing-filename"] == base.path


def test_an_older_stand_in_is_replaced(tmp_path: Path) -> None:
    for size in (1 << 20, 2 << 20):
        place_stand_ins([Image(size, path=str(tmp_path / "a"))], tmp_path)
    assert described(tmp_path / "a")["virtual-size"] == 2 << 20


def test_files_elsewhere_are_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    own = tmp_path / "own"
    own.mkdir()
    place_stand_ins([Image(1 << 20, path=str(precious))], own)
    assert precious.read_text() == "keep me"
    assert list(own.iterdir()) == []
