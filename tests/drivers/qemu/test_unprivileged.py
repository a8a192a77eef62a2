"""Backups of domains whose QEMU runs as somebody else than the daemon."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from contract import ask
from documents import disk_element, domain_xml

from virtbackupd.drivers.enums import JobType
from virtbackupd.drivers.interface import DriverOptions
from virtbackupd.drivers.qemu import open_driver
from virtbackupd.drivers.qemu.domain import QemuDomain
from virtbackupd.drivers.qemu.driver import QemuDriver

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
USER, GROUP = "nobody", "nogroup"

FLASHED = """<domain type='qemu'><name>guest</name><memory unit='MiB'>32</memory>
<os><type machine='q35'>hvm</type>{boot}</os></domain>"""


def configure(state_dir: Path) -> None:
    state_dir.chmod(0o711)
    (state_dir / "qemu").mkdir()
    setting = f"user = '{USER}'\ngroup = '{GROUP}'\n"
    (state_dir / "qemu" / "qemu.toml").write_text(setting)


@pytest.fixture
async def guest(state_dir: Path) -> AsyncIterator[QemuDomain]:
    """All that QEMU must reach is beside the daemon's own folder."""
    configure(state_dir)
    image = state_dir / "a.qcow2"
    await trio.run_process(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "16M"])
    shutil.chown(image, USER, GROUP)
    async with open_driver(DriverOptions(state_dir)) as driver:
        assert isinstance(driver, QemuDriver)
        ref = await driver.domain_define_xml(
            domain_xml("guest", disk_element("vda", Path(image)), machine="q35")
        )
        domain = driver.domain_by_uuid(ref.uuid)
        await domain.create()
        yield domain
        await domain.destroy()


async def test_targets_belong_to_qemu(guest: QemuDomain, state_dir: Path) -> None:
    target = state_dir / "copy"
    disk = f"<disk name='vda' type='file'><target file='{target}'/></disk>"
    await guest.backup_begin(f"<domainbackup><disks>{disk}</disks></domainbackup>", None, 0)
    if guest.backup is not None:
        await guest.backup.over.wait()
    assert (await guest.get_job_stats(1)).type == JobType.COMPLETED
    found = await trio.Path(target).stat()
    assert (await trio.Path(target).owner(), found.st_mode & 0o777) == (USER, 0o600)


async def test_formats_that_qemu_lays_out(guest: QemuDomain, state_dir: Path) -> None:
    disk = (
        f"<disk name='vda' type='file'><target file='{state_dir}/copy'/><driver type='qed'/></disk>"
    )
    await guest.backup_begin(f"<domainbackup><disks>{disk}</disks></domainbackup>", None, 0)
    if guest.backup is not None:
        await guest.backup.over.wait()
    assert (await guest.get_job_stats(1)).type == JobType.COMPLETED


async def test_snapshots_belong_to_qemu(guest: QemuDomain, state_dir: Path) -> None:
    await guest.snapshot_create_xml("<domainsnapshot><name>s</name></domainsnapshot>", 16)
    assert await trio.Path(state_dir / "a.s").owner() == USER


async def test_variables_of_the_firmware_belong_to_qemu(state_dir: Path) -> None:
    configure(state_dir)
    for name in ("code", "template"):
        await trio.Path(state_dir / name).write_bytes(bytes(1 << 20))
    loader = f"<loader readonly='yes' type='pflash'>{state_dir}/code</loader>"
    xml = FLASHED.format(boot=f"{loader}<nvram template='{state_dir}/template'/>")
    async with open_driver(DriverOptions(state_dir)) as driver:
        ref = await ask(driver.domain_create_xml(xml, 0))
        variables = trio.Path(state_dir / "qemu" / "nvram" / "guest_VARS.fd")
        assert (await variables.owner(), (await variables.stat()).st_mode & 0o777) == (USER, 0o600)
        await ask(driver.domain_by_uuid(ref.uuid).destroy())
