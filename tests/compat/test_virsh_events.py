"""virsh event: every way to listen, and the order of events that domains and backups cause."""

import re
import subprocess

import pytest
from virsh_guest import Guest, run_virsh, until, watching

DRIVERS = ("memory", "qemu")


def test_event_names_are_virshs_own(spare: Guest) -> None:
    names = run_virsh(spare.uri, "event", "--list").split()
    assert {"lifecycle", "block-job", "block-job-2", "job-completed"} <= set(names)


def test_event_times_out_without_any(spare: Guest) -> None:
    words = ["event", "--domain", spare.name, "--all", "--timeout", "1"]
    assert "events received: 0" in run_virsh(spare.uri, *words, status=1)


def test_life_cycle_in_order(spare: Guest) -> None:
    with watching(spare) as watch:
        for command in ("start", "suspend", "resume", "destroy"):
            spare.virsh(command)
        found = [line for line in watch.events() if line.startswith("lifecycle")]
    assert found == [
        "lifecycle: Resumed Unpaused",
        "lifecycle: Started Booted",
        "lifecycle: Suspended Paused",
        "lifecycle: Resumed Unpaused",
        "lifecycle: Shutdown Finished after host request",
        "lifecycle: Stopped Destroyed",
    ]


def test_paused_start(spare: Guest) -> None:
    with watching(spare) as watch:
        spare.virsh("start", "--paused")
        found = [line for line in watch.events() if line.startswith("lifecycle")]
    assert found == ["lifecycle: Started Booted", "lifecycle: Suspended Paused"]


def test_guest_shutdown(guest: Guest) -> None:
    with watching(guest) as watch:
        guest.virsh("shutdown")
        until(lambda: guest.virsh("domstate") == "shut off", "shutdown")
        found = [line for line in watch.events() if line.startswith("lifecycle")]
    assert found[0].startswith("lifecycle: Shutdown Finished")
    assert found[-1] == "lifecycle: Stopped Shutdown"


@pytest.mark.only("memory")
def test_reboot(guest: Guest) -> None:
    with watching(guest) as watch:
        guest.virsh("reboot")
        assert any(line.startswith("reboot") for line in watch.events())


def test_managed_save_and_restore(guest: Guest) -> None:
    with watching(guest) as watch:
        guest.virsh("managedsave")
        guest.virsh("start")
        found = [line for line in watch.events() if line.startswith("lifecycle")]
    assert found == [
        "lifecycle: Suspended Paused",
        "lifecycle: Stopped Saved",
        "lifecycle: Started Restored",
        "lifecycle: Resumed Snapshot",
    ]


@pytest.mark.parametrize(
    ("save", "start", "last"),
    [("--paused", [], "Suspended Restored"), ("--running", ["--paused"], "Suspended Paused")],
)
def test_restored_paused(guest: Guest, save: str, start: list[str], last: str) -> None:
    guest.virsh("managedsave", save)
    with watching(guest) as watch:
        guest.virsh("start", *start)
        found = [line for line in watch.events() if line.startswith("lifecycle")]
    assert found == ["lifecycle: Started Restored", f"lifecycle: {last}"]


def test_definition_updated(guest: Guest) -> None:
    with watching(guest) as watch:
        guest.define(guest.virsh("dumpxml", "--inactive"))
        assert watch.events() == ["lifecycle: Defined Updated"]


def test_undefined(guest: Guest) -> None:
    with watching(guest) as watch:
        guest.virsh("undefine")
        assert watch.events() == ["lifecycle: Undefined Removed"]


def test_defined_and_renamed_are_told_with_both_names(spare: Guest) -> None:
    new = Guest(spare.uri, f"{spare.name}-new", spare.folder)
    with watching(spare) as watch:
        spare.virsh("domrename", new.name)
        new.virsh("domrename", spare.name)
        assert watch.events() == [
            "lifecycle: Undefined Renamed",
            f"lifecycle' for domain '{new.name}': Defined Renamed",
            f"lifecycle' for domain '{new.name}': Undefined Renamed",
            "lifecycle: Defined Renamed",
        ]


def test_metadata_change(spare: Guest) -> None:
    with watching(spare) as watch:
        spare.virsh("desc", "--config", "text")
        assert watch.events() == ["metadata-change: type description, uri <null>"]


def test_checkpoints_cause_no_event(guest: Guest) -> None:
    with watching(guest) as watch:
        guest.checkpoint("c1")
        guest.virsh("checkpoint-delete", "c1")
        assert watch.events() == []


def test_beginning_a_backup_causes_no_event(guest: Guest) -> None:
    with watching(guest) as watch:
        guest.begin_pull()
        assert watch.events() == []


def _job_events(status: str, folder: str) -> list[str]:
    """What two disks' jobs tell: the last one's after the end of the whole job."""
    first, last = "vda", "vdb"
    return [
        f"block-job: Backup for {folder}/{first}.qcow2 {status}",
        f"block-job-2: Backup for {first} {status}",
        "job-completed:",
        f"block-job: Backup for {folder}/{last}.qcow2 {status}",
        f"block-job-2: Backup for {last} {status}",
    ]


def test_end_of_a_pull_in_order(guest: Guest) -> None:
    with watching(guest) as watch:
        guest.begin_pull()
        guest.virsh("domjobabort")
        guest.wait_for_job_end()
        assert watch.events() == _job_events("canceled", str(guest.folder))


def test_end_of_a_push_in_order(guest: Guest) -> None:
    with watching(guest) as watch:
        guest.virsh("backup-begin")
        guest.wait_for_job_end()
        found = watch.events()
    expected = _job_events("completed", str(guest.folder))
    assert sorted(found) == sorted(expected)
    assert found.index("job-completed:") == 2


def test_job_completed_has_the_figures_of_a_pull(guest: Guest) -> None:
    with watching(guest) as watch:
        guest.begin_pull()
        guest.virsh("domjobabort")
        guest.wait_for_job_end()
        lines = [line.strip() for line in watch.read_to("end") if line.startswith("\t")]
    assert [line.split(":")[0] for line in lines] == [
        "operation",
        "time_elapsed",
        "disk_temp_used",
        "disk_temp_total",
        "success",
        "errmsg",
    ]
    assert lines[-2:] == ["success: 1", "errmsg: Operation canceled"]


def test_job_completed_has_the_figures_of_a_push(guest: Guest) -> None:
    guest.monitor('qemu-io vda "write -P 0xab 0 1M"')
    with watching(guest) as watch:
        guest.virsh("backup-begin")
        guest.wait_for_job_end()
        lines = [line.strip() for line in watch.read_to("end") if line.startswith("\t")]
    assert [line.split(":")[0] for line in lines] == [
        "operation",
        "time_elapsed",
        "disk_total",
        "disk_processed",
        "disk_remaining",
        "success",
    ]


def test_destroy_during_a_backup(guest: Guest) -> None:
    with watching(guest) as watch:
        guest.begin_pull()
        guest.virsh("destroy")
        found = watch.events()
    assert found == [
        "lifecycle: Shutdown Finished after host request",
        "job-completed:",
        "lifecycle: Stopped Destroyed",
    ]


def test_refused_backup_causes_no_event(guest: Guest) -> None:
    with watching(guest) as watch:
        guest.virsh("backup-begin", guest.file("<domainbackup mode='pull'/>"), status=1)
        assert watch.events() == []


def test_events_of_one_domain_only(guest: Guest) -> None:
    with watching(guest) as watch:
        run_virsh(guest.uri, "suspend test; resume test")
        guest.virsh("suspend")
        assert watch.events() == ["lifecycle: Suspended Paused"]


def test_events_of_every_domain(guest: Guest) -> None:
    with watching(guest, "--all") as watch:
        run_virsh(guest.uri, "suspend test; resume test")
        guest.virsh("suspend")
        assert watch.events() == [
            "lifecycle' for domain 'test': Suspended Paused",
            "lifecycle' for domain 'test': Resumed Unpaused",
            "lifecycle: Suspended Paused",
        ]


def test_timestamps(guest: Guest) -> None:
    with watching(guest, "--all", "--domain", guest.name, "--timestamp") as watch:
        guest.virsh("suspend")
        lines = watch.read_to("end")
    assert lines[0].endswith(f": event 'lifecycle' for domain '{guest.name}': Suspended Paused")
    assert lines[0][:4].isdigit()


@pytest.mark.only("memory")
def test_block_threshold(guest: Guest) -> None:
    guest.virsh("domblkthreshold", "vda", "1048576")
    with watching(guest) as watch:
        guest.monitor('qemu-io vda "write -P 0xab 1M 64k"')
        found = watch.events()
    assert found == [f"block-threshold: dev: vda({guest.folder}/vda.qcow2) 1048576 65536"]


def test_block_threshold_of_a_scratch_file(guest: Guest) -> None:
    guest.monitor('qemu-io vda "write -P 0xab 0 1M"')
    guest.begin_pull()
    found = re.search(r"index='(\d+)'", guest.virsh("backup-dumpxml"))
    assert found
    name = f"vda[{found[1]}]"
    guest.virsh("domblkthreshold", name, "65536")
    with watching(guest) as watch:
        guest.monitor('qemu-io vda "write -P 0xcd 0 128k"')
        assert watch.gather(1)[0].startswith(f"block-threshold: dev: {name}(")


def test_two_listeners_see_the_same(guest: Guest) -> None:
    with watching(guest) as first, watching(guest) as second:
        guest.virsh("suspend")
        wanted = "lifecycle: Suspended Paused"
        assert wanted in first.events()
        assert wanted in second.events()


def test_disappeared_listener_disturbs_nobody(guest: Guest) -> None:
    with watching(guest):
        pass
    guest.virsh("suspend")
    assert guest.virsh("domstate") == "paused"


ONE_SHOT = [
    ("block-job", "event 'block-job' for domain "),
    ("block-job-2", "event 'block-job-2' for domain "),
    ("job-completed", "event 'job-completed' for domain "),
]


def _one_pull(guest: Guest) -> None:
    guest.begin_pull()
    guest.virsh("domjobabort")
    guest.wait_for_job_end()


@pytest.mark.parametrize(("name", "text"), ONE_SHOT)
def test_waiting_for_one_event(guest: Guest, name: str, text: str) -> None:
    words = ["event", "--domain", guest.name, "--event", name, "--timeout", "120"]
    command = ["virsh", "-c", guest.uri, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listener:

        def ended() -> bool:
            _one_pull(guest)
            return listener.poll() is not None

        until(ended, f"end of virsh event --event {name}")
        output = listener.communicate()[0]
    assert text in output
    assert "events received: 1" in output
