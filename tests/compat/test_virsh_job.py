"""virsh domjobinfo, domjobabort and blockjob: figures while a backup runs and after its end."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import slow_pushes
from daemon_process import Daemon, running_daemon, running_qemu_daemon
from virsh_guest import Guest, until

DRIVERS = ("memory", "qemu")
SPEED = 4 << 20
"""Bytes per second of a slow push: the half gigabyte of `pushing` takes two minutes."""
SWITCH = "slow"
"""A file of the daemon's: QEMU's pushes that begin while it is there are slow."""


@pytest.fixture(scope="module")
def module_daemon(driver_name: str) -> Iterator[Daemon]:
    """In place of the usual one: however fast the host is, `pushing` is seen to run."""
    root = Path(tempfile.mkdtemp(prefix="vb-"))
    try:
        with SLOW[driver_name](root) as running:
            yield running
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _slow_memory(root: Path) -> AbstractContextManager[Daemon]:
    world = root / "world.toml"
    world.write_text(f"[backup]\nrate = {SPEED}\n")
    return running_daemon(root, "--world", str(world))


def _slow_qemu(root: Path) -> AbstractContextManager[Daemon]:
    program = (sys.executable, slow_pushes.__file__, str(SPEED), str(root / SWITCH))
    return running_qemu_daemon(root, program=program)


SLOW = {"memory": _slow_memory, "qemu": _slow_qemu}


@pytest.fixture
def pulling(guest: Guest) -> Guest:
    """A running domain with a pull backup of both disks."""
    guest.begin_pull()
    return guest


def _fields(text: str) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {key: " ".join(value.split()) for key, value in pairs}


def _info(guest: Guest, *options: str) -> dict[str, str]:
    return _fields(guest.virsh("domjobinfo", *options))


def _end(guest: Guest) -> None:
    guest.virsh("domjobabort")
    guest.wait_for_job_end()


NO_JOB = [[], ["--anystats"], ["--completed"], ["--completed", "--keep-completed"]]


@pytest.mark.parametrize("options", NO_JOB)
def test_without_a_job(guest: Guest, options: list[str]) -> None:
    assert _info(guest, *options) == {"Job type": "None"}


def test_without_a_job_raw(guest: Guest) -> None:
    assert _info(guest, "--rawstats") == {"Job type": "0"}


@pytest.mark.parametrize("options", [[], ["--anystats"]])
def test_running_pull(pulling: Guest, options: list[str]) -> None:
    fields = _info(pulling, *options)
    assert (fields["Job type"], fields["Operation"]) == ("Unbounded", "Backup")
    assert list(fields)[2:] == [
        "Time elapsed",
        "Temporary disk space use",
        "Temporary disk space total",
    ]


def test_running_pull_raw(pulling: Guest) -> None:
    fields = _info(pulling, "--rawstats")
    assert list(fields) == [
        "Job type",
        "operation",
        "time_elapsed",
        "disk_temp_used",
        "disk_temp_total",
    ]
    assert (fields["Job type"], fields["operation"], fields["disk_temp_used"]) == ("2", "9", "0")


def test_temporary_space_total_is_the_size_of_the_disks(pulling: Guest) -> None:
    sizes = [int(pulling.virsh("domblkinfo", disk).split()[1]) for disk in ("vda", "vdb")]
    assert int(_info(pulling, "--rawstats")["disk_temp_total"]) == sum(sizes)


def test_temporary_space_grows_when_the_guest_overwrites(guest: Guest) -> None:
    guest.monitor('qemu-io vda "write -P 0xab 0 1M"')
    guest.begin_pull()
    guest.monitor('qemu-io vda "write -P 0xcd 0 1M"')
    assert int(_info(guest, "--rawstats")["disk_temp_used"]) == 2**20


def test_completed_is_none_while_a_job_runs(pulling: Guest) -> None:
    assert _info(pulling, "--completed") == {"Job type": "None"}


def test_abort_ends_a_pull_with_success(pulling: Guest) -> None:
    _end(pulling)
    fields = _info(pulling, "--completed", "--rawstats")
    assert (fields["Job type"], fields["success"]) == ("3", "1")
    assert list(fields)[1:] == [
        "operation",
        "time_elapsed",
        "disk_temp_used",
        "disk_temp_total",
        "success",
        "errmsg",
    ]


@pytest.mark.parametrize("options", [[], ["--anystats"]])
def test_completed_pull(pulling: Guest, options: list[str]) -> None:
    _end(pulling)
    fields = _info(pulling, "--completed", *options)
    assert (fields["Job type"], fields["Operation"]) == ("Completed", "Backup")
    assert fields["Error message"] == "Operation canceled"


def test_record_is_deleted_by_reading(pulling: Guest) -> None:
    _end(pulling)
    assert _info(pulling, "--completed")["Job type"] == "Completed"
    assert _info(pulling, "--completed") == {"Job type": "None"}


def test_record_is_kept_on_request(pulling: Guest) -> None:
    _end(pulling)
    first = _info(pulling, "--completed", "--keep-completed")
    assert _info(pulling, "--completed", "--keep-completed") == first


def test_virsh_wants_completed_with_keep_completed(guest: Guest) -> None:
    assert "--completed is required" in guest.virsh("domjobinfo", "--keep-completed", status=1)


def test_record_survives_the_domains_end(pulling: Guest) -> None:
    _end(pulling)
    pulling.virsh("destroy")
    assert _info(pulling, "--completed")["Job type"] == "Completed"


def test_completed_push(guest: Guest) -> None:
    guest.monitor('qemu-io vda "write -P 0xab 0 1M"')
    guest.virsh("backup-begin")
    assert list(guest.completed_job()) == [
        "Job type",
        "operation",
        "time_elapsed",
        "disk_total",
        "disk_processed",
        "disk_remaining",
        "success",
    ]


def test_completed_push_in_words(guest: Guest) -> None:
    guest.virsh("backup-begin")
    guest.wait_for_job_end()
    fields = _info(guest, "--completed")
    assert fields["Job type"] == "Completed"
    assert fields["File processed"] == fields["File total"]
    assert fields["File remaining"] == "0.000 B"


def test_incremental_push_counts_what_changed(guest: Guest) -> None:
    guest.checkpoint("c1")
    guest.monitor('qemu-io vda "write -P 0xab 0 128k"')
    guest.virsh(
        "backup-begin", guest.file("<domainbackup><incremental>c1</incremental></domainbackup>")
    )
    assert guest.completed_job()["disk_total"] == "131072"


def test_incremental_push_of_nothing_has_no_figures(guest: Guest) -> None:
    guest.checkpoint("c1")
    guest.virsh(
        "backup-begin", guest.file("<domainbackup><incremental>c1</incremental></domainbackup>")
    )
    record = guest.completed_job()
    assert record["success"] == "1"
    assert "disk_total" not in record


def test_abort_without_a_job(guest: Guest) -> None:
    answer = guest.virsh("domjobabort", status=1)
    assert answer.startswith("error: Requested operation is not valid: ")


def test_abort_of_a_postcopy_is_refused(pulling: Guest) -> None:
    answer = pulling.virsh("domjobabort", "--postcopy", status=1)
    assert answer.startswith("error: Requested operation is not valid: ")
    assert _info(pulling)["Job type"] == "Unbounded"


def test_abort_removes_the_scratch_files(pulling: Guest) -> None:
    before = sorted(path.name for path in pulling.folder.glob("vd?.qcow2.*"))
    assert [name.split(".")[0] for name in before] == ["vda", "vdb"]
    _end(pulling)
    until(lambda: not list(pulling.folder.glob("vd?.qcow2.*")), "removal of scratch files")


def test_next_backup_can_begin_after_an_abort(pulling: Guest) -> None:
    _end(pulling)
    pulling.begin_pull()
    assert _info(pulling)["Operation"] == "Backup"


def test_destroy_cancels_the_backup(pulling: Guest) -> None:
    pulling.virsh("destroy")
    fields = _info(pulling, "--completed", "--rawstats")
    assert (fields["Job type"], fields["success"]) == ("5", "0")


def test_cancelled_record_is_shown_to_anystats(pulling: Guest) -> None:
    pulling.virsh("destroy")
    fields = _info(pulling, "--completed", "--keep-completed", "--anystats")
    assert fields["Job type"] == "Cancelled"


def test_guest_shutdown_cancels_the_backup(pulling: Guest) -> None:
    pulling.virsh("shutdown")
    until(lambda: pulling.virsh("domstate") == "shut off", "shutdown")
    assert _info(pulling, "--completed", "--rawstats")["Job type"] == "5"


def test_suspend_and_resume_do_not_touch_the_backup(pulling: Guest) -> None:
    pulling.virsh("suspend")
    pulling.virsh("resume")
    assert _info(pulling)["Job type"] == "Unbounded"


def test_checkpoints_can_be_made_and_deleted_meanwhile(pulling: Guest) -> None:
    pulling.checkpoint("c1")
    pulling.virsh("checkpoint-dumpxml", "c1", "--size")
    pulling.virsh("checkpoint-delete", "c1")


def test_managed_save_waits_in_vain(pulling: Guest) -> None:
    assert "Timed out during operation: " in pulling.virsh("managedsave", status=1)


def test_resize_of_a_busy_disk_is_refused(pulling: Guest) -> None:
    assert "error: internal error: " in pulling.virsh("blockresize", "vda", "2G", status=1)


def test_blockjob_shows_the_backup(pulling: Guest) -> None:
    assert pulling.virsh("blockjob", "vda").startswith("Backup: [")


@pytest.mark.parametrize("options", [["--info"], ["--info", "--bytes"]])
def test_blockjob_info(pulling: Guest, options: list[str]) -> None:
    assert pulling.virsh("blockjob", "vda", *options).startswith("Backup: [")


def _raw(guest: Guest) -> dict[str, str]:
    words = guest.virsh("blockjob", "vda", "--raw").split()
    return dict(word.split("=") for word in words)


def test_blockjob_raw(pulling: Guest) -> None:
    size = pulling.virsh("domblkinfo", "vda").split()[1]
    assert _raw(pulling) == {"type": "Backup", "bandwidth": "0", "cur": "0", "end": size}


@pytest.mark.parametrize(("options", "shown"), [(["5"], "5"), (["5242880", "--bytes"], "5")])
def test_blockjob_bandwidth(pulling: Guest, options: list[str], shown: str) -> None:
    pulling.virsh("blockjob", "vda", *options)
    assert _raw(pulling)["bandwidth"] == shown


def test_blockjob_of_a_free_disk(guest: Guest) -> None:
    assert "No current block job for vda" in guest.virsh("blockjob", "vda")


@pytest.mark.parametrize("option", ["--abort", "--async"])
def test_blockjob_abort_ends_the_whole_backup(pulling: Guest, option: str) -> None:
    pulling.virsh("blockjob", "vda", option)
    assert pulling.completed_job()["Job type"] == "3"


def test_blockjob_pivot_is_refused(pulling: Guest) -> None:
    answer = pulling.virsh("blockjob", "vda", "--pivot", status=1)
    assert answer.startswith("error: block copy still active: ")
    assert _info(pulling)["Job type"] == "Unbounded"


def test_figures_are_allowed_read_only(pulling: Guest) -> None:
    assert _info(pulling.read_only)["Operation"] == "Backup"


@pytest.fixture
def pushing(guest: Guest, module_daemon: Daemon) -> Guest:
    """A running domain with a push backup that does not end within a test."""
    guest.monitor('qemu-io vda "write -P 0xab 0 512M"')
    disk = f"<disk name='vda' type='file'><target file='{guest.folder}/t'/></disk>"
    (module_daemon.root / SWITCH).touch()
    guest.virsh("backup-begin", guest.push_xml(disk))
    (module_daemon.root / SWITCH).unlink()
    return guest


def test_running_push(pushing: Guest) -> None:
    fields = _info(pushing)
    assert (fields["Job type"], fields["Operation"]) == ("Unbounded", "Backup")
    assert list(fields)[3:] == ["File processed", "File remaining", "File total"]


def test_push_progress_advances(pushing: Guest) -> None:
    first = int(_info(pushing, "--rawstats")["disk_processed"])
    until(lambda: int(_info(pushing, "--rawstats")["disk_processed"]) > first, "progress")


def test_push_figures_add_up(pushing: Guest) -> None:
    found = _info(pushing, "--rawstats")
    total = int(found["disk_processed"]) + int(found["disk_remaining"])
    assert total == int(found["disk_total"])


def test_aborted_push_is_cancelled_and_removed(pushing: Guest) -> None:
    _end(pushing)
    record = pushing.completed_job()
    assert (record["Job type"], record["success"]) == ("5", "0")
    assert record["errmsg"] == "Operation canceled"
    until(lambda: not (pushing.folder / "t").exists(), "removal of the target")


def test_push_document_shows_the_target(pushing: Guest) -> None:
    assert f"<target file='{pushing.folder}/t'/>" in pushing.virsh("backup-dumpxml")
