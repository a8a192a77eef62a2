"""Push backups: what the written images hold, chains, reuse of files, progress."""

from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
from binding import connected, guest, hold_push, release_push, wait_until
from daemon_process import running_daemon
from documents import checkpoint_xml, pull_xml, push_disk, push_xml, unix_server
from tools import copy_export, image_info, images_equal, run, unix_uri

DRIVERS = ("memory", "qemu")

COMPLETED = libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED
KEEP = libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED
REUSE = libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL
KIB64 = 65536


def idle(machine: libvirt.virDomain) -> bool:
    return bool(machine.jobStats()["type"] == libvirt.VIR_DOMAIN_JOB_NONE)


def push(
    machine: libvirt.virDomain, disks: str, since: str = "", new: str = "", flags: int = 0
) -> None:
    """A whole push backup, since one checkpoint and with a new one where they are named."""
    checkpoint = checkpoint_xml(new, disks="<disk name='vda'/>") if new else None
    machine.backupBegin(push_xml(disks, since), checkpoint, flags)
    wait_until(lambda: idle(machine), "the push ends")
    stats = machine.jobStats(COMPLETED | KEEP)
    assert (stats["type"], stats["success"]) == (libvirt.VIR_DOMAIN_JOB_COMPLETED, 1), stats


def disk_now(machine: libvirt.virDomain, folder: Path) -> Path:
    """The disk's present contents, read back through a pull backup."""
    machine.backupBegin(pull_xml(unix_server(folder / "nbd"), folder), None)
    image = copy_export(unix_uri(folder / "nbd"), folder / "now.raw")
    machine.abortJob()
    wait_until(lambda: idle(machine), "the pull ends")
    return image


@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
def test_a_full_image(domain: libvirt.virDomain, short_dir: Path, image_format: str) -> None:
    target = short_dir / "full"
    push(domain, push_disk("vda", target, image_format))
    images_equal(target, disk_now(domain, short_dir), image_format, "raw")
    assert image_info(target)["format"] == image_format
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_full_qcow2_is_sound(domain: libvirt.virDomain, short_dir: Path) -> None:
    push(domain, push_disk("vda", short_dir / "full"))
    run("qemu-img", "check", "-U", "-f", "qcow2", short_dir / "full")
    assert "backing-filename" not in image_info(short_dir / "full")


def test_every_disk_of_a_default_backup(domain: libvirt.virDomain) -> None:
    domain.backupBegin("<domainbackup/>", checkpoint_xml("c1"))
    wait_until(lambda: idle(domain), "the push ends")
    assert domain.jobStats(COMPLETED)["success"] == 1


def test_a_chain_is_bit_for_bit_the_disk(domain: libvirt.virDomain, short_dir: Path) -> None:
    images = [short_dir / name for name in ("full", "inc1", "inc2")]
    push(domain, push_disk("vda", images[0]), new="c1")
    guest(domain, "vda", "write -P 0x51 1M 300k")
    push(domain, push_disk("vda", images[1]), since="c1", new="c2")
    guest(domain, "vda", "write -z 1M 64k")
    guest(domain, "vda", "write -P 0x52 5M 64k")
    push(domain, push_disk("vda", images[2]), since="c2", new="c3")
    for image, backing in ((images[1], images[0]), (images[2], images[1])):
        run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", backing, image)
        run("qemu-img", "check", "-U", "-f", "qcow2", image)
    images_equal(images[2], disk_now(domain, short_dir), "qcow2", "raw")


def test_an_incremental_holds_exactly_the_dirty_clusters(
    machine: libvirt.virDomain, short_dir: Path
) -> None:
    guest(machine, "vda", "write -P 1 0 1M")
    machine.checkpointCreateXML(checkpoint_xml("c1", disks="<disk name='vda'/>"))
    guest(machine, "vda", "write -P 2 128k 4k")
    guest(machine, "vda", "write -P 3 4M 128k")
    push(machine, push_disk("vda", short_dir / "inc"), since="c1")
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "", short_dir / "inc")
    listed = run("qemu-img", "map", "--output=json", "-f", "qcow2", short_dir / "inc")
    assert listed.count('"data": true') == 2
    assert image_info(short_dir / "inc")["virtual-size"] == 1 << 30


def test_an_incremental_names_its_source_as_backing(
    machine: libvirt.virDomain, short_dir: Path
) -> None:
    machine.checkpointCreateXML(checkpoint_xml("c1", disks="<disk name='vda'/>"))
    push(machine, push_disk("vda", short_dir / "inc"), since="c1")
    assert image_info(short_dir / "inc")["backing-filename"] == str(short_dir / "a.qcow2")


def test_an_incremental_is_sound_as_it_is_written(
    domain: libvirt.virDomain, short_dir: Path
) -> None:
    push(domain, push_disk("vda", short_dir / "full"), new="c1")
    guest(domain, "vda", "write -P 2 128k 4k")
    push(domain, push_disk("vda", short_dir / "inc"), since="c1")
    run("qemu-img", "check", "-U", "-f", "qcow2", short_dir / "inc")


def test_an_incremental_raw_holds_dirty_clusters_alone(
    machine: libvirt.virDomain, short_dir: Path
) -> None:
    guest(machine, "vda", "write -P 1 0 128k")
    machine.checkpointCreateXML(checkpoint_xml("c1", disks="<disk name='vda'/>"))
    guest(machine, "vda", "write -P 2 64k 64k")
    push(machine, push_disk("vda", short_dir / "inc", "raw"), since="c1")
    with (short_dir / "inc").open("rb") as image:
        assert image.read(2 * KIB64) == bytes(KIB64) + b"\2" * KIB64


def test_nothing_dirty_gives_a_valid_image_and_no_figures(
    machine: libvirt.virDomain, short_dir: Path
) -> None:
    machine.checkpointCreateXML(checkpoint_xml("c1", disks="<disk name='vda'/>"))
    push(machine, push_disk("vda", short_dir / "inc"), since="c1")
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "", short_dir / "inc")
    run("qemu-img", "check", "-U", "-f", "qcow2", short_dir / "inc")
    assert "disk_total" not in machine.jobStats(COMPLETED)


def test_a_raw_disk_is_pushed_in_full(machine: libvirt.virDomain, short_dir: Path) -> None:
    guest(machine, "vdc", "write -P 9 0 64k")
    push(machine, push_disk("vdc", short_dir / "full", "raw"))
    with (short_dir / "full").open("rb") as image:
        assert image.read(KIB64) == b"\x09" * KIB64


def test_reuse_of_prepared_qcow2(domain: libvirt.virDomain, short_dir: Path) -> None:
    base, overlay = short_dir / "base", short_dir / "overlay"
    push(domain, push_disk("vda", base), new="c1")
    guest(domain, "vda", "write -P 0x61 2M 64k")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", overlay)
    push(domain, push_disk("vda", overlay), since="c1", flags=REUSE)
    assert image_info(overlay)["backing-filename"] == str(base)
    images_equal(overlay, disk_now(domain, short_dir), "qcow2", "raw")


def reuse_raw_target(domain: libvirt.virDomain, folder: Path, kind: str) -> None:
    target = folder / "device"
    size = domain.blockInfo("vda")[0]
    target.write_bytes(b"\xee" * size)
    push(domain, push_disk("vda", target, "raw", kind), flags=REUSE)
    images_equal(target, disk_now(domain, folder), "raw", "raw")


def test_reuse_of_a_raw_file(domain: libvirt.virDomain, short_dir: Path) -> None:
    reuse_raw_target(domain, short_dir, "file")


@pytest.mark.only("memory")
def test_reuse_of_a_device(domain: libvirt.virDomain, short_dir: Path) -> None:
    """The memory driver takes a file for a device, QEMU does not."""
    reuse_raw_target(domain, short_dir, "block")


@pytest.mark.only("memory")
def test_the_image_is_frozen_at_begin(machine: libvirt.virDomain, short_dir: Path) -> None:
    guest(machine, "vda", "write -P 1 0 4M")
    hold_push(machine)
    machine.backupBegin(push_xml(push_disk("vda", short_dir / "full", "raw")), None)
    guest(machine, "vda", "write -P 2 0 4M")
    release_push(machine)
    wait_until(lambda: idle(machine), "the push ends")
    with (short_dir / "full").open("rb") as image:
        assert image.read(4 << 20) == b"\1" * (4 << 20)


SLOW_WORLD = """
[backup]
rate = "64 KiB"
[[domains]]
name = "slow"
[[domains.disks]]
target = "vda"
size = "64 MiB"
seed = 1
"""


@pytest.fixture
def slow(short_dir: Path) -> Iterator[libvirt.virDomain]:
    """A domain whose pushes take a quarter of an hour unless somebody changes that."""
    world = short_dir / "slow.toml"
    world.write_text(SLOW_WORLD)
    with (
        running_daemon(short_dir, "--world", str(world)) as daemon,
        connected(daemon.uri) as connection,
    ):
        yield connection.lookupByName("slow")


def test_progress_can_be_watched(slow: libvirt.virDomain, short_dir: Path) -> None:
    slow.backupBegin(push_xml(push_disk("vda", short_dir / "full")), None)
    slow.blockJobSetSpeed("vda", 1)
    seen: set[int] = set()

    def two_steps() -> bool:
        stats = slow.jobStats()
        assert stats["disk_processed"] + stats["disk_remaining"] == stats["disk_total"]
        seen.add(stats["disk_processed"])
        return len(seen) > 1

    wait_until(two_steps, "figures advance")
    slow.blockJobSetSpeed("vda", 0)
    wait_until(lambda: idle(slow), "the push ends")


def test_backup_and_checkpoint_of_one_instant(machine: libvirt.virDomain, short_dir: Path) -> None:
    push(machine, push_disk("vda", short_dir / "full"), new="c1")
    guest(machine, "vda", "write -P 5 3M 64k")
    push(machine, push_disk("vda", short_dir / "inc"), since="c1", new="c2")
    assert machine.jobStats(COMPLETED)["disk_total"] == KIB64
