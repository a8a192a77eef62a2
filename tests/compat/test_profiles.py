"""Stock clients meet an older libvirt: what it answers, what it refuses, what still works."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt
import pytest
from binding import connected, error_code, error_numbers, guest, wait_until
from daemon_process import Daemon, running_daemon
from documents import (
    checkpoint_xml,
    disk_element,
    domain_xml,
    push_disk,
    push_xml,
)
from tools import run
from virsh_guest import run_virsh

PRESERVE_SHUTDOWN = 2
INVALID_ARGUMENT, NO_SUPPORT, UNSUPPORTED, SCHEMA = 8, 3, 84, 92
RPC_DOMAIN = 7
ASK = """<qemu:capabilities xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<qemu:add capability='incremental-backup'/></qemu:capabilities></domain>"""


@pytest.fixture
def pretend(short_dir: Path) -> Iterator[Callable[[str], Daemon]]:
    """Starts a daemon with a profile."""
    running = []

    def start(profile: str) -> Daemon:
        daemon = running_daemon(short_dir, "--profile", profile)
        running.append(daemon)
        return daemon.__enter__()

    yield start
    for daemon in running:
        daemon.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("profile", "libvirt_version", "qemu_version"),
    [
        ("6.0", 6_000_000, 4_002_000),
        ("9.0", 9_000_000, 7_002_000),
        ("newest", 11_010_000, 10_001_000),
    ],
)
def test_versions(
    pretend: Callable[[str], Daemon], profile: str, libvirt_version: int, qemu_version: int
) -> None:
    with connected(pretend(profile).uri) as connection:
        assert connection.getLibVersion() == libvirt_version
        assert connection.getVersion() == qemu_version


def test_virsh_shows_the_versions(pretend: Callable[[str], Daemon]) -> None:
    shown = run_virsh(pretend("7.6").uri, "version", "--daemon")
    assert "Running hypervisor: QEMU 6.1.0" in shown
    assert "Running against daemon: 7.6.0" in shown


@pytest.mark.parametrize(("profile", "supported"), [("6.0", "no"), ("7.6", "yes"), ("9.0", "yes")])
def test_virsh_domcapabilities(
    pretend: Callable[[str], Daemon], profile: str, supported: str
) -> None:
    shown = run_virsh(pretend(profile).uri, "domcapabilities")
    assert f"<backup supported='{supported}'/>" in shown
    assert ("<sgx" in shown) == (profile == "9.0")


def test_preserving_a_shut_down_guest_is_unknown_below_11_10(
    pretend: Callable[[str], Daemon], short_dir: Path
) -> None:
    xml = push_xml(push_disk("vda", short_dir / "full"))
    with connected(pretend("9.0").uri) as connection:
        domain = connection.lookupByName("test")
        assert error_code(lambda: domain.backupBegin(xml, None, PRESERVE_SHUTDOWN)) == (
            INVALID_ARGUMENT
        )
        domain.backupBegin(xml, None)


def test_preserving_a_shut_down_guest_is_known_to_11_10(
    pretend: Callable[[str], Daemon], short_dir: Path
) -> None:
    xml = push_xml(push_disk("vda", short_dir / "full"))
    with connected(pretend("11.10").uri) as connection:
        connection.lookupByName("test").backupBegin(xml, None, PRESERVE_SHUTDOWN)


def test_abort_job_flags_is_an_unknown_procedure_below_8_5(
    pretend: Callable[[str], Daemon],
) -> None:
    with connected(pretend("7.6").uri) as connection:
        domain = connection.lookupByName("test")
        assert error_numbers(lambda: domain.abortJobFlags(0)) == (NO_SUPPORT, RPC_DOMAIN)


def test_a_later_event_cannot_be_registered(pretend: Callable[[str], Daemon]) -> None:
    with connected(pretend("7.6").uri) as connection:
        with pytest.raises(libvirt.libvirtError, match="unsupported event ID 26"):
            connection.domainEventRegisterAny(
                None, libvirt.VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE, print, None
            )
        number = connection.domainEventRegisterAny(
            None, libvirt.VIR_DOMAIN_EVENT_ID_MEMORY_FAILURE, print, None
        )
        connection.domainEventDeregisterAny(number)


def test_a_push_needs_types_below_11_3(pretend: Callable[[str], Daemon], short_dir: Path) -> None:
    with connected(pretend("9.0").uri) as connection:
        domain = connection.lookupByName("test")
        xml = "<domainbackup><disks><disk name='vda'/></disks></domainbackup>"
        assert error_code(lambda: domain.backupBegin(xml, None)) == SCHEMA


def test_checkpoints_and_backups_are_asked_for_below_7_6(
    pretend: Callable[[str], Daemon], short_dir: Path
) -> None:
    with connected(pretend("6.0").uri) as connection:
        domain = connection.lookupByName("test")
        xml = push_xml(push_disk("vda", short_dir / "full"))
        assert error_code(lambda: domain.backupBegin(xml, None)) == UNSUPPORTED
        assert error_code(lambda: domain.checkpointCreateXML(checkpoint_xml("c"))) == UNSUPPORTED


def test_a_domain_that_asks_is_backed_up_below_7_6(
    pretend: Callable[[str], Daemon], short_dir: Path
) -> None:
    with connected(pretend("6.0").uri) as connection:
        xml = domain_xml("asking", disk_element("vda", short_dir / "vda.qcow2"))
        domain = connection.defineXML(xml.replace("</domain>", ASK))
        domain.create()
        domain.backupBegin(push_xml(push_disk("vda", short_dir / "full")), checkpoint_xml("c"))
        wait_until(lambda: domain.jobStats()["type"] == 0, "the push ends")
        assert [checkpoint.getName() for checkpoint in domain.listAllCheckpoints()] == ["c"]


def test_redefining_below_6_3_needs_a_running_domain(
    pretend: Callable[[str], Daemon], short_dir: Path
) -> None:
    redefine = libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE
    with connected(pretend("6.0").uri) as connection:
        domain = connection.defineXML(domain_xml("idle", disk_element("vda", short_dir / "a")))
        xml = checkpoint_xml("c", created=1)
        assert error_code(lambda: domain.checkpointCreateXML(xml, redefine)) == UNSUPPORTED


def test_a_profile_that_is_not_known_stops_the_start(short_dir: Path) -> None:
    with pytest.raises(RuntimeError), running_daemon(short_dir, "--profile", "9.1"):
        raise AssertionError("it started")
    log = (short_dir / "daemon.log").read_text()
    assert "there is no profile '9.1'; known are: 6.0, 7.6, 9.0, 11.10, newest" in log


def test_a_real_hypervisor_does_not_pretend(short_dir: Path) -> None:
    options = ("--driver", "qemu=qemu", "--profile", "9.0")
    with pytest.raises(RuntimeError), running_daemon(short_dir, *options):
        raise AssertionError("it started")
    assert "the QEMU driver is what it is" in (short_dir / "daemon.log").read_text()


def test_virtnbdbackup_makes_a_full_and_an_incremental_backup_of_9_0(
    pretend: Callable[[str], Daemon], short_dir: Path
) -> None:
    uri = pretend("9.0").uri
    environment = {**os.environ, "TMPDIR": str(short_dir), "HOME": str(short_dir)}
    for level in ("full", "inc"):
        run(
            "virtnbdbackup", "-U", uri, "-d", "test", "-l", level, "-o", short_dir / "backups",
            "-S", short_dir / "scratch", "-f", short_dir / "nbd", "--noprogress",
            environment=environment,
        )  # fmt: skip
        with connected(uri) as connection:
            guest(connection.lookupByName("test"), "vda", "write -P 7 1M 64k")
    names = sorted(path.name for path in (short_dir / "backups").glob("vda.*.data"))
    assert names == ["vda.full.data", "vda.inc.virtnbdbackup.1.data"]
