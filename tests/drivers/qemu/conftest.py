"""A QEMU driver in a state directory of its own, and domains that need no operating system."""

import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from virtbackupd.drivers.interface import DriverOptions
from virtbackupd.drivers.qemu import open_driver
from virtbackupd.drivers.qemu.domain import QemuDomain
from virtbackupd.drivers.qemu.driver import QemuDriver

MIB = 1024 * 1024
DISK = """<disk type='file' device='disk'>
<driver name='qemu' type='{format}'/><source file='{path}'/><target dev='{target}' bus='virtio'/>
</disk>"""
DOMAIN = """<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid>
<memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>
<devices>{devices}</devices></domain>"""


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """Short, because sockets below it have short addresses."""
    with tempfile.TemporaryDirectory(prefix="vbq", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
async def qemu(state_dir: Path) -> AsyncIterator[QemuDriver]:
    """An open driver; its domains are ended with it."""
    async with open_driver(DriverOptions(state_dir)) as driver:
        assert isinstance(driver, QemuDriver)
        yield driver
        for domain in list(driver.host.domains):
            if domain.active:
                await domain.destroy()


@pytest.fixture
def make_image(tmp_path: Path) -> Callable[..., str]:
    """Create an image below the test's folder; returns its path."""

    def create(name: str, *options: str, format: str = "qcow2", size: int = 64 * MIB) -> str:  # noqa: A002
        path = tmp_path / name
        command = [shutil.which("qemu-img") or "qemu-img", "create", "-q", "-f", format]
        subprocess.run([*command, *options, str(path), str(size)], check=True)
        return str(path)

    return create


def domain_xml(name: str, *disks: tuple[str, str, str]) -> str:
    """Disks are triples of target, path and format."""
    devices = "".join(DISK.format(target=t, path=p, format=f) for t, p, f in disks)
    return DOMAIN.format(name=name, uuid=uuid4(), devices=devices)


@pytest.fixture
async def guest(qemu: QemuDriver, make_image: Callable[..., str]) -> QemuDomain:
    """Two qcow2 disks and a raw one, running in firmware."""
    disks = (
        ("vda", make_image("a.qcow2"), "qcow2"),
        ("vdb", make_image("b.qcow2", size=16 * MIB), "qcow2"),
        ("vdc", make_image("c.raw", format="raw", size=4 * MIB), "raw"),
    )
    ref = await qemu.domain_define_xml(domain_xml("guest", *disks))
    domain = qemu.domain_by_uuid(ref.uuid)
    await domain.create()
    return domain


@pytest.fixture
def qemu_io(guest: QemuDomain) -> Callable[[str, str], Awaitable[None]]:
    """Write to a disk as the guest would: `qemu_io("vda", "write -P 1 0 64k")`."""

    async def run(target: str, command: str) -> None:
        answer = await guest.monitor_command(f'qemu-io {target} "{command}"', 1)
        assert not answer.strip(), answer

    return run
