"""What is made of the state in which a QEMU is found."""

from pathlib import Path

import small_guest
import trio
from waiting import until

from virtbackupd.drivers.enums import BackupBegin, DomainState, PausedReason
from virtbackupd.drivers.interface import DriverOptions
from virtbackupd.drivers.qemu import open_driver
from virtbackupd.drivers.qemu.domain import QemuDomain
from virtbackupd.drivers.qemu.driver import QemuDriver

DOMAIN = """<domain type='qemu'><name>m</name><memory unit='MiB'>64</memory>
<os><type machine='q35'>hvm</type></os><features><acpi/></features><devices><disk type='file'>
<driver name='qemu' type='qcow2'/><source file='{path}'/><target dev='vda' bus='virtio'/>
</disk></devices></domain>"""
PULL = (
    """<domainbackup mode='pull'><server transport='unix' socket='{folder}/nbd'/></domainbackup>"""
)
HELD = (DomainState.PAUSED, PausedReason.SHUTTING_DOWN)


async def hold(driver: QemuDriver, folder: Path) -> QemuDomain:
    """A guest that has powered off in the midst of a backup that keeps it."""
    path = small_guest.make_image(folder / "a.qcow2")
    ref = await driver.domain_create_xml(DOMAIN.format(path=path), 0)
    domain = driver.domain_by_uuid(ref.uuid)
    flag = BackupBegin.PRESERVE_SHUTDOWN_DOMAIN
    await domain.backup_begin(PULL.format(folder=folder), None, flag)
    with trio.fail_after(60):
        asked = small_guest.POWER_BUTTON_ASKED
        # QEMU tells nobody when the guest has booted.
        while not small_guest.obeys(await domain.monitor_command(asked, 1)):  # noqa: ASYNC110
            await trio.sleep(0.01)
    await domain.shutdown()
    await until(lambda: domain.get_state(0) == HELD)
    return domain


async def test_a_domain_that_waits_for_its_backup_still_does(state_dir: Path) -> None:
    async with open_driver(DriverOptions(state_dir)) as driver:
        assert isinstance(driver, QemuDriver)
        uuid = (await hold(driver, state_dir)).ref.uuid
    async with open_driver(DriverOptions(state_dir)) as driver:
        assert isinstance(driver, QemuDriver)
        domain = driver.domain_by_uuid(uuid)
        assert domain.get_state(0) == HELD
        await domain.abort_job()
        await until(lambda: not domain.active)
