"""The in-memory driver as a whole: opening, the node, lists and statistics."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from virtbackupd.drivers.enums import DomainStats, ListDomains
from virtbackupd.drivers.errors import (
    ArgumentUnsupported,
    InternalError,
    NoDomain,
    UnsupportedFlags,
)
from virtbackupd.drivers.interface import DriverOptions
from virtbackupd.drivers.memory import open_driver
from virtbackupd.drivers.memory.driver import MemoryDriver

ENFORCE, BACKING, NOWAIT = 1 << 31, 1 << 30, 1 << 29
XML = "<domain type='test'><name>{}</name><memory>1024</memory><os><type>hvm</type></os></domain>"


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[MemoryDriver]:
    async with open_driver(DriverOptions(tmp_path)) as driver:
        assert isinstance(driver, MemoryDriver)
        yield driver


async def test_default_world(driver: MemoryDriver) -> None:
    (ref,) = driver.list_all_domains(0)
    assert ref.name == "test"
    assert driver.domain_by_uuid(ref.uuid).get_state(0) == (1, 1)


async def test_default_world_is_the_same_each_time(driver: MemoryDriver, tmp_path: Path) -> None:
    uuid = driver.list_all_domains(0)[0].uuid
    async with open_driver(DriverOptions(tmp_path / "other")) as other:
        assert isinstance(other, MemoryDriver)
        assert other.list_all_domains(0)[0].uuid == uuid


async def test_world_file(tmp_path: Path) -> None:
    world = tmp_path / "world.toml"
    world.write_text('[[domains]]\nname = "mine"\nstate = "paused"\n')
    async with open_driver(DriverOptions(tmp_path, world)) as driver:
        assert isinstance(driver, MemoryDriver)
        assert driver.domain_by_uuid(driver.domain_lookup_by_name("mine").uuid).state == 3


async def test_checkpoints_of_a_world_can_be_used(tmp_path: Path) -> None:
    world = tmp_path / "world.toml"
    world.write_text(
        '[[domains]]\nname = "mine"\n[[domains.disks]]\ntarget = "vda"\nsize = "1 MiB"\n'
        '[[domains.checkpoints]]\nname = "c1"\n'
    )
    async with open_driver(DriverOptions(tmp_path, world)) as driver:
        assert isinstance(driver, MemoryDriver)
        domain = driver.domain_by_uuid(driver.domain_lookup_by_name("mine").uuid)
        assert "size='0'" in domain.checkpoint_get_xml_desc("c1", 4)


@pytest.mark.parametrize("path", ["/default", "/system", "/session"])
async def test_known_paths(driver: MemoryDriver, path: str) -> None:
    driver.check_path("test", path)


async def test_unknown_path_names_the_known_ones(driver: MemoryDriver) -> None:
    with pytest.raises(InternalError, match="/default"):
        driver.check_path("test", "/nowhere")


async def test_lookups(driver: MemoryDriver) -> None:
    ref = driver.domain_lookup_by_name("test")
    assert driver.domain_lookup_by_id(ref.id) == driver.domain_lookup_by_uuid(ref.uuid) == ref


async def test_unknown_domains(driver: MemoryDriver) -> None:
    with pytest.raises(NoDomain):
        driver.domain_lookup_by_name("none")
    with pytest.raises(NoDomain):
        driver.domain_lookup_by_id(99)


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (ListDomains.ACTIVE, ["test"]),
        (ListDomains.INACTIVE, ["idle"]),
        (ListDomains.ACTIVE | ListDomains.INACTIVE, ["test", "idle"]),
        (ListDomains.TRANSIENT, []),
        (ListDomains.PAUSED | ListDomains.SHUTOFF, ["idle"]),
        (ListDomains.NO_CHECKPOINT | ListDomains.RUNNING, ["test"]),
    ],
)
async def test_list_filters(driver: MemoryDriver, flags: ListDomains, names: list[str]) -> None:
    driver.domain_define_xml_flags(XML.format("idle"), 0)
    assert [ref.name for ref in driver.list_all_domains(flags)] == names


async def test_unknown_list_flag(driver: MemoryDriver) -> None:
    with pytest.raises(UnsupportedFlags):
        driver.list_all_domains(1 << 16)


async def test_stats_of_all(driver: MemoryDriver) -> None:
    driver.domain_define_xml_flags(XML.format("idle"), 0)
    records = driver.get_all_domain_stats([], DomainStats.STATE, NOWAIT | BACKING)
    assert [record.domain.name for record in records] == ["test", "idle"]
    assert records[0].params[0].field == "state.state"


async def test_stats_of_some(driver: MemoryDriver) -> None:
    idle = driver.domain_define_xml_flags(XML.format("idle"), 0)
    records = driver.get_all_domain_stats([idle.uuid, bytes(16)], 0, 0)
    assert [record.domain for record in records] == [idle]


async def test_unknown_groups_only_matter_when_enforced(driver: MemoryDriver) -> None:
    assert driver.get_all_domain_stats([], 1 << 30, 0)[0].params == []
    with pytest.raises(ArgumentUnsupported):
        driver.get_all_domain_stats([], 1 << 30, ENFORCE)


async def test_closing_ends_backups(tmp_path: Path) -> None:
    async with open_driver(DriverOptions(tmp_path)) as driver:
        assert isinstance(driver, MemoryDriver)
        domain = driver.domain_by_uuid(driver.domain_lookup_by_name("test").uuid)
        before = files(tmp_path)
        server = f"<server transport='unix' socket='{tmp_path / 'nbd'}'/>"
        await domain.backup_begin(f"<domainbackup mode='pull'>{server}</domainbackup>", None, 0)
        assert len(files(tmp_path)) == len(before) + 3
    assert files(tmp_path) == before


def files(folder: Path) -> set[Path]:
    """Sockets too."""
    return {path for path in folder.rglob("*") if not path.is_dir()}
