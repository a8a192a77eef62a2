"""The control commands for worlds, on a driver that was opened as the daemon opens it."""

from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest

from virtbackupd.drivers.enums import DomainState
from virtbackupd.drivers.errors import DriverError, InvalidArgument
from virtbackupd.drivers.interface import DriverOptions
from virtbackupd.drivers.memory import open_driver
from virtbackupd.drivers.memory.control import Target, call
from virtbackupd.drivers.memory.control_world import COMMANDS
from virtbackupd.drivers.memory.driver import MemoryDriver
from virtbackupd.drivers.memory.host import Host
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.targets import create_empty_qcow2
from virtbackupd.drivers.memory.world_file import WorldError

WORLD = """\
[[domains]]
name = "one"
count = 2
[[domains.disks]]
target = "vda"
size = "1 MiB"
seed = 1
[[domains]]
name = "off"
state = "shutoff"
"""


def write(path: Path, text: str) -> None:
    path.write_text(text)


@pytest.fixture
def world(tmp_path: Path) -> Path:
    path = tmp_path / "world.toml"
    path.write_text(WORLD.replace('"one"', '"one{n}"'))
    return path


@pytest.fixture
async def host(tmp_path: Path, world: Path) -> AsyncIterator[Host]:
    async with open_driver(DriverOptions(tmp_path / "state", world)) as driver:
        assert isinstance(driver, MemoryDriver)
        yield driver.host


async def run(host: Host, command: str, /, **arguments: object) -> object:
    answer = call(COMMANDS, Target(host), command, arguments)
    return await answer if isinstance(answer, Awaitable) else answer


def names(host: Host) -> list[str]:
    return [domain.ref.name for domain in host.domains]


async def test_reset_goes_back_to_the_start(host: Host) -> None:
    start = host.domains.by_name("one1").get_xml_desc(0)
    host.domains.by_name("one1").destroy()
    host.domains.by_name("off").undefine()
    assert await run(host, "world-reset") == {"domains": 3}
    assert names(host) == ["one1", "one2", "off"]
    assert host.domains.by_name("one1").get_xml_desc(0) == start


async def test_snapshots_are_taken_restored_listed_and_dropped(host: Host) -> None:
    assert await run(host, "snapshot-take", name="a") == {"snapshots": ["a"]}
    host.domains.by_name("one1").destroy()
    assert await run(host, "snapshot-take", name="b") == {"snapshots": ["a", "b"]}
    assert await run(host, "snapshot-restore", name="a") == {"domains": 3}
    assert host.domains.by_name("one1").active
    assert await run(host, "snapshot-drop", name="a") == {"snapshots": ["b"]}
    assert await run(host, "snapshot-list") == {"snapshots": ["b"]}
    await run(host, "snapshot-restore", name="b")
    assert not host.domains.by_name("one1").active


async def test_a_saved_world_can_be_loaded(host: Host, tmp_path: Path) -> None:
    path = str(tmp_path / "saved")
    host.domains.by_name("one1").suspend()
    saved = await run(host, "world-save", path=path)
    assert isinstance(saved, dict)
    assert (saved["path"], saved["domains"]) == (path, 3)
    host.domains.by_name("one1").destroy()
    assert await run(host, "world-load", path=path) == {"domains": 3}
    assert host.domains.by_name("one1").state == DomainState.PAUSED


async def test_a_driver_can_start_from_a_saved_world(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "saved"
    await run(host, "world-save", path=str(path))
    async with open_driver(DriverOptions(tmp_path / "other", path)) as driver:
        assert isinstance(driver, MemoryDriver)
        assert names(driver.host) == names(host)
        image = driver.host.domains.by_name("one2").disk_image("vda")
        assert image is not None
        assert image.path == str(tmp_path / "other" / "memory" / "images" / "one2-vda.qcow2")
        assert is_file(Path(image.path))
        await run(driver.host, "world-reset")
        assert names(driver.host) == names(host)


def is_file(path: Path) -> bool:
    return path.is_file()


async def test_a_world_file_can_be_loaded_too(host: Host, tmp_path: Path) -> None:
    write(tmp_path / "next.toml", '[[domains]]\nname = "next"\n')
    await run(host, "snapshot-take", name="before")
    assert await run(host, "world-load", path=str(tmp_path / "next.toml")) == {"domains": 1}
    assert names(host) == ["next"]
    await run(host, "snapshot-restore", name="before")
    assert names(host) == ["one1", "one2", "off"]


async def test_what_was_written_to_a_file_since_is_not_read_after_going_back(host: Host) -> None:
    domain = host.domains.by_name("one1")
    before = contents(host)
    await run(host, "snapshot-take", name="clean")
    domain.destroy()
    overwrite(image_of(host).path)
    await domain.create()
    assert contents(host) == bytes(4096)
    for command in (("snapshot-restore", {"name": "clean"}), ("world-reset", {})):
        await run(host, command[0], **command[1])
        domain.destroy()
        await domain.create()
        assert contents(host) == before


async def test_a_snapshot_outlives_the_stand_ins_of_another_world(host: Host, world: Path) -> None:
    before = contents(host)
    await run(host, "snapshot-take", name="clean")
    await run(host, "world-load", path=str(world))
    await run(host, "snapshot-restore", name="clean")
    domain = host.domains.by_name("one1")
    domain.destroy()
    await domain.create()
    assert contents(host) == before


def image_of(host: Host) -> Image:
    image = host.domains.by_name("one1").disk_image("vda")
    assert image is not None
    return image


def contents(host: Host) -> bytes:
    return image_of(host).read(0, 4096)


def overwrite(path: str) -> None:
    """Put a blank image where another program would restore a backup to."""
    Path(path).unlink()
    create_empty_qcow2(path, 1 << 20)


async def test_a_wrong_file_changes_nothing(host: Host, tmp_path: Path) -> None:
    write(tmp_path / "wrong.toml", "[[domains]]\n")
    with pytest.raises(WorldError, match="the key 'name' is missing"):
        await run(host, "world-load", path=str(tmp_path / "wrong.toml"))
    assert names(host) == ["one1", "one2", "off"]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("world-save", {"path": "relative"}, "no absolute path"),
        ("world-load", {"path": "/a\0b"}, "no absolute path"),
        ("world-save", {}, "missing required field `path`"),
        ("snapshot-restore", {"name": "x"}, "no snapshot 'x'; known are: none"),
        ("snapshot-drop", {"name": "x"}, "no snapshot 'x'"),
        ("snapshot-take", {"name": ""}, "1 to 256 characters"),
    ],
)
async def test_what_is_refused(
    host: Host, name: str, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        await run(host, name, **arguments)


async def test_a_place_that_cannot_be_written(host: Host) -> None:
    with pytest.raises(DriverError, match="cannot write /proc/none/x"):
        await run(host, "world-save", path="/proc/none/x")
