"""What a running backup shows to whoever watches the daemon."""

from virtbackupd.drivers.figures import RunningBackup
from virtbackupd.drivers.jobs import BackupJob, DiskJob, DiskState


def job_of(*states: DiskState, pull: bool = False) -> BackupJob:
    job = BackupJob("test", pull)
    for number, state in enumerate(states):
        disk = DiskJob(f"vd{number}", "", 100, 40, state=state)
        disk.error = "No space left" if state is DiskState.FAILED else None
        job.disks[disk.target] = disk
    return job


def test_a_backup_that_runs() -> None:
    job = job_of(DiskState.RUNNING, DiskState.RUNNING)
    assert job.glance() == RunningBackup("push", "running", 200, 80)


def test_a_pull_backup() -> None:
    assert job_of(DiskState.RUNNING, pull=True).glance().mode == "pull"


def test_a_backup_that_is_asked_to_stop() -> None:
    assert job_of(DiskState.RUNNING, DiskState.CANCELLING).glance().state == "cancelling"


def test_a_backup_with_a_lost_disk() -> None:
    assert job_of(DiskState.FAILED, DiskState.CANCELLING).glance().state == "failing"
