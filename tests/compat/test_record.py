"""`virtbackupd record`: what one server shows, another shows from the recorded world."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
from binding import connected, guest
from daemon_process import Daemon, running_daemon
from documents import EMPTY_CDROM, disk_element, domain_xml
from virsh_guest import run_virsh
from watching import refused_tool, tool

WORLD = """\
[[domains]]
name = "web"
autostart = true

[[domains.disks]]
target = "vda"
size = "8 MiB"
written = [{ offset = 0, length = "2 MiB", seed = 1 }]
backing = { size = "8 MiB", seed = 3, backing = { size = "8 MiB" } }

[[domains.disks]]
target = "vdb"
size = "1 MiB"
format = "raw"

[[domains.disks]]
target = "vdc"
size = "1 MiB"
data_store = {}

[[domains.disks]]
target = "sda"
device = "cdrom"

[[domains.checkpoints]]
name = "monday"
description = "it's <first> & \\"best\\""
written = [{ disk = "vda", offset = "1 MiB", length = "1 MiB", byte = 1 }]

[[domains.checkpoints]]
name = "tuesday"
bitmaps = { vdc = "inconsistent" }
written = [{ disk = "vda", offset = "4 MiB", length = "64 KiB", byte = 2 }]

[[domains]]
name = "archive"
state = "shutoff"
[[domains.disks]]
target = "vda"
size = "1 MiB"

[[domains]]
name = "waiting"
state = "paused"
[[domains.disks]]
target = "vda"
size = "1 MiB"
"""
SECRET = "<secret><usage type='volume'><volume>/v</volume></usage></secret>"
SAME = (
    ("list", "--all"),
    ("list", "--all", "--autostart"),
    ("capabilities",),
    ("domcapabilities",),
    ("domcapabilities", "--virttype", "kvm"),
    ("hostname",),
    ("version",),
    ("secret-list",),
    ("dumpxml", "web"),
    ("dumpxml", "web", "--inactive"),
    ("dumpxml", "archive"),
    ("dumpxml", "guest"),
    ("dumpxml", "waiting"),
    ("domblkinfo", "web", "vda"),
    ("domblkinfo", "web", "vdc"),
    ("checkpoint-list", "web", "--tree"),
    ("checkpoint-dumpxml", "web", "monday", "--size"),
    ("checkpoint-dumpxml", "web", "tuesday", "--size"),
)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Daemon]]:
    """A server, and another that starts from what was recorded of it."""
    root = tmp_path_factory.mktemp("r")
    (root / "world.toml").write_text(WORLD)
    with running_daemon(root / "a", "--world", str(root / "world.toml")) as first:
        with connected(first.uri) as connection:
            connection.secretDefineXML(SECRET).setValue(b"do not tell")
            disks = disk_element("vda", root / "own.qcow2") + EMPTY_CDROM
            connection.createXML(domain_xml("guest", disks))
            plug(connection.lookupByName("waiting"), root)
        tool("record", "--from", first.uri, "-o", root / "recorded.toml", "--monitor")
        with running_daemon(root / "b", "--world", str(root / "recorded.toml")) as second:
            yield first, second


def plug(machine: libvirt.virDomain, root: Path) -> None:
    """What runs is not what would be started again."""
    machine.attachDevice(disk_element("vdd", root / "more.qcow2"))


@pytest.mark.parametrize("command", SAME, ids=" ".join)
def test_a_recorded_server_shows_the_same(
    shown: tuple[Daemon, Daemon], command: tuple[str, ...]
) -> None:
    first, second = shown
    assert run_virsh(second.uri, *command) == run_virsh(first.uri, *command)


def test_a_disk_that_was_plugged_in_is_no_part_of_the_definition(
    shown: tuple[Daemon, Daemon],
) -> None:
    _, second = shown
    assert "vdd" in run_virsh(second.uri, "dumpxml", "waiting")
    assert "vdd" not in run_virsh(second.uri, "dumpxml", "waiting", "--inactive")


def test_a_transient_domain_is_transient_again(shown: tuple[Daemon, Daemon]) -> None:
    with connected(shown[1].uri) as connection:
        assert not connection.lookupByName("guest").isPersistent()


def test_a_broken_bitmap_is_broken_again(shown: tuple[Daemon, Daemon]) -> None:
    for server in shown:
        assert "vdc inconsistent" in tool("tree", "web", "--monitor", "-c", server.uri)


def test_contents_and_values_are_not_recorded(
    module_daemon: Daemon, tmp_path: Path, driver_name: str
) -> None:
    with connected(module_daemon.uri) as connection:
        guest(connection.lookupByName("test"), "vda", "write -P 0xee 0 64k")
        connection.secretDefineXML(SECRET).setValue(b"do not tell")
    text = tool("record", "--from", module_daemon.uri)
    assert "do not tell" not in text
    assert "ZG8gbm90IHRlbGw" not in text
    entry = tomllib.loads(text)["domains"][0]
    assert entry["disks"][0]["written"][0]["seed"] == 1
    assert "written" not in tool("record", "--contents", "blank", "--from", module_daemon.uri)


def test_named_domains_alone_are_recorded(shown: tuple[Daemon, Daemon], tmp_path: Path) -> None:
    world = tomllib.loads(tool("record", "--from", shown[0].uri, "archive", "web"))
    assert [domain["name"] for domain in world["domains"]] == ["web", "archive"]


def test_a_domain_that_is_not_there_is_named(shown: tuple[Daemon, Daemon]) -> None:
    assert "'nobody'" in refused_tool("record", "--from", shown[0].uri, "nobody")


def test_a_read_only_client_records_what_it_may_see(shown: tuple[Daemon, Daemon]) -> None:
    uri = shown[0].test_uri
    world = tomllib.loads(tool("record", "-r", "--from", uri + "-ro", "web"))
    assert [point["name"] for point in world["domains"][0]["checkpoints"]] == ["monday", "tuesday"]


def test_a_file_that_cannot_be_written_is_named(
    shown: tuple[Daemon, Daemon], tmp_path: Path
) -> None:
    told = refused_tool("record", "--from", shown[0].uri, "-o", tmp_path / "no" / "file")
    assert told.startswith(f"virtbackupd: cannot write {tmp_path}/no/file: ")


def test_the_file_is_for_its_owner_alone(shown: tuple[Daemon, Daemon], tmp_path: Path) -> None:
    tool("record", "--from", shown[0].uri, "-o", tmp_path / "w.toml", "archive")
    assert (tmp_path / "w.toml").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["w.toml"]
