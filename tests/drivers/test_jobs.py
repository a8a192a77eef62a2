"""The rules of a backup job: figures, ends, the record, and the one place for a job."""

import pytest

from virtbackupd.drivers.enums import JobType
from virtbackupd.drivers.errors import OperationTimeout
from virtbackupd.drivers.events import CANCELED
from virtbackupd.drivers.interface import JobInfo
from virtbackupd.drivers.jobs import BackupJob, DiskJob, DiskState, JobSlot

COMPLETED, KEEP_COMPLETED = 1, 2


class Clock:
    """Time that only moves when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def job_of(*disks: DiskJob, pull: bool = False, clock: Clock | None = None) -> BackupJob:
    job = BackupJob("test", pull, clock=clock or Clock())
    job.disks = {disk.target: disk for disk in disks}
    return job


def vda(total: int = 100, current: int = 0) -> DiskJob:
    return DiskJob("vda", "/vda", total, current)


def vdb(total: int = 10, current: int = 0) -> DiskJob:
    return DiskJob("vdb", "/vdb", total, current)


def fields(params: object) -> dict[str, object]:
    assert isinstance(params, tuple)
    return {param.field: param.value for param in params}


def test_elapsed_is_in_milliseconds() -> None:
    clock = Clock()
    job = job_of(vda(), clock=clock)
    clock.now += 1.5
    assert job.elapsed == 1500


def test_figures_add_up_disks() -> None:
    assert job_of(vda(100, 40), vdb(10, 5)).figures() == (110, 45)


def test_ended_disks_stay_in_the_figures() -> None:
    job = job_of(disk := vda(100, 100), vdb(10, 5))
    job.end_disk(disk)
    assert job.figures() == (110, 105)


def test_disks_being_cancelled_are_not_counted() -> None:
    job = job_of(vda(100, 40), vdb(10, 5))
    job.cancel()
    assert job.figures() == (0, 0)


def test_cancel_tells_whether_anything_ran() -> None:
    job = job_of(vda())
    assert job.cancel()
    assert not job.cancel()


def test_a_failed_disk_is_seen_while_others_run() -> None:
    job = job_of(disk := vda(), vdb(), pull=True)
    job.end_disk(disk, "no room")
    assert disk.error == "no room"
    assert fields(job.stats().params)["errmsg"] == "no room"


def test_a_cancelled_disk_is_no_error_while_others_run() -> None:
    job = job_of(disk := vda(), vdb(), pull=True)
    job.cancel()
    job.end_disk(disk)
    assert "errmsg" not in fields(job.stats().params)


def test_a_lost_disk_has_failed_however_its_job_ends() -> None:
    job = job_of(disk := vda(), vdb(), pull=True)
    job.doom(disk, "no room")
    assert job.failing
    job.cancel()
    job.end_disk(disk, CANCELED)
    assert (disk.state, disk.error) == (DiskState.FAILED, "no room")


def test_the_first_text_is_that_of_the_lost_disk() -> None:
    job = job_of(first := vda(), second := vdb(), pull=True)
    job.doom(second, "no room")
    job.cancel()
    job.end_disk(first, CANCELED)
    job.end_disk(second, CANCELED)
    assert first.state is DiskState.CANCELLED
    assert fields(job.record().params)["errmsg"] == "no room"


def test_a_disk_that_was_asked_to_stop_is_not_lost() -> None:
    job = job_of(disk := vda(), pull=True)
    job.cancel()
    job.doom(disk, "no room")
    assert not job.failing


def test_push_stats_in_order() -> None:
    names = [param.field for param in job_of(vda(100, 40)).stats().params]
    assert names == [
        "operation",
        "time_elapsed",
        "disk_total",
        "disk_processed",
        "disk_remaining",
    ]


def test_pull_stats_show_scratch_space() -> None:
    found = fields(job_of(vda(100, 40), pull=True).stats().params)
    assert (found["disk_temp_used"], found["disk_temp_total"]) == (40, 100)


def test_no_sizes_when_all_are_zero() -> None:
    assert list(fields(job_of(vda(0)).stats().params)) == ["operation", "time_elapsed"]


def test_running_stats_tell_no_success() -> None:
    assert "success" not in fields(job_of(vda()).stats().params)


def test_info_of_a_push_repeats_sizes_as_file_sizes() -> None:
    info = job_of(vda(100, 40)).info()
    assert info == JobInfo(
        2, 0, 0, 100, 40, 60, file_total=100, file_processed=40, file_remaining=60
    )


def test_info_of_a_pull_has_no_sizes() -> None:
    assert job_of(vda(100, 40), pull=True).info() == JobInfo(JobType.UNBOUNDED)


def test_last_disk_is_known() -> None:
    job = job_of(first := vda(), second := vdb())
    assert not job.end_disk(first)
    assert job.end_disk(second)


def test_completed_push() -> None:
    job = job_of(disk := vda())
    job.end_disk(disk)
    record = job.record()
    assert record.type == JobType.COMPLETED
    assert fields(record.params)["success"] == 1
    assert "errmsg" not in fields(record.params)


def test_failed_push_keeps_the_first_text() -> None:
    job = job_of(first := vda(), second := vdb())
    job.end_disk(first, "No space left on device")
    job.cancel()
    job.end_disk(second)
    record = job.record()
    assert record.type == JobType.FAILED
    assert fields(record.params)["errmsg"] == "No space left on device"
    assert fields(record.params)["success"] == 0


def test_cancelled_push() -> None:
    job = job_of(disk := vda())
    job.cancel()
    job.end_disk(disk)
    assert job.record().type == JobType.CANCELLED
    assert fields(job.record().params)["errmsg"] == CANCELED


def test_cancelled_pull_is_a_success_with_the_same_text() -> None:
    job = job_of(disk := vda(), pull=True)
    job.cancel()
    job.end_disk(disk)
    assert job.record().type == JobType.COMPLETED
    assert fields(job.record().params)["errmsg"] == CANCELED


def test_failed_pull() -> None:
    job = job_of(disk := vda(), pull=True)
    job.end_disk(disk, "scratch is full")
    assert job.record().type == JobType.FAILED


def test_a_disk_asked_to_stop_counts_as_cancelled() -> None:
    job = job_of(disk := vda())
    job.cancel()
    job.end_disk(disk, "Input/output error")
    assert disk.state is DiskState.CANCELLED


def test_interrupted_job_has_no_text_and_no_running_figures() -> None:
    record = job_of(vda(100, 40)).interrupted()
    assert record.type == JobType.CANCELLED
    assert list(fields(record.params)) == ["operation", "time_elapsed", "success"]


def test_slot_takes_one_job() -> None:
    slot = JobSlot()
    slot.begin(job_of(vda()))
    with pytest.raises(OperationTimeout, match="virDomainBackupBegin"):
        slot.begin(job_of(vda()))


def test_refusal_names_domain_owner_and_age() -> None:
    clock, slot = Clock(), JobSlot()
    slot.begin(job_of(vda(), clock=clock))
    clock.now += 42
    with pytest.raises(OperationTimeout, match=r"domain test.*virDomainBackupBegin for 42 s"):
        slot.require_idle("save")


def test_slot_without_a_job() -> None:
    slot = JobSlot()
    slot.require_idle("save")
    assert slot.info() == JobInfo()
    assert slot.stats(0) == (JobType.NONE, ())
    assert slot.stats(COMPLETED) == (JobType.NONE, ())


def finished() -> JobSlot:
    slot, job = JobSlot(), job_of(disk := vda())
    slot.begin(job)
    job.end_disk(disk)
    slot.finish(job.record())
    return slot


def test_record_is_dropped_when_read() -> None:
    slot = finished()
    assert slot.stats(COMPLETED).type == JobType.COMPLETED
    assert slot.stats(COMPLETED).type == JobType.NONE


def test_record_is_kept_on_request() -> None:
    slot = finished()
    slot.stats(COMPLETED | KEEP_COMPLETED)
    assert slot.stats(COMPLETED).type == JobType.COMPLETED


def test_running_job_hides_the_record() -> None:
    slot = finished()
    slot.begin(job_of(vda()))
    assert slot.stats(COMPLETED).type == JobType.NONE
    assert slot.stats(0).type == JobType.UNBOUNDED


def test_job_that_never_ran_leaves_the_older_record() -> None:
    slot = finished()
    slot.begin(job_of(vda()))
    slot.finish(None)
    assert slot.stats(COMPLETED).type == JobType.COMPLETED
