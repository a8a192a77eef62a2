"""A Linux guest writes to its disk before, during and after backups; what is saved is compared.

Expected contents are made here, from the patterns that the guest was told to write.
"""

from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
from binding import Recorder, connected, wait_until
from daemon_process import running_qemu_daemon
from documents import checkpoint_xml, disk_element, pull_xml, unix_server
from linux_guest import LinuxGuest, boot
from tiny_disk import mounted_tiny_disk
from tools import copy_export, dirty_ranges, images_equal, nbd_script, run, unix_uri

MIB = 1 << 20
STORM = "storm 60 65536"
READ_RANGES = """
import nbd, sys
handle = nbd.NBD(); handle.connect_uri(sys.argv[1])
with open(sys.argv[2], 'r+b') as image:
    for text in sys.argv[3:]:
        offset, length = map(int, text.split('+'))
        for start in range(offset, offset + length, 1 << 20):
            image.seek(start)
            image.write(handle.pread(min(1 << 20, offset + length - start), start))
"""


@pytest.fixture
def disk(short_dir: Path) -> Path:
    path = short_dir / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "64M")
    return path


@pytest.fixture
def host(short_dir: Path) -> Iterator[libvirt.virConnect]:
    """A connection to a daemon with no domain."""
    with running_qemu_daemon(short_dir) as daemon, connected(daemon.uri) as connection:
        yield connection


@pytest.fixture
def linux(host: libvirt.virConnect, disk: Path) -> LinuxGuest:
    return boot(host, "linux", disk)


@pytest.fixture
def tiny(short_dir: Path) -> Iterator[Path]:
    """A file system on which a scratch file has next to no room."""
    with mounted_tiny_disk(short_dir) as path:
        yield path


def begin(linux: LinuxGuest, folder: Path, new: str, since: str = "") -> str:
    """Begin a pull with a new checkpoint; the export's address."""
    xml = pull_xml(unix_server(folder / "nbd"), folder, incremental=since)
    linux.machine.backupBegin(xml, checkpoint_xml(new))
    return unix_uri(folder / "nbd")


def end(linux: LinuxGuest) -> None:
    linux.machine.abortJob()
    wait_until(lambda: linux.machine.jobStats()["type"] == 0, "the pull ends")


def add_changes(uri: str, image: Path) -> None:
    """Bring a raw image up to the instant of an incremental pull."""
    ranges = [f"{offset}+{length}" for offset, length in dirty_ranges(uri)]
    nbd_script(READ_RANGES, uri, image, *ranges)


def overwrite(image: Path, offset: int, length: int, word: str) -> None:
    """What the guest's order `write` does."""
    line = f"{word}\n".encode()
    with image.open("r+b") as file:
        file.seek(offset)
        file.write((line * (length // len(line) + 1))[:length])


def power_off(linux: LinuxGuest) -> None:
    linux.tell("off")
    wait_until(lambda: not linux.machine.isActive(), "the guest powers off")


def duplicate(image: Path) -> Path:
    copy = image.with_suffix(".expected")
    copy.write_bytes(image.read_bytes())
    return copy


def test_writes_during_an_incremental_backup(
    linux: LinuxGuest, disk: Path, short_dir: Path
) -> None:
    linux.do(f"write {MIB} 100000 first")
    saved = copy_export(begin(linux, short_dir, "c0"), short_dir / "saved.raw")
    end(linux)
    expected = duplicate(saved)
    linux.do(f"write {2 * MIB} 300000 second")
    overwrite(expected, 2 * MIB, 300000, "second")
    uri = begin(linux, short_dir, "c1", since="c0")
    linux.tell(STORM)
    linux.until("guest: stormy")
    add_changes(uri, saved)
    linux.until("guest: done")
    assert saved.read_bytes() == expected.read_bytes()
    end(linux)
    add_changes(begin(linux, short_dir, "c2", since="c1"), saved)
    end(linux)
    power_off(linux)
    images_equal(disk, saved, "qcow2", "raw")


def test_disk_comes_and_goes(linux: LinuxGuest, short_dir: Path) -> None:
    image = short_dir / "more.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", image, "16M")
    linux.machine.attachDevice(disk_element("vdb", image))
    linux.until_answered("see vdb", "guest: sees vdb")
    linux.machine.detachDevice(disk_element("vdb", image))
    linux.until_answered("see vdb", "guest: misses vdb")
    wait_until(lambda: str(image) not in linux.machine.XMLDesc(), "the disk is gone")


def pull_without_room(linux: LinuxGuest, short_dir: Path, tiny: Path) -> None:
    """Begin a pull whose scratch file is too small for what the guest overwrites then."""
    linux.do(f"write 0 {16 * MIB} first")
    linux.machine.backupBegin(pull_xml(unix_server(short_dir / "nbd"), tiny), None)
    linux.do(f"write {2 * MIB} {8 * MIB} second")


def ended(linux: LinuxGuest) -> dict[str, object]:
    """The completed figures, once the job is over."""
    wait_until(lambda: linux.machine.jobStats()["type"] == 0, "the pull ends")
    return linux.machine.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)


def test_a_pull_without_room_fails(linux: LinuxGuest, short_dir: Path, tiny: Path) -> None:
    pull_without_room(linux, short_dir, tiny)
    stats = ended(linux)
    assert stats["type"] == libvirt.VIR_DOMAIN_JOB_FAILED
    assert stats["success"] == 0
    assert stats["errmsg"] == "No space left on device"
    assert list(tiny.iterdir()) == []


def test_the_guest_goes_on_after_a_pull_without_room(
    linux: LinuxGuest, disk: Path, short_dir: Path, tiny: Path
) -> None:
    pull_without_room(linux, short_dir, tiny)
    assert linux.machine.state()[0] == libvirt.VIR_DOMAIN_RUNNING
    power_off(linux)
    expected = short_dir / "expected.raw"
    run("truncate", "-s", "64M", expected)
    overwrite(expected, 0, 16 * MIB, "first")
    overwrite(expected, 2 * MIB, 8 * MIB, "second")
    images_equal(disk, expected, "qcow2", "raw")


def test_a_pull_without_room_is_told_by_events(
    host: libvirt.virConnect, linux: LinuxGuest, short_dir: Path, tiny: Path
) -> None:
    recorder = Recorder()
    kind = libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
    host.domainEventRegisterAny(linux.machine, kind, recorder, "told")
    pull_without_room(linux, short_dir, tiny)
    suspended, resumed = recorder.wait(2)[:2]
    failed = libvirt.VIR_DOMAIN_EVENT_SUSPENDED_IOERROR
    assert suspended[-2:] == (libvirt.VIR_DOMAIN_EVENT_SUSPENDED, failed)
    assert resumed[-2] == libvirt.VIR_DOMAIN_EVENT_RESUMED
