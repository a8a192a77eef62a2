"""Pull backups behind TLS with certificates on both sides."""

import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio
from documents import disk_element, domain_xml

from virtbackupd.drivers.errors import InternalError
from virtbackupd.drivers.interface import DriverOptions
from virtbackupd.drivers.qemu import open_driver
from virtbackupd.drivers.qemu.domain import QemuDomain
from virtbackupd.drivers.qemu.driver import QemuDriver

NEW_KEY = ("openssl", "req", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")


def make_certificates(folder: Path) -> None:
    """A CA, and a server and a client that it vouches for, under the names QEMU looks for."""

    def openssl(*words: str) -> None:
        subprocess.run(words, cwd=folder, check=True, capture_output=True)

    openssl(*NEW_KEY, "-x509", "-keyout", "ca-key.pem", "-out", "ca-cert.pem", "-subj", "/CN=ca",
            "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    for name in ("server", "client"):
        openssl(*NEW_KEY, "-keyout", f"{name}-key.pem", "-out", f"{name}.csr", "-subj",
                "/CN=localhost")  # fmt: skip
        openssl("openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", "ca-cert.pem", "-CAkey",
                "ca-key.pem", "-CAcreateserial", "-out", f"{name}-cert.pem")  # fmt: skip


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    folder = tmp_path / "pki"
    folder.mkdir()
    make_certificates(folder)
    return folder


@pytest.fixture
async def guest(
    state_dir: Path, certificates: Path, make_image: Callable[..., str]
) -> AsyncIterator[QemuDomain]:
    """A guest of a driver that knows where the certificates are."""
    (state_dir / "qemu").mkdir()
    setting = f"backup_tls_x509_cert_dir = '{certificates}'\n"
    await trio.Path(state_dir / "qemu" / "qemu.toml").write_text(setting)
    async with open_driver(DriverOptions(state_dir)) as driver:
        assert isinstance(driver, QemuDriver)
        disk = disk_element("vda", Path(make_image("a.qcow2")))
        ref = await driver.domain_define_xml(domain_xml("guest", disk, machine="q35"))
        domain = driver.domain_by_uuid(ref.uuid)
        await domain.create()
        yield domain
        await domain.destroy()


def pull(folder: Path) -> str:
    return (
        f"<domainbackup mode='pull'><server tls='yes' transport='unix' socket='{folder}/s'/>"
        f"<disks><disk name='vda' type='file'><scratch file='{folder}/scratch'/></disk></disks>"
        "</domainbackup>"
    )


async def nbdinfo(uri: str) -> int:
    return (await trio.run_process(["nbdinfo", "--size", uri], check=False)).returncode


async def test_a_client_with_a_certificate_reads(
    guest: QemuDomain, state_dir: Path, certificates: Path
) -> None:
    await guest.backup_begin(pull(state_dir), None, 0)
    assert "tls='yes'" in guest.backup_get_xml_desc(0)
    keys = f"tls-certificates={certificates}&tls-hostname=localhost"
    assert await nbdinfo(f"nbds+unix:///vda?socket={state_dir}/s&{keys}") == 0


async def test_a_client_without_one_does_not(guest: QemuDomain, state_dir: Path) -> None:
    await guest.backup_begin(pull(state_dir), None, 0)
    assert await nbdinfo(f"nbd+unix:///vda?socket={state_dir}/s") != 0


async def test_the_credentials_go_with_the_backup(guest: QemuDomain, state_dir: Path) -> None:
    await guest.backup_begin(pull(state_dir), None, 0)
    backup = guest.backup
    assert backup is not None
    await guest.abort_job()
    await backup.over.wait()
    await guest.backup_begin(pull(state_dir), None, 0)


async def test_bad_certificates(guest: QemuDomain, state_dir: Path, certificates: Path) -> None:
    (certificates / "server-cert.pem").write_text("no certificate")
    with pytest.raises(InternalError, match="object-add"):
        await guest.backup_begin(pull(state_dir), None, 0)
    assert not (state_dir / "scratch").exists()


async def test_without_a_folder(guest: QemuDomain, state_dir: Path, certificates: Path) -> None:
    await trio.Path(certificates).rename(certificates.with_name("gone"))
    with pytest.raises(InternalError, match="certificate directory"):
        await guest.backup_begin(pull(state_dir), None, 0)
