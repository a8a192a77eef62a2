"""World disks that are real files: their contents, unless the entry describes some itself."""

from pathlib import Path

import pytest

from virtbackupd.drivers.interface import DriverOptions
from virtbackupd.drivers.memory import open_driver
from virtbackupd.drivers.memory.driver import MemoryDriver
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.world import load_world
from virtbackupd.drivers.memory.world_file import WorldError

XML = """
xml = '''<domain type='kvm'><name>a</name><memory>1024</memory><os><type>hvm</type></os>
<devices><disk><source file='{}'/><target dev='vda'/></disk></devices></domain>'''
"""


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "a.raw").write_bytes(b"1" * 65536)
    return tmp_path / "a.raw"


def image(tmp_path: Path, text: str) -> Image:
    """The image of the world's only disk."""
    file = tmp_path / "world.toml"
    file.write_text(f"[[domains]]\nname = 'a'\n{text}")
    found = load_world(file, tmp_path / "images").domains[0].disks[0].image
    assert found is not None
    return found


def disk(path: Path, keys: str = "format = 'raw'") -> str:
    return f"[[domains.disks]]\ntarget = 'vda'\npath = '{path}'\n{keys}\n"


def test_a_file_at_the_path_gives_the_contents(tmp_path: Path, raw: Path) -> None:
    found = image(tmp_path, disk(raw))
    assert (found.capacity, found.read(0, 1)) == (65536, b"1")


def test_a_described_disk_reads_no_file(tmp_path: Path, raw: Path) -> None:
    found = image(tmp_path, disk(raw, "size = '1 MiB'"))
    assert (found.capacity, found.read(0, 1)) == (1 << 20, b"\0")


def test_the_format_is_not_guessed(tmp_path: Path, raw: Path) -> None:
    with pytest.raises(WorldError, match=r"toml:5: .*path: .*a\.raw is not a qcow2 image"):
        image(tmp_path, disk(raw, ""))


def test_a_file_may_be_the_backing_image(tmp_path: Path, raw: Path) -> None:
    backing = f"backing = {{ path = '{raw}', format = 'raw' }}"
    found = image(tmp_path, f"[[domains.disks]]\ntarget = 'vda'\n{backing}\n")
    assert (found.format, found.capacity, found.read(0, 1)) == ("qcow2", 65536, b"1")


def test_the_path_may_come_from_the_xml(tmp_path: Path, raw: Path) -> None:
    found = image(tmp_path, XML.format(raw) + "[[domains.disks]]\ntarget = 'vda'\n")
    assert (found.format, found.read(0, 1)) == ("raw", b"1")


def test_what_an_earlier_run_left_in_the_folder_is_no_file_of_ours(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a-vda.qcow2").write_bytes(b"rubbish")
    assert image(tmp_path, "[[domains.disks]]\ntarget = 'vda'\n").data_clusters() == []


async def test_a_disk_without_entry_is_read_when_its_domain_starts(
    tmp_path: Path, raw: Path
) -> None:
    world = tmp_path / "world.toml"
    write(world, "[[domains]]\nname = 'a'\n" + XML.format(raw))
    async with open_driver(DriverOptions(tmp_path, world)) as driver:
        assert isinstance(driver, MemoryDriver)
        found = driver.domain_by_uuid(driver.domain_lookup_by_name("a").uuid).disk_image("vda")
    assert found is not None
    assert found.read(0, 1) == b"1"


def write(path: Path, text: str) -> None:
    path.write_text(text)
