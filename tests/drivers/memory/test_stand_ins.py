"""Stand-in files: QEMU's own tool recognises them, and only the driver's folder is touched."""

import json
import subprocess
from pathlib import Path

import pytest

from virtbackupd.drivers.errors import SystemFailure
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.images import OWN_FILE, ImageRegistry, Stamp, file_stamp
from virtbackupd.drivers.memory.stand_ins import AT_ONCE, StandIns, place_stand_ins


def described(path: Path) -> dict[str, object]:
    command = ["qemu-img", "info", "--output=json", str(path)]
    found: dict[str, object] = json.loads(subprocess.check_output(command, timeout=60))
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


def test_one_looks_older_than_what_is_put_in_its_place_at_once(tmp_path: Path) -> None:
    place_stand_ins([Image(1 << 20, path=str(tmp_path / "a"))], tmp_path)
    status = (tmp_path / "a").stat()
    assert status.st_ctime_ns - status.st_mtime_ns > 500_000_000


def test_files_elsewhere_are_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    own = tmp_path / "own"
    own.mkdir()
    place_stand_ins([Image(1 << 20, path=str(precious))], own)
    assert precious.read_text() == "keep me"
    assert list(own.iterdir()) == []


def test_a_data_file_is_named_and_is_there(tmp_path: Path) -> None:
    data = str(tmp_path / "a.raw")
    place_stand_ins([Image(3 << 20, path=str(tmp_path / "a"), data_store=data)], tmp_path)
    found = described(tmp_path / "a")
    assert isinstance(found["format-specific"], dict)
    assert found["format-specific"]["data"]["data-file"] == data
    assert found["format-specific"]["data"]["data-file-raw"] is True
    assert described(tmp_path / "a.raw")["virtual-size"] == 3 << 20


def test_only_the_owner_may_read_them(tmp_path: Path) -> None:
    place_stand_ins([Image(1 << 20, path=str(tmp_path / "a"))], tmp_path)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def many(folder: Path) -> list[Image]:
    return [Image(1 << 20, path=str(folder / str(number))) for number in range(AT_ONCE + 1)]


def test_very_many_are_made_late(tmp_path: Path) -> None:
    stamps = place_stand_ins(many(tmp_path), tmp_path)
    assert set(stamps.values()) == {OWN_FILE}
    assert list(tmp_path.iterdir()) == []


def test_late_ones_are_made_when_asked_for_with_those_below(tmp_path: Path) -> None:
    stand_ins, registry = StandIns(), ImageRegistry()
    base = Image(1 << 20, path=str(tmp_path / "base"))
    top = Image(1 << 20, path=str(tmp_path / "top"), backing=base)
    for image in (base, top):
        registry.add(image, OWN_FILE)
    stand_ins.expect([base, top])
    stand_ins.make(registry, [None, top])
    assert described(tmp_path / "top")["backing-filename"] == base.path
    assert stand_ins.pending == {}
    assert registry.is_of(top.path, file_stamp(top.path))
    assert not registry.is_of(top.path, Stamp(1, 2, 3))


def test_a_file_that_is_made_late_is_never_read(tmp_path: Path) -> None:
    registry = ImageRegistry()
    registry.add(Image(1 << 20, path="/images/late"), OWN_FILE)
    assert registry.is_of("/images/late", Stamp(1, 2, 3))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    stand_ins, image = StandIns(), Image(1 << 20, path=str(tmp_path / "none" / "a"))
    stand_ins.expect([image])
    with pytest.raises(SystemFailure, match=r"cannot make .*/none/a: No such file"):
        stand_ins.make(ImageRegistry(), [image])
