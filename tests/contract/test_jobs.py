"""Jobs: their figures while they run, their record, their events, and what they exclude."""

import pytest
from contract import Subject, ask, refused, values

from virtbackupd.drivers.enums import BlockJobStatus, Lifecycle
from virtbackupd.drivers.errors import (
    BlockCopyActive,
    DriverError,
    InternalError,
    OperationInvalid,
    OperationTimeout,
    Origin,
    UnsupportedFlags,
)
from virtbackupd.drivers.events import DomainBlockJob, DomainJobCompleted, DomainLifecycle
from virtbackupd.drivers.interface import JobInfo

COMPLETED, KEEP_COMPLETED = 1, 2
PIVOT = 2
PRESERVE_SHUTDOWN_DOMAIN = 2
PAUSED = 3


async def done_pull(subject: Subject) -> None:
    """A pull backup of vda that has ended the normal way."""
    await subject.pull("<disk name='vda'/>")
    await subject.finish()


async def test_no_job(subject: Subject) -> None:
    assert await subject.stats() == (0, ())
    assert await ask(subject.domain.get_job_info()) == JobInfo()
    assert await subject.stats(COMPLETED) == (0, ())


async def test_running_job_is_unbounded(subject: Subject) -> None:
    await subject.pull()
    found = await subject.stats()
    assert found.type == 2
    assert [param.field for param in found.params][:2] == ["operation", "time_elapsed"]
    assert values(tuple(found.params))["operation"] == 9


async def test_pull_has_no_sizes_in_job_info(subject: Subject) -> None:
    await subject.pull()
    info = await ask(subject.domain.get_job_info())
    assert (info.type, info.data_total, info.file_total) == (2, 0, 0)


async def test_end_of_a_pull_is_a_success_with_an_error_text(subject: Subject) -> None:
    await subject.pull()
    figures = await subject.finish()
    assert (figures["success"], figures["errmsg"]) == (1, "Operation canceled")
    assert (await subject.stats(COMPLETED)).type == 3


async def test_record_is_read_once(subject: Subject) -> None:
    await done_pull(subject)
    assert (await subject.stats(COMPLETED)).type == 3
    assert (await subject.stats(COMPLETED)).type == 0


async def test_record_is_kept_on_request(subject: Subject) -> None:
    await done_pull(subject)
    assert (await subject.stats(COMPLETED | KEEP_COMPLETED)).type == 3
    assert (await subject.stats(COMPLETED)).type == 3


async def test_record_survives_the_stop_of_the_domain(subject: Subject) -> None:
    await done_pull(subject)
    await ask(subject.domain.destroy())
    assert (await subject.stats(COMPLETED)).type == 3


async def test_keep_needs_completed(subject: Subject) -> None:
    await refused(UnsupportedFlags, lambda: subject.stats(KEEP_COMPLETED), Origin.DOMAIN)


async def test_abort_without_a_job(subject: Subject) -> None:
    await refused(OperationInvalid, subject.abort, Origin.DRIVER)


async def test_abort_may_be_repeated(subject: Subject) -> None:
    await subject.pull()
    await subject.abort()
    assert (await subject.finish())["success"] == 1


async def test_live_calls_on_an_inactive_domain(subject: Subject) -> None:
    await ask(subject.domain.destroy())
    await refused(OperationInvalid, subject.abort, Origin.DOMAIN)
    await refused(OperationInvalid, subject.stats, Origin.DOMAIN)
    await refused(OperationInvalid, subject.domain.get_job_info, Origin.DOMAIN)


async def test_last_disk_is_told_after_the_job(subject: Subject) -> None:
    await subject.pull()
    await subject.abort()
    await subject.ended_with(3)
    kinds = [type(event) for event in subject.events]
    assert kinds == [DomainBlockJob, DomainJobCompleted, DomainBlockJob]


async def test_block_job_event_names_source_and_target(subject: Subject) -> None:
    await subject.pull("<disk name='vda'/>")
    await subject.abort()
    await subject.ended_with(2)
    (event,) = (event for event in subject.events if isinstance(event, DomainBlockJob))
    assert event.target == "vda"
    assert event.path.endswith("vda.qcow2")
    assert event.status is BlockJobStatus.CANCELED


async def test_stop_ends_the_job_before_the_domain(subject: Subject) -> None:
    await subject.pull()
    await ask(subject.domain.destroy())
    kinds = [type(event) for event in subject.events]
    assert kinds == [DomainLifecycle, DomainJobCompleted, DomainLifecycle]
    figures = await subject.ended()
    assert figures["success"] == 0
    assert not {"errmsg", "disk_temp_total"} & figures.keys()
    assert (await subject.stats(COMPLETED)).type == 5


async def test_guest_shutdown_with_the_domain_preserved(subject: Subject) -> None:
    await subject.begin(subject.pull_xml(), flags=PRESERVE_SHUTDOWN_DOMAIN)
    await subject.shutdown()
    assert (await ask(subject.domain.get_state(0)))[0] == PAUSED
    # QEMU tells of the reset of the machine whenever it gets to it: before the pause, or after.
    last = [event for event in subject.events if isinstance(event, DomainLifecycle)][-1]
    assert (last.event, last.detail) == (Lifecycle.SUSPENDED, 9)


async def test_preserved_domain_ends_with_its_backup(subject: Subject) -> None:
    await subject.begin(subject.pull_xml("<disk name='vda'/>"), flags=PRESERVE_SHUTDOWN_DOMAIN)
    await subject.shutdown()
    await subject.abort()
    await subject.until_stopped()


async def test_resumed_domain_outlives_its_backup(subject: Subject) -> None:
    await subject.begin(subject.pull_xml(), flags=PRESERVE_SHUTDOWN_DOMAIN)
    await subject.shutdown()
    await ask(subject.domain.resume())
    await subject.finish()
    assert await ask(subject.domain.is_active()) == 1


async def test_cancelling_one_disk_ends_all(subject: Subject) -> None:
    await subject.pull()
    await ask(subject.domain.block_job_abort("vdb", 0))
    assert (await subject.ended())["success"] == 1


async def test_backup_cannot_pivot(subject: Subject) -> None:
    await subject.pull()
    await refused(BlockCopyActive, lambda: subject.domain.block_job_abort("vda", PIVOT))


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        (OperationTimeout, "managed_save"),
        (InternalError, "resize"),
    ],
)
async def test_excluded_while_a_backup_runs(
    subject: Subject, kind: type[DriverError], call: str
) -> None:
    await subject.pull()
    calls = {
        "managed_save": lambda: subject.domain.managed_save(0),
        "resize": lambda: subject.domain.block_resize("vda", 1 << 20, 0),
    }
    await refused(kind, calls[call])


async def test_checkpoints_go_on_while_a_backup_runs(subject: Subject) -> None:
    await subject.pull()
    await subject.checkpoint("c1")
    await subject.write("vda", "0 64k")
    assert "size='65536'" in await subject.dump("c1", 4)
    await subject.delete("c1")


async def test_guest_may_be_paused_while_a_backup_runs(subject: Subject) -> None:
    await subject.pull()
    await ask(subject.domain.suspend())
    await ask(subject.domain.resume())
    assert (await subject.finish())["success"] == 1
