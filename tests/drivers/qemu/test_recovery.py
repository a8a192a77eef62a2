"""What a daemon finds of its predecessor's domains: they run on, or have ended meanwhile."""

from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL

import pytest
from guest_power import loader, power_off, until_it_runs
from waiting import until

from virtbackupd.drivers.enums import DomainState, RunningReason, ShutoffReason
from virtbackupd.drivers.errors import SystemFailure
from virtbackupd.drivers.interface import DriverOptions
from virtbackupd.drivers.qemu import open_driver
from virtbackupd.drivers.qemu.domain import QemuDomain
from virtbackupd.drivers.qemu.driver import QemuDriver

XML = """<domain type='qemu'><name>kept</name><memory unit='MiB'>32</memory>
<os><type arch='x86_64' machine='q35'>hvm</type>{loader}</os><features><acpi/></features>
<devices><disk type='file'><driver name='qemu' type='qcow2'/><source file='{path}'/>
<target dev='vda' bus='virtio'/></disk></devices></domain>"""


@pytest.fixture
def xml(make_image: Callable[..., str], state_dir: Path) -> str:
    return XML.format(loader=loader(state_dir), path=make_image("a.qcow2"))


async def _define(state_dir: Path, xml: str, *, start: bool = False) -> tuple[bytes, int]:
    """What a first daemon does; returns the UUID and the process."""
    async with open_driver(DriverOptions(state_dir)) as driver:
        assert isinstance(driver, QemuDriver)
        domain = driver.domain_by_uuid((await driver.domain_define_xml_flags(xml, 0)).uuid)
        if start:
            await domain.create()
        return domain.ref.uuid, domain.run.process.pid if domain.run else 0


async def _found(driver: object, uuid: bytes) -> QemuDomain:
    assert isinstance(driver, QemuDriver)
    return driver.domain_by_uuid(uuid)


async def test_a_definition_is_kept(state_dir: Path, xml: str) -> None:
    uuid, _ = await _define(state_dir, xml)
    async with open_driver(DriverOptions(state_dir)) as driver:
        domain = await _found(driver, uuid)
        assert domain.ref.name == "kept"
        assert not domain.active


async def test_a_running_domain_is_taken_over(state_dir: Path, xml: str) -> None:
    uuid, pid = await _define(state_dir, xml, start=True)
    async with open_driver(DriverOptions(state_dir)) as driver:
        domain = await _found(driver, uuid)
        assert domain.require_run().process.pid == pid
        assert domain.ref.id == 1
        assert domain.get_state(0) == (DomainState.RUNNING, RunningReason.BOOTED)
        assert (await domain.monitor.execute("query-status"))["running"]
        await domain.destroy()


async def test_the_disks_of_a_running_domain_are_known_again(state_dir: Path, xml: str) -> None:
    uuid, _ = await _define(state_dir, xml, start=True)
    async with open_driver(DriverOptions(state_dir)) as driver:
        domain = await _found(driver, uuid)
        assert domain.disk_nodes("vda") == ("libvirt-1-format", "libvirt-1-storage")
        assert (await domain.get_block_info("vda", 0)).capacity == 64 * 1024 * 1024
        await domain.destroy()


async def test_ids_go_on_after_a_restart(state_dir: Path, xml: str) -> None:
    uuid, _ = await _define(state_dir, xml, start=True)
    async with open_driver(DriverOptions(state_dir)) as driver:
        domain = await _found(driver, uuid)
        await domain.destroy()
        assert (await domain.create_with_flags(0)).id == 2
        await domain.destroy()


async def test_a_change_of_state_is_noticed(state_dir: Path, xml: str) -> None:
    uuid, _ = await _define(state_dir, xml, start=True)
    async with open_driver(DriverOptions(state_dir)) as driver:
        await (await _found(driver, uuid)).suspend()
    async with open_driver(DriverOptions(state_dir)) as driver:
        domain = await _found(driver, uuid)
        assert domain.get_state(0)[0] == DomainState.PAUSED
        await domain.destroy()


async def test_a_domain_that_died_meanwhile_is_shut_off(state_dir: Path, xml: str) -> None:
    async with open_driver(DriverOptions(state_dir)) as driver:
        assert isinstance(driver, QemuDriver)
        domain = driver.domain_by_uuid((await driver.domain_define_xml_flags(xml, 0)).uuid)
        await domain.create()
        process, run = domain.require_run().process, state_dir / "qemu" / "run" / "kept.xml"
        status = run.read_text()
        process.signal(SIGKILL)
        await domain.require_run().over.wait()
    run.write_text(status)
    async with open_driver(DriverOptions(state_dir)) as driver:
        domain = await _found(driver, domain.ref.uuid)
        assert domain.get_state(0) == (DomainState.SHUTOFF, ShutoffReason.CRASHED)
        assert not run.exists()


async def test_a_transient_domain_is_taken_over(state_dir: Path, xml: str) -> None:
    async with open_driver(DriverOptions(state_dir)) as driver:
        ref = await _create(driver, xml)
    async with open_driver(DriverOptions(state_dir)) as driver:
        domain = await _found(driver, ref)
        assert not domain.is_persistent()
        await domain.destroy()


async def _create(driver: object, xml: str) -> bytes:
    assert isinstance(driver, QemuDriver)
    return (await driver.domain_create_xml(xml, 0)).uuid


async def test_autostart_starts_with_the_daemon(state_dir: Path, xml: str) -> None:
    async with open_driver(DriverOptions(state_dir)) as driver:
        assert isinstance(driver, QemuDriver)
        domain = driver.domain_by_uuid((await driver.domain_define_xml_flags(xml, 0)).uuid)
        await domain.set_autostart(1)
    async with open_driver(DriverOptions(state_dir)) as driver:
        domain = await _found(driver, domain.ref.uuid)
        assert domain.get_autostart()
        await until(lambda: domain.run is not None)
        await domain.destroy()


async def test_a_file_that_makes_no_sense_is_left_alone(
    state_dir: Path, xml: str, caplog: pytest.LogCaptureFixture
) -> None:
    await _define(state_dir, xml)
    strange = state_dir / "qemu" / "definitions" / "strange.xml"
    strange.write_text("<domain")
    async with open_driver(DriverOptions(state_dir)) as driver:
        assert isinstance(driver, QemuDriver)
        assert [ref.name for ref in driver.list_all_domains(0)] == ["kept"]
    assert strange.exists()
    assert "strange.xml" in caplog.text


async def test_an_interrupted_rename_is_finished(state_dir: Path, xml: str) -> None:
    uuid, _ = await _define(state_dir, xml)
    root = state_dir / "qemu"
    old = root / "definitions" / "kept.xml"
    (root / "definitions" / "new.xml").write_text(old.read_text().replace("kept", "new"))
    (root / "checkpoint" / "kept").mkdir()
    async with open_driver(DriverOptions(state_dir)) as driver:
        assert (await _found(driver, uuid)).ref.name == "new"
    assert not old.exists()
    assert (root / "checkpoint" / "new").exists()


async def test_two_daemons_do_not_share_a_state_directory(state_dir: Path) -> None:
    options = DriverOptions(state_dir)
    async with open_driver(options):
        with pytest.raises(SystemFailure, match="another daemon"):
            async with open_driver(options):
                pass


async def test_a_driver_with_no_files_has_no_domains(state_dir: Path) -> None:
    async with open_driver(DriverOptions(state_dir)) as driver:
        assert driver.list_all_domains(0) == []


@pytest.mark.parametrize("was_reset", [False, True])
async def test_a_reboot_that_was_asked_for_is_not_forgotten(
    state_dir: Path, xml: str, *, was_reset: bool
) -> None:
    """The daemon ends between the guest's power-off and the moment in which it runs again."""
    uuid, _ = await _define(state_dir, xml, start=True)
    async with open_driver(DriverOptions(state_dir)) as driver:
        domain = await _found(driver, uuid)
        await domain.reboot(0)
        domain.require_run().restarting = True
        await power_off(domain)
        if was_reset:
            await domain.monitor.execute("system_reset")
    async with open_driver(DriverOptions(state_dir)) as driver:
        domain = await _found(driver, uuid)
        await until_it_runs(domain)
        assert domain.get_state(0) == (DomainState.RUNNING, RunningReason.BOOTED)
        await domain.destroy()
