"""Debian's virtnbdbackup does a whole life of backups; the restored images equal the disks.

Every level, the checkpoints it keeps, restoring up to a point in time, and redefining a machine
from a restore. The in-memory disks are read back through a pull backup of our own.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree as ET

import libvirt
import pytest
from binding import connected, guest, wait_until
from daemon_process import Daemon, running_daemon
from documents import pull_xml, unix_server
from tools import copy_export, images_equal, run, unix_uri

DRIVERS = ("memory", "qemu")

TARGETS = ("vda", "vdb")


class Tool:
    """virtnbdbackup and virtnbdrestore working in folders of one test."""

    def __init__(self, uri: str, root: Path, domain: str = "test") -> None:
        self.uri = uri
        self.domain = domain
        self.root = root
        self.backups = root / "backups"
        # The tool insists on them for such URIs; nobody checks them.
        self.credentials = ["--user", "x", "--password", "x"] if uri.startswith("qemu") else []
        self.environment = {**os.environ, "TMPDIR": str(root), "HOME": str(root)}

    def backup(self, level: str, *options: str, status: int = 0) -> None:
        run(
            "virtnbdbackup", "-U", self.uri, "-d", self.domain, "-l", level, "-o", self.backups,
            "-S", self.root / "scratch", "-f", self.root / "nbd.sock", "--noprogress",
            *self.credentials, *options,
            status=status, environment=self.environment,
        )  # fmt: skip

    def restore(self, name: str, disk: str, *options: str) -> Path:
        """The folder of the restored image.

        Disk by disk, each with its own socket: the tool serves all disks of one run at the same
        path, where the server that ends may remove the socket of the one that starts.
        """
        target = self.root / name
        run(
            "virtnbdrestore", "-U", self.uri, "-i", self.backups, "-o", target, "-d", disk,
            "-f", self.root / f"{name}-{disk}.sock", "--noprogress", *self.credentials, *options,
            environment=self.environment,
        )  # fmt: skip
        # The tool tells its qemu-nbd to end and does not wait: the image is not whole before.
        wait_until(lambda: not _named_by_any(target), "the end of the restoring server")
        return target

    def restore_all(self, name: str, *options: str) -> Path:
        return [self.restore(name, disk, *options) for disk in TARGETS][-1]


def _named_by_any(path: Path) -> bool:
    """Whether a process has been given the path."""
    return any(os.fsencode(path) in words for words in _command_lines())


def _command_lines() -> Iterator[bytes]:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            yield file.read_bytes()


@pytest.fixture
def tool(daemon: Daemon, short_dir: Path) -> Tool:
    return Tool(daemon.uri, short_dir)


def disks_now(domain: libvirt.virDomain, folder: Path) -> dict[str, Path]:
    """Both disks' present contents as raw images below `folder`."""
    folder.mkdir()
    domain.backupBegin(pull_xml(unix_server(folder / "nbd"), folder, TARGETS), None)
    images = {
        target: copy_export(unix_uri(folder / "nbd", target), folder / f"{target}.raw")
        for target in TARGETS
    }
    domain.abortJob()
    wait_until(lambda: domain.jobStats()["type"] == 0, "the pull ends")
    return images


def assert_restored(restored: Path, disks: dict[str, Path]) -> None:
    for target, image in disks.items():
        images_equal(restored / f"test-{target}.qcow2", image, "qcow2", "raw")


def names(domain: libvirt.virDomain) -> set[str]:
    return {checkpoint.getName() for checkpoint in domain.listAllCheckpoints()}


def test_full_incremental_differential_restore(
    tool: Tool, domain: libvirt.virDomain, short_dir: Path
) -> None:
    tool.backup("full")
    guest(domain, "vda", "write -P 0xa1 1M 200k")
    tool.backup("inc")
    guest(domain, "vda", "write -P 0xa2 1M 64k")
    guest(domain, "vdb", "write -P 0xb2 3M 1M")
    after_first = disks_now(domain, short_dir / "before-second")
    tool.backup("inc")
    guest(domain, "vda", "discard 2M 256k")
    guest(domain, "vdb", "write -z 3M 64k")
    tool.backup("diff")
    guest(domain, "vda", "write -P 0xa3 5M 64k")
    tool.backup("diff")
    assert names(domain) == {"virtnbdbackup.0", "virtnbdbackup.1", "virtnbdbackup.2"}
    assert_restored(tool.restore_all("latest"), disks_now(domain, short_dir / "now"))
    until = tool.restore_all("until", "--until", "virtnbdbackup.2")
    assert_restored(until, after_first)


def test_a_copy_leaves_no_checkpoint(
    tool: Tool, domain: libvirt.virDomain, short_dir: Path
) -> None:
    tool.backup("copy")
    assert names(domain) == set()
    assert_restored(tool.restore_all("restored"), disks_now(domain, short_dir / "now"))


def test_a_new_full_backup_starts_a_new_chain(
    tool: Tool, domain: libvirt.virDomain, short_dir: Path
) -> None:
    for level in ("full", "inc"):
        tool.backup(level)
    shutil.rmtree(tool.backups)
    tool.backup("full")
    assert names(domain) == {"virtnbdbackup.0"}


def test_lost_checkpoints_are_redefined(tool: Tool, domain: libvirt.virDomain) -> None:
    tool.backup("full")
    (kept,) = domain.listAllCheckpoints()
    kept.delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
    tool.backup("inc", "-i", "vda")
    assert names(domain) == {"virtnbdbackup.0", "virtnbdbackup.1"}


def test_a_foreign_checkpoint_stops_the_tool(tool: Tool, domain: libvirt.virDomain) -> None:
    domain.checkpointCreateXML("<domaincheckpoint><name>mine</name></domaincheckpoint>")
    tool.backup("full", status=1)
    assert names(domain) == {"mine"}


@pytest.fixture
def plain(short_dir: Path) -> Iterator[Tool]:
    """A machine without CD-ROM: this release of virtnbdrestore stumbles over an empty drive."""
    world = short_dir / "world.toml"
    world.write_text(
        "[[domains]]\nname = 'plain'\nstate = 'running'\n[[domains.disks]]\ntarget = 'vda'\n"
        "size = '16 MiB'\nwritten = [{ offset = '1 MiB', length = '1 MiB', seed = 3 }]\n"
    )
    with running_daemon(short_dir, "--world", str(world)) as daemon:
        yield Tool(daemon.uri, short_dir, "plain")


@pytest.fixture
def plain_connection(plain: Tool) -> Iterator[libvirt.virConnect]:
    with connected(plain.uri) as connection:
        yield connection


@pytest.fixture
def plain_domain(plain_connection: libvirt.virConnect) -> libvirt.virDomain:
    return plain_connection.lookupByName("plain")


def verified(domain: libvirt.virDomain, what: str) -> bool:
    """Whether the guest reads what it should."""
    return "verification failed" not in guest(domain, "vda", f"read -P {what}")


def test_a_restored_machine_is_defined(
    plain: Tool, plain_connection: libvirt.virConnect, plain_domain: libvirt.virDomain
) -> None:
    plain.backup("copy")
    restored = plain.restore("restored", "vda", "-c", "-D", "--name", "again")
    again = plain_connection.lookupByName("again")
    assert again.UUIDString() != plain_domain.UUIDString()
    assert str(restored) in again.XMLDesc()
    assert again.blockInfo("vda")[0] == 16 << 20


def test_a_restored_machine_reads_what_was_written(
    plain: Tool, plain_connection: libvirt.virConnect, plain_domain: libvirt.virDomain
) -> None:
    guest(plain_domain, "vda", "write -P 0xc3 4M 100k")
    plain.backup("full")
    guest(plain_domain, "vda", "write -P 0xc4 5M 64k")
    plain.backup("inc")
    plain.restore("restored", "vda", "-c", "-D", "--name", "again")
    again = plain_connection.lookupByName("again")
    again.create()
    assert verified(again, "0xc3 4M 100k")
    assert verified(again, "0xc4 5M 64k")
    assert not verified(again, "0xc5 5M 64k")


def test_a_disk_restored_in_its_place_is_read_at_the_next_start(
    plain: Tool, plain_domain: libvirt.virDomain
) -> None:
    guest(plain_domain, "vda", "write -P 0xc3 4M 64k")
    plain.backup("copy")
    guest(plain_domain, "vda", "write -P 0xff 4M 64k")
    plain_domain.destroy()
    restored = plain.restore("restored", "vda") / "plain-vda.qcow2"
    shutil.copyfile(restored, source_of(plain_domain))
    plain_domain.create()
    assert verified(plain_domain, "0xc3 4M 64k")


def source_of(domain: libvirt.virDomain) -> str:
    source = ET.fromstring(domain.XMLDesc()).find("devices/disk/source")
    assert source is not None
    return source.attrib["file"]


def test_through_a_qemu_uri_with_credentials_nobody_checks(
    daemon: Daemon, domain: libvirt.virDomain, short_dir: Path
) -> None:
    tool = Tool(daemon.qemu_uri, short_dir)
    tool.backup("full", "--user", "any", "--password", "thing")
    assert names(domain) == {"virtnbdbackup.0"}


def test_a_machine_that_is_off_keeps_its_checkpoints(tool: Tool, domain: libvirt.virDomain) -> None:
    tool.backup("full")
    domain.destroy()
    tool.backup("full", status=1)
    assert names(domain) == {"virtnbdbackup.0"}
