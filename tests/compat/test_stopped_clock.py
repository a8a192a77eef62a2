"""Stock clients on a daemon whose clock stands: what they read of the time, and that it ends."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest
from binding import connected
from daemon_process import Daemon, running_daemon
from documents import checkpoint_xml, push_disk, push_xml
from libvirt_qemu import qemuMonitorCommand
from virsh_guest import run_virsh

NOON = 1_769_860_800
MIB = 1 << 20
WORLD = """
[backup]
rate = "1 MiB"
[[domains]]
name = "slow"
[[domains.disks]]
target = "vda"
size = "64 MiB"
seed = 7
"""


@pytest.fixture
def noon(short_dir: Path) -> Iterator[Daemon]:
    """A daemon at noon for ever, with a domain whose disk is pushed slowly."""
    (short_dir / "world.toml").write_text(WORLD)
    options = ("--world", str(short_dir / "world.toml"), "--clock", "2026-01-31T12:00:00Z")
    with running_daemon(short_dir, *options) as daemon:
        yield daemon


@pytest.fixture
def slow(noon: Daemon) -> Iterator[libvirt.virDomain]:
    with connected(noon.uri) as connection:
        yield connection.lookupByName("slow")


def test_a_checkpoint_is_created_at_that_time(slow: libvirt.virDomain) -> None:
    slow.checkpointCreateXML("<domaincheckpoint/>")
    assert [found.getName() for found in slow.listAllCheckpoints()] == [str(NOON)]


def test_a_checkpoint_of_a_backup_is_created_at_that_time(
    slow: libvirt.virDomain, short_dir: Path
) -> None:
    slow.backupBegin(push_xml(push_disk("vda", short_dir / "full")), checkpoint_xml("c"))
    xml = slow.checkpointLookupByName("c").getXMLDesc()
    assert f"<creationTime>{NOON}</creationTime>" in xml


def test_virsh_shows_the_guest_s_time(noon: Daemon) -> None:
    assert run_virsh(noon.uri, "domtime", "slow").strip() == f"Time: {NOON}"


def test_a_push_stands_and_can_be_aborted(slow: libvirt.virDomain, short_dir: Path) -> None:
    slow.backupBegin(push_xml(push_disk("vda", short_dir / "full")), None)
    figures = slow.jobStats()
    assert (figures["time_elapsed"], figures.get("disk_processed", 0)) == (0, 0)
    assert figures["disk_total"] == 64 * MIB
    slow.abortJob()


def test_the_daemon_stops_though_its_clock_stands(
    noon: Daemon, slow: libvirt.virDomain, short_dir: Path
) -> None:
    slow.backupBegin(push_xml(push_disk("vda", short_dir / "full")), None)
    assert noon.stop() == 0


def test_a_time_that_is_none_stops_the_start(short_dir: Path) -> None:
    with pytest.raises(RuntimeError), running_daemon(short_dir, "--clock", "noon"):
        raise AssertionError("it started")
    assert "'noon' is no time" in (short_dir / "daemon.log").read_text()


def test_the_configuration_file_sets_clock_and_profile(short_dir: Path) -> None:
    file = short_dir / "virtbackupd.conf"
    file.write_text(f'clock = "{NOON}"\nprofile = "7.6"\n')
    with (
        running_daemon(short_dir, "--config", str(file)) as daemon,
        connected(daemon.uri) as connection,
    ):
        assert connection.getLibVersion() == 7_006_000
        assert connection.lookupByName("test").getTime()["seconds"] == NOON


def control(domain: libvirt.virDomain, name: str, **arguments: object) -> dict[str, Any]:
    """A control command, sent as any client can."""
    command = {"execute": f"x-virtbackupd-{name}", "arguments": arguments}
    answer: dict[str, Any] = json.loads(qemuMonitorCommand(domain, json.dumps(command), 0))
    found: dict[str, Any] = answer["return"]
    return found


def test_a_push_follows_the_steps(slow: libvirt.virDomain, short_dir: Path) -> None:
    slow.backupBegin(push_xml(push_disk("vda", short_dir / "full")), None)
    control(slow, "clock-step", seconds=3)
    figures = slow.jobStats()
    assert (figures["time_elapsed"], figures["disk_processed"]) == (3000, 3 * MIB)
    slow.blockJobSetSpeed("vda", 10)
    control(slow, "clock-step", seconds=6)
    assert slow.jobStats()["disk_processed"] == 63 * MIB
    answer = control(slow, "clock-step", seconds=0.1)
    assert answer["time"] == NOON + 9.1
    assert slow.jobStats()["type"] == libvirt.VIR_DOMAIN_JOB_NONE
    done = slow.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
    assert (done["success"], done["time_elapsed"]) == (True, 9100)


def test_a_client_outlives_a_step_of_an_hour(slow: libvirt.virDomain) -> None:
    control(slow, "clock-step", seconds=3600)
    assert slow.getTime()["seconds"] == NOON + 3600


def test_a_push_goes_as_far_as_it_is_told(slow: libvirt.virDomain, short_dir: Path) -> None:
    slow.backupBegin(push_xml(push_disk("vda", short_dir / "full")), None)
    control(slow, "job-progress", percent=40)
    assert slow.blockJobInfo("vda")["cur"] == 64 * MIB * 2 // 5
    control(slow, "job-complete")
    assert slow.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)["success"]


def test_a_push_fails_as_it_is_told(slow: libvirt.virDomain, short_dir: Path) -> None:
    slow.backupBegin(push_xml(push_disk("vda", short_dir / "full")), None)
    control(slow, "job-fail", disk="vda", error="No space left on device")
    record = slow.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
    assert (record["success"], record["errmsg"]) == (False, "No space left on device")


def test_the_profile_is_told(slow: libvirt.virDomain) -> None:
    assert control(slow, "profile")["name"] == "newest"
