"""A pull backup shows the instant of its begin while the guest goes on writing."""

import subprocess
from pathlib import Path

import libvirt
import pytest
from binding import guest, wait_until
from documents import checkpoint_xml, pull_xml, unix_server
from tools import (
    SYSTEM_PYTHON,
    TOOL_DEADLINE,
    copy_export,
    dirty_ranges,
    images_equal,
    nbd_map,
    nbd_read,
    run,
    unix_uri,
)

DRIVERS = ("memory", "qemu")

KIB64 = 65536
VDA = "<disk name='vda'/>"


@pytest.fixture
def frozen(machine: libvirt.virDomain, short_dir: Path) -> str:
    """A full pull backup begun after one write; the guest may go on."""
    guest(machine, "vda", "write -P 0xaa 0 256k")
    machine.backupBegin(pull_xml(unix_server(short_dir / "nbd"), short_dir), None)
    return unix_uri(short_dir / "nbd")


@pytest.mark.parametrize(
    "command", ["write -P 0xbb 0 64k", "write -z 0 64k", "discard 0 64k", "write -P 0xcc 100 1"]
)
def test_changes_are_not_seen(machine: libvirt.virDomain, frozen: str, command: str) -> None:
    guest(machine, "vda", command)
    assert nbd_read(frozen, 0, KIB64) == b"\xaa" * KIB64


def test_new_data_in_a_hole_is_not_seen(machine: libvirt.virDomain, frozen: str) -> None:
    guest(machine, "vda", "write -P 0xbb 8M 64k")
    assert nbd_read(frozen, 8 << 20, KIB64) == bytes(KIB64)
    assert [(entry.offset, entry.length) for entry in nbd_map(frozen) if entry.type == 0] == [
        (0, 4 * KIB64)
    ]


def test_the_guest_reads_its_own_writes(machine: libvirt.virDomain, frozen: str) -> None:
    guest(machine, "vda", "write -P 0xbb 0 64k")
    assert "verification failed" not in guest(machine, "vda", "read -P 0xbb 0 64k")


def test_the_bitmap_is_frozen_too(machine: libvirt.virDomain, short_dir: Path) -> None:
    machine.checkpointCreateXML(checkpoint_xml("c1", disks=VDA))
    guest(machine, "vda", "write -P 1 0 64k")
    xml = pull_xml(unix_server(short_dir / "nbd"), short_dir, incremental="c1")
    machine.backupBegin(xml, None)
    guest(machine, "vda", "write -P 1 1M 64k")
    assert dirty_ranges(unix_uri(short_dir / "nbd")) == [(0, KIB64)]


def test_deleting_the_checkpoint_does_not_disturb(
    machine: libvirt.virDomain, short_dir: Path
) -> None:
    checkpoint = machine.checkpointCreateXML(checkpoint_xml("c1", disks=VDA))
    guest(machine, "vda", "write -P 1 0 64k")
    xml = pull_xml(unix_server(short_dir / "nbd"), short_dir, incremental="c1")
    machine.backupBegin(xml, None)
    checkpoint.delete()
    assert dirty_ranges(unix_uri(short_dir / "nbd")) == [(0, KIB64)]


def test_an_image_copied_under_writes_is_the_frozen_one(
    module_connection: libvirt.virConnect, short_dir: Path
) -> None:
    test = module_connection.lookupByName("test")
    test.backupBegin(pull_xml(unix_server(short_dir / "nbd"), short_dir), None)
    uri = unix_uri(short_dir / "nbd")
    before = copy_export(uri, short_dir / "before.raw")
    with subprocess.Popen(["nbdcopy", uri, str(short_dir / "during.raw")]) as copier:
        for megabyte in range(32):
            guest(test, "vda", f"write -P {megabyte} {megabyte}M 1M")
        assert copier.wait(TOOL_DEADLINE) == 0
    images_equal(before, short_dir / "during.raw", "raw", "raw")
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", before, uri)
    test.abortJob()


def test_the_export_ends_with_the_machine(machine: libvirt.virDomain, frozen: str) -> None:
    assert nbd_read(frozen, 0, 1) == b"\xaa"
    machine.destroy()
    run("nbdinfo", frozen, status=1)


def test_a_connected_reader_notices_the_end(machine: libvirt.virDomain, frozen: str) -> None:
    script = (
        "import nbd, sys\n"
        "handle = nbd.NBD(); handle.connect_uri(sys.argv[1]); print('on', flush=True)\n"
        "sys.stdin.readline()\n"
        "try: handle.pread(1, 0); print('still there')\n"
        "except nbd.Error: print('gone')\n"
    )
    with subprocess.Popen(
        [SYSTEM_PYTHON, "-c", script, frozen],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "on\n"
        machine.abortJob()
        wait_until(lambda: machine.jobStats()["type"] == 0, "the backup ends")
        assert reader.communicate("go\n", TOOL_DEADLINE)[0] == "gone\n"


def test_readers_come_and_go_without_ending_the_backup(
    machine: libvirt.virDomain, frozen: str
) -> None:
    for _ in range(20):
        assert nbd_read(frozen, 0, 1) == b"\xaa"
    assert machine.jobStats()["type"] == libvirt.VIR_DOMAIN_JOB_UNBOUNDED
