"""Pull backups of the in-memory hypervisor over TLS, read by stock NBD clients."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import SERVER, Authority, Pki, make_pki
from daemon_process import Daemon, running_daemon
from tools import TOOL_DEADLINE, free_port, run
from virsh_guest import run_virsh

DOMAIN = "test"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """With files named as QEMU wants them."""
    pki = make_pki(tmp_path_factory.mktemp("pki"))
    pki.authority.sign("localhost", SERVER, hosts=["localhost", "127.0.0.1"]).write(
        pki.root / "server-cert.pem", pki.root / "server-key.pem"
    )
    pki.authority.write(pki.root / "ca-cert.pem")
    return pki


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Daemon]:
    root = tmp_path_factory.mktemp("nbd-tls")
    config = root / "virtbackupd.conf"
    config.write_text(f'[memory]\nbackup_tls_x509_cert_dir = "{pki.root}"\n')
    with running_daemon(root, "--config", str(config)) as running:
        yield running


@pytest.fixture
def port(daemon: Daemon, tmp_path: Path) -> Iterator[int]:
    """Where a running backup serves the domain's disks."""
    number = free_port()
    server = f"<server transport='tcp' tls='yes' name='localhost' port='{number}'/>"
    document = tmp_path / "backup.xml"
    document.write_text(f"<domainbackup mode='pull'>{server}</domainbackup>")
    run_virsh(daemon.uri, "backup-begin", DOMAIN, str(document))
    yield number
    run_virsh(daemon.uri, "domjobabort", DOMAIN)


def client_folder(pki: Pki, name: str, authority: Authority | None = None) -> Path:
    folder = pki.root / name
    signed = (authority or pki.authority).sign(name)
    signed.write(folder / "client-cert.pem", folder / "client-key.pem")
    pki.authority.write(folder / "ca-cert.pem")
    return folder


def uri(port: int, folder: Path) -> str:
    return f"nbds://localhost:{port}/vda?tls-certificates={folder}"


def outcome(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=TOOL_DEADLINE, check=False
    )


def test_good_certificate_reads_the_disk(pki: Pki, port: int) -> None:
    run("nbdinfo", "--is", "tls", uri(port, client_folder(pki, "good")))


def test_whole_disk_is_the_same_as_without(
    daemon: Daemon, pki: Pki, port: int, tmp_path: Path
) -> None:
    plain, secret = tmp_path / "plain.img", tmp_path / "secret.img"
    run("nbdcopy", uri(port, client_folder(pki, "copying")), secret)
    run_virsh(daemon.uri, "domjobabort", DOMAIN)
    document = tmp_path / "plain.xml"
    server = f"<server transport='unix' socket='{tmp_path}/nbd'/>"
    document.write_text(f"<domainbackup mode='pull'>{server}</domainbackup>")
    run_virsh(daemon.uri, "backup-begin", DOMAIN, str(document))
    run("nbdcopy", f"nbd+unix:///vda?socket={tmp_path}/nbd", plain)
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", plain, secret)


def test_client_without_tls_is_told_nothing(port: int) -> None:
    done = outcome("nbdinfo", f"nbd://localhost:{port}/vda")
    assert done.returncode
    assert "error to opt_go request" in done.stderr


def test_client_of_a_foreign_authority_is_refused(pki: Pki, port: int) -> None:
    folder = client_folder(pki, "foreign", Authority("Foreign"))
    assert outcome("nbdinfo", uri(port, folder)).returncode


def test_client_without_certificate_is_refused(pki: Pki, port: int) -> None:
    folder = pki.root / "only-ca"
    pki.authority.write(folder / "ca-cert.pem")
    assert outcome("nbdinfo", uri(port, folder)).returncode


def test_document_says_that_it_is_tls(daemon: Daemon, port: int) -> None:
    assert "tls='yes'" in run_virsh(daemon.uri, "backup-dumpxml", DOMAIN)
