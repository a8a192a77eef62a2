"""Which image a disk has, and that equal paths mean one image."""

from dataclasses import replace
from os import mkfifo
from pathlib import Path

import pytest

from virtbackupd.drivers.definitions.disk import BackingStore, DiskDefinition
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.images import DEFAULT_CAPACITY, ImageRegistry, Stamp, file_stamp

XML = """<domain type='test'><name>d</name><memory>1024</memory><os><type>hvm</type></os><devices>
  <disk type='file'><driver type='qcow2'/><source file='/i/a'/><target dev='vda'/></disk>
</devices></domain>"""


@pytest.fixture
def disk() -> DiskDefinition:
    return DomainDefinition.parse(XML).disks[0]


@pytest.fixture
def images() -> ImageRegistry:
    return ImageRegistry()


def test_unknown_path_is_blank(images: ImageRegistry, disk: DiskDefinition) -> None:
    image = images.of_disk(disk)
    assert image is not None
    assert (image.capacity, image.format, image.path) == (DEFAULT_CAPACITY, "qcow2", "/i/a")


def test_path_is_shared(images: ImageRegistry, disk: DiskDefinition) -> None:
    assert images.of_disk(disk) is images.of_disk(replace(disk, target="vdb"))


def test_described_image_is_found(images: ImageRegistry, disk: DiskDefinition) -> None:
    images.add(image := Image(65536, path="/i/a"))
    assert images.of_disk(disk) is image


def test_empty_drive_has_none(images: ImageRegistry, disk: DiskDefinition) -> None:
    assert images.of_disk(replace(disk, source=None)) is None


def test_an_image_is_of_a_file_until_that_is_written(images: ImageRegistry, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    path, old = str(tmp_path / "a"), file_stamp(str(tmp_path / "a"))
    images.add(Image(65536, path=path), old)
    (tmp_path / "a").write_bytes(b"22")
    assert images.is_of(path, old)
    assert not images.is_of(path, file_stamp(path))


def test_an_image_stays_when_its_file_has_gone(images: ImageRegistry) -> None:
    images.add(Image(65536, path="/i/a"), Stamp(1, 2, 3))
    assert images.is_of("/i/a", file_stamp("/i/a"))


def test_only_a_regular_file_with_contents_has_a_stamp(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    mkfifo(tmp_path / "pipe")
    paths = [tmp_path / "empty", tmp_path / "pipe", tmp_path, tmp_path / "none", "a\0b"]
    assert [file_stamp(str(path)) for path in paths] == [None] * 5


def test_backing_chain_is_followed(images: ImageRegistry, disk: DiskDefinition) -> None:
    images.add(base := Image(131072, path="/i/base"))
    image = images.of_disk(replace(disk, backing=(BackingStore("file", "/i/base", "qcow2"),)))
    assert image is not None
    assert image.backing is base
    assert image.capacity == 131072
