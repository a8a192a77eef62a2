"""Reading a pull backup with nbdinfo, nbdcopy, libnbd and qemu-img, over Unix sockets and TCP."""

import json
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
from binding import guest
from documents import checkpoint_xml, pull_xml, scratch_disk, tcp_server, unix_server
from tools import (
    Range,
    copy_export,
    dirty_ranges,
    free_port,
    images_equal,
    nbd_map,
    nbd_read,
    nbd_script,
    run,
    unix_uri,
)

DRIVERS = ("memory", "qemu")

GIB = 1 << 30
KIB64 = 65536
HOLE = 3
VDA = "<disk name='vda'/>"


@pytest.fixture
def written(machine: libvirt.virDomain) -> libvirt.virDomain:
    """Data, a gap, zeroes and more data; checkpoint `c1` before the last two."""
    guest(machine, "vda", "write -P 0x11 0 128k")
    guest(machine, "vda", "write -P 0x22 1M 64k")
    machine.checkpointCreateXML(checkpoint_xml("c1", disks=VDA))
    guest(machine, "vda", "write -z 64k 64k")
    guest(machine, "vda", "write -P 0x33 512M 192k")
    return machine


@pytest.fixture
def full(written: libvirt.virDomain, short_dir: Path) -> str:
    """The NBD URI of a full pull backup."""
    written.backupBegin(pull_xml(unix_server(short_dir / "nbd"), short_dir), None)
    return unix_uri(short_dir / "nbd")


@pytest.fixture
def incremental(written: libvirt.virDomain, short_dir: Path) -> str:
    """The NBD URI of a pull backup since `c1`."""
    xml = pull_xml(unix_server(short_dir / "nbd"), short_dir, incremental="c1")
    written.backupBegin(xml, None)
    return unix_uri(short_dir / "nbd")


@pytest.fixture
def contents(
    module_connection: libvirt.virConnect, short_dir: Path
) -> Iterator[tuple[str, libvirt.virDomain]]:
    """A full pull backup of both disks of the default world's machine."""
    test = module_connection.lookupByName("test")
    server = unix_server(short_dir / "nbd")
    test.backupBegin(pull_xml(server, short_dir, ["vda", "vdb"]), None)
    yield unix_uri(short_dir / "nbd"), test
    test.abortJob()


def test_a_full_backup_offers_allocation_only(full: str) -> None:
    (export,) = json.loads(run("nbdinfo", "--json", full))["exports"]
    assert export["export-size"] == GIB
    assert export["is_read_only"]
    assert export["can_multi_conn"]
    assert export["contexts"] == ["base:allocation"]


def test_an_incremental_backup_offers_its_bitmap(incremental: str) -> None:
    (export,) = json.loads(run("nbdinfo", "--json", incremental))["exports"]
    assert set(export["contexts"]) == {"base:allocation", "qemu:dirty-bitmap:backup-vda"}


def test_exports_are_listed(contents: tuple[str, libvirt.virDomain], short_dir: Path) -> None:
    listed = json.loads(run("nbdinfo", "--json", "--list", unix_uri(short_dir / "nbd", "")))
    assert {export["export-name"] for export in listed["exports"]} == {"vda", "vdb"}


def test_an_unknown_export_is_refused(full: str, short_dir: Path) -> None:
    run("nbdinfo", unix_uri(short_dir / "nbd", "vdz"), status=1)


def test_allocation_map(full: str) -> None:
    found = nbd_map(full)
    assert [entry for entry in found if entry.type == 0] == [
        Range(0, KIB64, 0),
        Range(1 << 20, KIB64, 0),
        Range(GIB // 2, 3 * KIB64, 0),
    ]
    assert sum(entry.length for entry in found) == GIB


def test_dirty_map(incremental: str) -> None:
    assert dirty_ranges(incremental) == [(KIB64, KIB64), (GIB // 2, 3 * KIB64)]


def test_the_map_covers_the_whole_disk(incremental: str) -> None:
    entries = nbd_map(incremental, "qemu:dirty-bitmap:backup-vda")
    assert entries[0].offset == 0
    assert sum(entry.length for entry in entries) == GIB


def test_contents_by_libnbd(full: str) -> None:
    assert nbd_read(full, 0, KIB64) == b"\x11" * KIB64
    assert nbd_read(full, KIB64 - 2, 4) == b"\x11\x11\0\0"
    assert nbd_read(full, GIB // 2 + KIB64, 3) == b"\x33" * 3
    assert nbd_read(full, GIB - 5, 5) == bytes(5)


def test_nbdcopy_and_qemu_img_agree(
    contents: tuple[str, libvirt.virDomain], short_dir: Path
) -> None:
    uri, _ = contents
    copied = copy_export(uri, short_dir / "copied.raw")
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", uri, short_dir / "converted.qcow2")
    images_equal(copied, short_dir / "converted.qcow2", "raw", "qcow2")
    assert any(copied.read_bytes()[:KIB64])


def test_two_backups_of_an_idle_disk_are_equal(
    contents: tuple[str, libvirt.virDomain], short_dir: Path
) -> None:
    uri, _ = contents
    first = copy_export(uri, short_dir / "first.raw")
    run("qemu-img", "compare", "-s", "-f", "raw", "-F", "raw", first, uri)


@pytest.mark.only("memory")
def test_the_guest_sees_what_the_client_read(
    contents: tuple[str, libvirt.virDomain],
) -> None:
    uri, test = contents
    byte = nbd_read(uri, 0, 1)[0]
    answer = guest(test, "vda", f"read -P {byte} 0 1")
    assert "read 1/1 bytes at offset 0" in answer
    assert "verification failed" not in answer.lower()


def test_every_disk_has_its_own_contents(
    contents: tuple[str, libvirt.virDomain], short_dir: Path
) -> None:
    uri, _ = contents
    assert nbd_read(uri, 0, 4096) != nbd_read(unix_uri(short_dir / "nbd", "vdb"), 0, 4096)


def test_many_connections_at_once(full: str) -> None:
    script = (
        "import nbd, sys\n"
        "handles = [nbd.NBD() for _ in range(32)]\n"
        "for handle in handles: handle.connect_uri(sys.argv[1])\n"
        "found = {bytes(handle.pread(65536, 1048576)) for handle in handles}\n"
        "print(len(found), found.pop()[0])\n"
    )
    assert nbd_script(script, full) == "1 34"


def test_parallel_copy(contents: tuple[str, libvirt.virDomain], short_dir: Path) -> None:
    uri, _ = contents
    single = copy_export(uri, short_dir / "single.raw")
    run("nbdcopy", "--connections=8", "--threads=2", uri, short_dir / "parallel.raw")
    images_equal(single, short_dir / "parallel.raw", "raw", "raw")


@pytest.mark.parametrize(("offset", "length"), [(0, GIB), (KIB64, 512), (GIB - 512, 512), (1, 1)])
def test_block_status_over_any_length(incremental: str, offset: int, length: int) -> None:
    script = (
        "import nbd, sys\n"
        "handle, found = nbd.NBD(), {}\n"
        "for name in ('base:allocation', 'qemu:dirty-bitmap:backup-vda'):\n"
        "    handle.add_meta_context(name)\n"
        "handle.connect_uri(sys.argv[1])\n"
        "def note(context, offset, entries, error): found[context] = sum(entries[0::2])\n"
        "handle.block_status(int(sys.argv[3]), int(sys.argv[2]), note)\n"
        "print(len(found), min(found.values()) > 0)\n"
    )
    assert nbd_script(script, incremental, offset, length) == "2 True"


def test_a_single_extent_on_request(incremental: str) -> None:
    script = (
        "import nbd, sys\n"
        "handle, found = nbd.NBD(), []\n"
        "handle.add_meta_context('qemu:dirty-bitmap:backup-vda')\n"
        "handle.connect_uri(sys.argv[1])\n"
        "def note(context, offset, entries, error): found.extend(entries)\n"
        "handle.block_status(4194304, 0, note, nbd.CMD_FLAG_REQ_ONE)\n"
        "print(found)\n"
    )
    assert nbd_script(script, incremental) == "[65536, 0]"


def test_the_export_cannot_be_written(full: str) -> None:
    script = (
        "import nbd, sys\n"
        "handle = nbd.NBD(); handle.set_strict_mode(0); handle.connect_uri(sys.argv[1])\n"
        "try: handle.pwrite(b'x' * 512, 0)\n"
        "except nbd.Error as error: print(error.errno)\n"
        "print(handle.pread(1, 0)[0])\n"
    )
    assert nbd_script(script, full).split() in (["EPERM", str(0x11)], ["EINVAL", str(0x11)])


def test_reading_past_the_end_is_refused(full: str) -> None:
    script = (
        "import nbd, sys\n"
        "handle = nbd.NBD(); handle.set_strict_mode(0); handle.connect_uri(sys.argv[1])\n"
        "try: handle.pread(1024, handle.get_size() - 512)\n"
        "except nbd.Error as error: print(error.errno)\n"
        "print(handle.pread(1, 0)[0])\n"
    )
    assert nbd_script(script, full).split()[1:] == [str(0x11)]


def test_names_chosen_by_the_client(written: libvirt.virDomain, short_dir: Path) -> None:
    disk = scratch_disk("vda", short_dir, "exportname='my disk' exportbitmap='since'")
    server = unix_server(short_dir / "nbd")
    written.backupBegin(
        f"<domainbackup mode='pull'><incremental>c1</incremental><server {server}/>"
        f"<disks>{disk}</disks></domainbackup>",
        None,
    )
    uri = unix_uri(short_dir / "nbd", "my%20disk")
    assert dirty_ranges(uri, "since") == [(KIB64, KIB64), (GIB // 2, 3 * KIB64)]


def test_over_tcp(written: libvirt.virDomain, short_dir: Path) -> None:
    port = free_port()
    written.backupBegin(pull_xml(tcp_server(port), short_dir, incremental="c1"), None)
    uri = f"nbd://127.0.0.1:{port}/vda"
    assert nbd_read(uri, 1 << 20, 4) == b"\x22" * 4
    assert dirty_ranges(uri) == [(KIB64, KIB64), (GIB // 2, 3 * KIB64)]


def test_the_port_is_free_again_afterwards(written: libvirt.virDomain, short_dir: Path) -> None:
    port = free_port()
    for _ in range(3):
        written.backupBegin(pull_xml(tcp_server(port), short_dir), None)
        assert nbd_read(f"nbd://127.0.0.1:{port}/vda", 0, 1) == b"\x11"
        written.abortJob()
