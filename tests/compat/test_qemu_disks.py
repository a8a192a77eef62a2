"""virsh on the disks of a running machine of QEMU's: media, size, snapshots and commits.

A checkpoint made before must go on recording through all of it.
"""

from pathlib import Path

import pytest
from tools import image_info, run, unix_uri
from virsh_guest import Guest

DRIVERS = ("qemu",)
KIB64 = 65536


def sources(guest: Guest) -> dict[str, str]:
    """Targets and files that domblklist shows."""
    rows = guest.virsh("domblklist").splitlines()[2:]
    return {row.split()[0]: row.split()[1] for row in rows if row.strip()}


def snapshot(guest: Guest, name: str) -> Path:
    """Put a new image on top of vda."""
    top = guest.folder / f"{name}.qcow2"
    options = ("--disk-only", "--no-metadata", "--diskspec", f"vda,file={top}", "--diskspec")
    guest.virsh("snapshot-create-as", name, *options, "vdb,snapshot=no")
    return top


def checkpoint_size(guest: Guest, name: str) -> int:
    xml = guest.virsh("checkpoint-dumpxml", name, "--size")
    line = next(line for line in xml.splitlines() if "name='vda'" in line)
    return int(line.partition("size='")[2].partition("'")[0])


def write(guest: Guest, where: str, byte: str = "0xab") -> None:
    guest.monitor(f'qemu-io vda "write -P {byte} {where}"')


def test_medium_is_inserted_and_ejected(guest: Guest) -> None:
    image = guest.file("x" * 4096, "cd.iso")
    guest.virsh("change-media", "sda", image, "--insert")
    assert sources(guest)["sda"] == image
    guest.virsh("change-media", "sda", "--eject")
    assert sources(guest)["sda"] == "-"


def test_resize_is_seen_at_once(guest: Guest) -> None:
    guest.virsh("blockresize", "vda", "2G")
    assert image_info(guest.folder / "vda.qcow2")["virtual-size"] == 2 << 30
    assert "2147483648" in guest.virsh("domblkinfo", "vda")


def test_resize_keeps_checkpoints(guest: Guest) -> None:
    guest.checkpoint("c1")
    guest.virsh("blockresize", "vda", "2G")
    write(guest, "1536M 64k")
    assert checkpoint_size(guest, "c1") == KIB64


def test_disk_is_attached(guest: Guest) -> None:
    image = guest.folder / "more.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", image, "16M")
    guest.virsh("attach-disk", str(image), "vdc", "--subdriver", "qcow2", "--live", "--config")
    guest.monitor('qemu-io vdc "write -P 1 0 64k"')
    assert sources(guest)["vdc"] == str(image)
    assert str(image) in guest.virsh("dumpxml", "--inactive")


def test_attached_disk_is_backed_up(guest: Guest) -> None:
    image = guest.folder / "more.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", image, "16M")
    guest.virsh("attach-disk", str(image), "vdc", "--subdriver", "qcow2")
    guest.monitor('qemu-io vdc "write -P 9 0 64k"')
    guest.begin_pull()
    assert (
        run("nbdinfo", "--size", unix_uri(guest.folder / "nbd.sock", "vdc")).strip() == "16777216"
    )


def test_snapshot_goes_on_above(guest: Guest) -> None:
    below = sources(guest)["vda"]
    top = snapshot(guest, "above")
    assert sources(guest)["vda"] == str(top)
    assert image_info(top)["full-backing-filename"] == below


def test_checkpoint_counts_across_a_snapshot(guest: Guest) -> None:
    guest.checkpoint("c1")
    write(guest, "0 64k")
    snapshot(guest, "above")
    write(guest, "1M 64k")
    assert checkpoint_size(guest, "c1") == 2 * KIB64


@pytest.mark.parametrize("writes", ["64k 64k", "32M 128k"])
def test_commit_carries_checkpoints_down(guest: Guest, writes: str) -> None:
    base = sources(guest)["vda"]
    guest.checkpoint("c1")
    snapshot(guest, "above")
    write(guest, writes)
    before = checkpoint_size(guest, "c1")
    guest.virsh("blockcommit", "vda", "--active", "--pivot", "--wait")
    assert sources(guest)["vda"] == base
    assert checkpoint_size(guest, "c1") == before > 0


def test_checkpoint_between_snapshot_and_commit(guest: Guest) -> None:
    guest.checkpoint("c1")
    snapshot(guest, "above")
    guest.checkpoint("c2")
    write(guest, "1M 64k")
    guest.virsh("blockcommit", "vda", "--active", "--pivot", "--wait")
    assert (checkpoint_size(guest, "c1"), checkpoint_size(guest, "c2")) == (KIB64, KIB64)
    guest.virsh("checkpoint-delete", "c1")
    assert guest.checkpoints() == ["c2"]


def test_backup_after_a_commit_is_incremental(guest: Guest) -> None:
    guest.checkpoint("c1")
    snapshot(guest, "above")
    write(guest, "4M 64k", "0x5a")
    guest.virsh("blockcommit", "vda", "--active", "--pivot", "--wait")
    target = guest.folder / "inc.qcow2"
    disk = f"<disk name='vda' type='file'><target file='{target}'/></disk>"
    push = guest.push_xml(f"{disk}<disk name='vdb' backup='no'/>", "<incremental>c1</incremental>")
    guest.virsh("backup-begin", push)
    assert guest.completed_job()["disk_processed"] == str(KIB64)
    read = run("qemu-io", "-r", "-U", "-c", "read -P 0x5a 4M 64k", target)
    assert "verification failed" not in read
