"""What virsh says to a machine of QEMU's and not to one in memory: its monitor, log and process."""

import json
import os
import signal

from binding import connected
from daemon_process import Daemon
from virsh_guest import Guest, until, watching

DRIVERS = ("qemu",)


def process_of(daemon: Daemon, guest: Guest) -> int:
    """QEMU's process, from the file that QEMU itself has written."""
    (path,) = (daemon.root / "state" / "qemu" / "lib").glob(f"*-{guest.name[:8]}*/qemu.pid")
    return int(path.read_text())


def test_monitor_speaks_json(guest: Guest) -> None:
    answer = json.loads(guest.virsh("qemu-monitor-command", '{"execute":"query-status"}'))
    assert answer["return"]["status"] == "running"


def test_monitor_speaks_to_humans(guest: Guest) -> None:
    assert "VM status: running" in guest.monitor("info status")


def test_monitor_passes_refusals_on(guest: Guest) -> None:
    answer = json.loads(guest.virsh("qemu-monitor-command", '{"execute":"no-such"}'))
    assert answer["error"]["class"] == "CommandNotFound"


def test_log_holds_the_command_line(module_daemon: Daemon, guest: Guest) -> None:
    log = module_daemon.root / "state" / "qemu" / "log" / f"{guest.name}.log"
    assert f"guest={guest.name}" in log.read_text()


def test_killed_machine_has_crashed(module_daemon: Daemon, guest: Guest) -> None:
    with watching(guest) as watch:
        os.kill(process_of(module_daemon, guest), signal.SIGKILL)
        until(lambda: "shut off" in guest.virsh("domstate"), "the end is noticed")
        assert watch.events()[-1] == "lifecycle: Stopped Failed"
    assert "crashed" in guest.virsh("domstate", "--reason")


def test_killed_machine_ends_its_backup(module_daemon: Daemon, guest: Guest) -> None:
    guest.begin_pull()
    os.kill(process_of(module_daemon, guest), signal.SIGKILL)
    until(lambda: "shut off" in guest.virsh("domstate"), "the end is noticed")
    assert guest.virsh("domjobinfo", "--completed", "--rawstats").startswith("Job type: 5")
    assert not list(guest.folder.glob("*.qcow2.*"))


def test_machine_starts_again_after_a_kill(module_daemon: Daemon, guest: Guest) -> None:
    guest.checkpoint("c1")
    os.kill(process_of(module_daemon, guest), signal.SIGKILL)
    until(lambda: "shut off" in guest.virsh("domstate"), "the end is noticed")
    guest.virsh("start")
    assert guest.checkpoints() == ["c1"]


def test_reboot_is_told(guest: Guest) -> None:
    with watching(guest) as watch:
        guest.virsh("reboot")
        until(lambda: any("reboot" in line for line in watch.events()), "the guest starts again")
    assert "running" in guest.virsh("domstate")


def test_threshold_is_told_under_both_names(guest: Guest) -> None:
    guest.virsh("domblkthreshold", "vda", "65536")
    with watching(guest) as watch:
        guest.monitor('qemu-io vda "write -P 1 1M 1M"')
        first, second = watch.gather(2)
    assert first.startswith("block-threshold: dev: vda(")
    assert second.startswith("block-threshold: dev: vda[")


def test_machines_outlive_their_clients(module_daemon: Daemon, guest: Guest) -> None:
    with connected(module_daemon.uri) as connection:
        connection.lookupByName(guest.name).suspend()
    assert guest.virsh("domstate") == "paused"
