"""Push backups that cannot end well: they leave no file behind and the machine as it was."""

from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
from binding import Recorder, error_code, guest, hold_push, wait_until
from documents import checkpoint_xml, push_disk, push_xml
from tiny_disk import mounted_tiny_disk

DRIVERS = ("memory", "qemu")

COMPLETED = libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED
REUSE = libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL
FAILED = libvirt.VIR_DOMAIN_BLOCK_JOB_FAILED


@pytest.fixture
def tiny_disk(short_dir: Path) -> Iterator[Path]:
    with mounted_tiny_disk(short_dir) as path:
        yield path


def ended(machine: libvirt.virDomain) -> dict[str, object]:
    """The completed figures, once the job is over."""
    wait_until(lambda: machine.jobStats()["type"] == 0, "the push ends")
    return machine.jobStats(COMPLETED)


@pytest.fixture
def filled(machine: libvirt.virDomain) -> libvirt.virDomain:
    """More contents than the tiny disk takes."""
    guest(machine, "vda", "write -P 0x77 0 8M")
    return machine


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_disk_full(filled: libvirt.virDomain, tiny_disk: Path, image_format: str) -> None:
    target = tiny_disk / "full"
    filled.backupBegin(push_xml(push_disk("vda", target, image_format)), None)
    stats = ended(filled)
    assert stats["type"] == libvirt.VIR_DOMAIN_JOB_FAILED
    assert stats["success"] == 0
    assert "No space left on device" in str(stats["errmsg"])
    assert not target.exists()


def test_the_machine_goes_on_after_disk_full(
    filled: libvirt.virDomain, tiny_disk: Path, short_dir: Path
) -> None:
    filled.backupBegin(push_xml(push_disk("vda", tiny_disk / "full")), None)
    ended(filled)
    assert filled.state()[0] == libvirt.VIR_DOMAIN_RUNNING
    assert "verification failed" not in guest(filled, "vda", "read -P 0x77 0 8M")
    filled.backupBegin(push_xml(push_disk("vda", short_dir / "full")), None)
    assert ended(filled)["success"] == 1


def test_disk_full_is_told_by_events(
    module_connection: libvirt.virConnect, filled: libvirt.virDomain, tiny_disk: Path
) -> None:
    recorder = Recorder()
    for event, label in (
        (libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, "job"),
        (libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, "target"),
    ):
        module_connection.domainEventRegisterAny(filled, event, recorder, label)
    filled.backupBegin(push_xml(push_disk("vda", tiny_disk / "full")), None)
    job, target = recorder.wait(2)
    assert isinstance(job[2], dict)
    assert job[2]["success"] == 0
    assert target[-1] == FAILED


def test_one_full_disk_takes_the_other_image_along(
    filled: libvirt.virDomain, tiny_disk: Path, short_dir: Path
) -> None:
    both = push_disk("vda", tiny_disk / "a") + push_disk("vdb", short_dir / "b")
    filled.backupBegin(push_xml(both), None)
    assert ended(filled)["type"] == libvirt.VIR_DOMAIN_JOB_FAILED
    assert not (tiny_disk / "a").exists()
    assert not (short_dir / "b").exists()


def test_reused_files_are_never_removed(filled: libvirt.virDomain, tiny_disk: Path) -> None:
    target = tiny_disk / "mine"
    with target.open("wb") as sparse:
        sparse.truncate(1 << 30)
    filled.backupBegin(push_xml(push_disk("vda", target, "raw")), None, REUSE)
    assert ended(filled)["type"] == libvirt.VIR_DOMAIN_JOB_FAILED
    assert target.exists()


@pytest.mark.only("memory")
def test_an_aborted_push(filled: libvirt.virDomain, short_dir: Path) -> None:
    hold_push(filled)
    filled.backupBegin(push_xml(push_disk("vda", short_dir / "full")), None)
    filled.abortJob()
    stats = ended(filled)
    assert stats["type"] == libvirt.VIR_DOMAIN_JOB_CANCELLED
    assert stats["success"] == 0
    assert not (short_dir / "full").exists()


@pytest.mark.only("memory")
def test_destroying_the_machine_removes_the_image(
    filled: libvirt.virDomain, short_dir: Path
) -> None:
    hold_push(filled)
    filled.backupBegin(push_xml(push_disk("vda", short_dir / "full")), None)
    filled.destroy()
    assert filled.jobStats(COMPLETED)["type"] == libvirt.VIR_DOMAIN_JOB_CANCELLED
    wait_until(lambda: not (short_dir / "full").exists(), "the image is removed")


@pytest.mark.parametrize("name", ["exists", "nowhere/image"])
def test_a_refused_begin_leaves_checkpoints_alone(
    filled: libvirt.virDomain, short_dir: Path, name: str
) -> None:
    (short_dir / "exists").touch()
    disks = push_disk("vdb", short_dir / "good") + push_disk("vda", short_dir / name)
    checkpoint = checkpoint_xml("c1", disks="<disk name='vda'/><disk name='vdb'/>")
    assert error_code(lambda: filled.backupBegin(push_xml(disks), checkpoint)) in (8, 38)
    assert filled.listAllCheckpoints() == []
    assert not (short_dir / "good").exists()
