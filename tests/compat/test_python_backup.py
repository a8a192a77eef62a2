"""Backups through libvirt-python: begin, description, job figures, abort, clean-up, checkpoints."""

import xml.etree.ElementTree as ET
from pathlib import Path

import libvirt
import pytest
from binding import error_code, guest, wait_until
from documents import (
    checkpoint_xml,
    pull_xml,
    push_disk,
    push_xml,
    scratch_disk,
    unix_server,
)
from tools import dirty_ranges, nbd_read, unix_uri

DRIVERS = ("memory", "qemu")

COMPLETED = libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED
KEEP = libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED
PRESERVE = 2
"""VIR_DOMAIN_BACKUP_BEGIN_PRESERVE_SHUTDOWN_DOMAIN: libvirt 11.10, newer than many a binding."""
VDA = "<disk name='vda'/>"


def begin_pull(
    machine: libvirt.virDomain,
    folder: Path,
    incremental: str = "",
    checkpoint: str | None = None,
) -> Path:
    """Start a pull backup of vda; the path of its NBD socket."""
    nbd = folder / "nbd"
    machine.backupBegin(pull_xml(unix_server(nbd), folder, incremental=incremental), checkpoint)
    return nbd


def idle(machine: libvirt.virDomain) -> bool:
    return bool(machine.jobStats()["type"] == libvirt.VIR_DOMAIN_JOB_NONE)


def end_pull(machine: libvirt.virDomain) -> None:
    machine.abortJob()
    wait_until(lambda: idle(machine), "the backup ends")


def described_disks(machine: libvirt.virDomain) -> dict[str, dict[str, str]]:
    document = ET.fromstring(machine.backupGetXMLDesc())
    return {disk.attrib["name"]: disk.attrib for disk in document.iterfind("disks/disk")}


def test_a_running_pull(machine: libvirt.virDomain, short_dir: Path) -> None:
    begin_pull(machine, short_dir)
    stats = machine.jobStats()
    assert stats["type"] == libvirt.VIR_DOMAIN_JOB_UNBOUNDED
    assert stats["operation"] == libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP
    assert stats["disk_temp_total"] == 1 << 30
    assert machine.jobInfo()[0] == libvirt.VIR_DOMAIN_JOB_UNBOUNDED
    assert machine.blockJobInfo("vda")["type"] == libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP
    assert machine.blockJobInfo("vdb") == {}


def test_an_idle_domain_has_no_job(machine: libvirt.virDomain) -> None:
    assert machine.jobStats() == {"type": libvirt.VIR_DOMAIN_JOB_NONE}
    assert machine.jobInfo() == [0] * 12


def test_scratch_use_grows_with_guest_writes(machine: libvirt.virDomain, short_dir: Path) -> None:
    guest(machine, "vda", "write -P 1 0 1M")
    begin_pull(machine, short_dir)
    before = machine.jobStats().get("disk_temp_used", 0)
    guest(machine, "vda", "write -P 2 0 512k")
    assert machine.jobStats()["disk_temp_used"] >= before + (512 << 10)


def test_abort_is_the_normal_end(machine: libvirt.virDomain, short_dir: Path) -> None:
    nbd = begin_pull(machine, short_dir)
    assert (short_dir / "scratch-vda").exists()
    end_pull(machine)
    assert not (short_dir / "scratch-vda").exists()
    assert not nbd.exists()
    assert error_code(machine.backupGetXMLDesc) == 104


def test_completed_figures_are_given_once(machine: libvirt.virDomain, short_dir: Path) -> None:
    begin_pull(machine, short_dir)
    end_pull(machine)
    kept = machine.jobStats(COMPLETED | KEEP)
    assert kept == machine.jobStats(COMPLETED)
    assert kept["type"] == libvirt.VIR_DOMAIN_JOB_COMPLETED
    assert kept["success"] == 1
    assert kept["errmsg"] == "Operation canceled"
    assert machine.jobStats(COMPLETED) == {"type": libvirt.VIR_DOMAIN_JOB_NONE}


def test_completed_figures_outlive_the_machines_stop(
    machine: libvirt.virDomain, short_dir: Path
) -> None:
    begin_pull(machine, short_dir)
    machine.destroy()
    stats = machine.jobStats(COMPLETED)
    assert stats["type"] == libvirt.VIR_DOMAIN_JOB_CANCELLED
    assert stats["success"] == 0


def test_the_description_carries_effective_modes(
    machine: libvirt.virDomain, short_dir: Path
) -> None:
    machine.checkpointCreateXML(checkpoint_xml("c1", disks=VDA))
    begin_pull(machine, short_dir, "c1")
    vda = described_disks(machine)["vda"]
    assert list(vda) == [
        "name", "backup", "type", "backupmode", "incremental", "exportname", "exportbitmap",
        "index",
    ]  # fmt: skip
    assert (vda["backupmode"], vda["incremental"]) == ("incremental", "c1")
    assert (vda["exportname"], vda["exportbitmap"]) == ("vda", "backup-vda")
    assert described_disks(machine)["vdb"] == {"name": "vdb", "backup": "no"}


def test_a_disk_may_be_full_within_an_incremental_backup(
    machine: libvirt.virDomain, short_dir: Path
) -> None:
    machine.checkpointCreateXML(checkpoint_xml("c1", disks=VDA))
    disks = scratch_disk("vda", short_dir) + scratch_disk("vdb", short_dir, "backupmode='full'")
    server = unix_server(short_dir / "nbd")
    machine.backupBegin(
        f"<domainbackup mode='pull'><incremental>c1</incremental><server {server}/>"
        f"<disks>{disks}</disks></domainbackup>",
        None,
    )
    described = described_disks(machine)
    assert described["vda"]["backupmode"] == "incremental"
    assert described["vdb"]["backupmode"] == "full"
    assert "incremental" not in described["vdb"]


def test_each_disk_may_name_its_own_checkpoint(machine: libvirt.virDomain, short_dir: Path) -> None:
    for name in ("c1", "c2"):
        machine.checkpointCreateXML(checkpoint_xml(name, disks=VDA))
        guest(machine, "vda", "write -P 3 0 64k" if name == "c1" else "write -P 4 1M 64k")
    disk = scratch_disk("vda", short_dir, "incremental='c2'")
    server = unix_server(short_dir / "nbd")
    machine.backupBegin(
        f"<domainbackup mode='pull'><incremental>c1</incremental><server {server}/>"
        f"<disks>{disk}</disks></domainbackup>",
        None,
    )
    assert dirty_ranges(unix_uri(short_dir / "nbd")) == [(1 << 20, 65536)]


def test_backup_and_checkpoint_are_one_step(machine: libvirt.virDomain, short_dir: Path) -> None:
    guest(machine, "vda", "write -P 1 0 64k")
    begin_pull(machine, short_dir, checkpoint=checkpoint_xml("c1", disks=VDA))
    guest(machine, "vda", "write -P 2 1M 64k")
    end_pull(machine)
    nbd = begin_pull(machine, short_dir, "c1")
    assert dirty_ranges(unix_uri(nbd)) == [(1 << 20, 65536)]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("scratch", id="scratch file exists"),
        pytest.param("socket", id="socket folder missing"),
    ],
)
def test_a_failed_begin_leaves_nothing(
    machine: libvirt.virDomain, short_dir: Path, damage: str
) -> None:
    if damage == "scratch":
        (short_dir / "scratch-vda").write_text("in the way")
    nbd = short_dir / ("nowhere/nbd" if damage == "socket" else "nbd")
    xml = pull_xml(unix_server(nbd), short_dir)
    assert error_code(lambda: machine.backupBegin(xml, checkpoint_xml("c1", disks=VDA))) in (1, 8)
    assert machine.listAllCheckpoints() == []
    assert not nbd.exists()
    assert idle(machine)
    assert machine.jobStats(COMPLETED) == {"type": libvirt.VIR_DOMAIN_JOB_NONE}


def test_during_a_backup_checkpoints_come_and_go(
    machine: libvirt.virDomain, short_dir: Path
) -> None:
    begin_pull(machine, short_dir)
    made = machine.checkpointCreateXML(checkpoint_xml("c1", disks=VDA))
    assert "size='0'" in made.getXMLDesc(libvirt.VIR_DOMAIN_CHECKPOINT_XML_SIZE)
    made.delete()
    machine.suspend()
    machine.resume()
    assert not idle(machine)


def test_aborting_one_disk_ends_the_backup(machine: libvirt.virDomain, short_dir: Path) -> None:
    machine.backupBegin(pull_xml(unix_server(short_dir / "nbd"), short_dir, ["vda", "vdb"]), None)
    machine.blockJobAbort("vda")
    wait_until(lambda: idle(machine), "the other disk is cancelled too")


def test_a_failed_push_begin_forgets_its_checkpoint(
    machine: libvirt.virDomain, short_dir: Path
) -> None:
    good = push_disk("vda", short_dir / "good")
    bad = push_disk("vdb", short_dir / "nowhere" / "bad")
    checkpoint = checkpoint_xml("c1", disks=VDA)
    assert error_code(lambda: machine.backupBegin(push_xml(good + bad), checkpoint)) == 38
    assert machine.listAllCheckpoints() == []
    assert not (short_dir / "good").exists()


def test_ten_backups_in_a_row(machine: libvirt.virDomain, short_dir: Path) -> None:
    for _ in range(10):
        begin_pull(machine, short_dir)
        end_pull(machine)
    assert list(short_dir.glob("scratch-*")) == []


def test_a_guest_that_shuts_down_ends_its_backup(
    machine: libvirt.virDomain, short_dir: Path
) -> None:
    begin_pull(machine, short_dir)
    machine.shutdown()
    wait_until(lambda: not machine.isActive(), "the machine stops")
    assert machine.jobStats(COMPLETED)["type"] == libvirt.VIR_DOMAIN_JOB_CANCELLED
    assert not (short_dir / "scratch-vda").exists()


def test_a_preserved_machine_waits_for_its_backup(
    machine: libvirt.virDomain, short_dir: Path
) -> None:
    machine.backupBegin(pull_xml(unix_server(short_dir / "nbd"), short_dir), None, PRESERVE)
    machine.shutdown()
    wait_until(lambda: machine.state()[0] == libvirt.VIR_DOMAIN_PAUSED, "the guest is off")
    assert not idle(machine)
    machine.abortJob()
    wait_until(lambda: not machine.isActive(), "the machine stops after its backup")


def test_a_reboot_does_not_disturb(machine: libvirt.virDomain, short_dir: Path) -> None:
    guest(machine, "vda", "write -P 5 0 64k")
    nbd = begin_pull(machine, short_dir)
    machine.reboot()
    assert not idle(machine)
    assert nbd_read(unix_uri(nbd), 0, 1) == b"\5"


def test_a_machine_undefined_while_its_backup_runs(
    machine: libvirt.virDomain, short_dir: Path
) -> None:
    begin_pull(machine, short_dir)
    machine.undefine()
    assert not idle(machine)
    end_pull(machine)
    assert machine.isPersistent() == 0
