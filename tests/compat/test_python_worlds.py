"""Worlds under stock libvirt-python: snapshots, saving and loading while clients look on."""

import json
from pathlib import Path

import libvirt
import pytest
from binding import Recorder, connected, guest
from daemon_process import Daemon, running_daemon
from documents import checkpoint_xml, domain_xml
from libvirt_qemu import qemuMonitorCommand

LIFECYCLE = libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
LARGE = """\
[[domains]]
name = "vm{n:03}"
count = 60
[[domains.disks]]
target = "vda"
size = "10 GiB"
seed = 1
[[domains.disks]]
target = "vdb"
[[domains.disks]]
target = "vdc"
[[domains.disks]]
target = "vdd"
"""


def control(machine: libvirt.virDomain, command: str, /, **arguments: str) -> dict[str, object]:
    """Give a control command to the monitor of a domain that runs."""
    text = json.dumps({"execute": f"x-virtbackupd-{command}", "arguments": arguments})
    answer = json.loads(qemuMonitorCommand(machine, text, 0))
    assert "return" in answer, answer
    result: dict[str, object] = answer["return"]
    return result


def test_a_client_sees_its_world_go_back(daemon: Daemon, short_dir: Path) -> None:
    with connected(daemon.uri) as connection, connected(daemon.uri) as other:
        machine = connection.lookupByName("test")
        control(machine, "snapshot-take", name="clean")
        machine.checkpointCreateXML(checkpoint_xml("c1"), 0)
        guest(machine, "vda", "write -P 9 0 64k")
        extra = connection.createXML(domain_xml("extra", ""), 0)
        heard = Recorder()
        callback = other.domainEventRegisterAny(None, LIFECYCLE, heard, "life")
        control(machine, "snapshot-restore", name="clean")
        assert heard.wait(1)[0][1:4] == (
            "extra",
            libvirt.VIR_DOMAIN_EVENT_STOPPED,
            libvirt.VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT,
        )
        other.domainEventDeregisterAny(callback)
        assert machine.listAllCheckpoints(0) == []
        assert "Pattern verification failed" in guest(machine, "vda", "read -P 9 0 64k")
        with pytest.raises(libvirt.libvirtError, match="no domain"):
            extra.info()


def test_a_daemon_starts_from_what_another_has_saved(daemon: Daemon, short_dir: Path) -> None:
    saved = short_dir / "saved"
    with connected(daemon.uri) as connection:
        machine = connection.lookupByName("test")
        machine.checkpointCreateXML(checkpoint_xml("c1"), 0)
        guest(machine, "vda", "write -P 9 0 64k")
        control(machine, "world-save", path=str(saved))
    with (
        running_daemon(short_dir / "other", "--world", str(saved)) as other,
        connected(other.uri) as connection,
    ):
        machine = connection.lookupByName("test")
        assert [found.getName() for found in machine.listAllCheckpoints(0)] == ["c1"]
        assert "failed" not in guest(machine, "vda", "read -P 9 0 64k")
        size = machine.checkpointLookupByName("c1").getXMLDesc(
            libvirt.VIR_DOMAIN_CHECKPOINT_XML_SIZE
        )
        assert "size='65536'" in size
        assert str(short_dir / "other") in machine.XMLDesc(0)


def test_a_damaged_state_ends_the_start_with_one_line(short_dir: Path) -> None:
    saved = short_dir / "saved"
    saved.write_bytes(b"vb-world" + bytes(50))
    with pytest.raises(RuntimeError), running_daemon(short_dir / "d", "--world", str(saved)):
        pass
    log = (short_dir / "d" / "daemon.log").read_text()
    assert f"{saved}: this saved world cannot be used: it is of version 0, known" in log
    assert "Traceback" not in log


def test_the_files_of_a_large_world_are_there_when_a_client_knows_where(short_dir: Path) -> None:
    world = short_dir / "world.toml"
    world.write_text(LARGE)
    with (
        running_daemon(short_dir / "d", "--world", str(world)) as daemon,
        connected(daemon.uri) as connection,
    ):
        folder = short_dir / "d" / "state" / "memory" / "images"
        assert len(connection.listAllDomains(0)) == 60
        assert list(folder.iterdir()) == []
        assert "vm007-vdd.qcow2" in connection.lookupByName("vm007").XMLDesc(0)
        assert sorted(path.name for path in folder.iterdir()) == [
            f"vm007-vd{letter}.qcow2" for letter in "abcd"
        ]
