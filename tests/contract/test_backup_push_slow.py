"""Push backups that take their time: how they are watched, slowed down and ended."""

from pathlib import Path

import pytest
from contract import Subject, ask
from slow_pushes import limited

from virtbackupd.drivers.qemu.work import DiskWork

SLOW = 65536
"""Bytes per second: such a copy does not end by itself within a test."""
BYTES = 1


@pytest.fixture(autouse=True)
def slow_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU does not wait for the limit to be set; the other driver copies in our own thread."""
    monkeypatch.setattr(DiskWork, "job_action", limited(SLOW))


async def slow_push(subject: Subject, target: Path) -> None:
    """A copy that stands almost still."""
    await subject.push(target)
    await ask(subject.domain.block_job_set_speed("vda", SLOW, BYTES))


async def test_running_copy_is_shown(subject: Subject) -> None:
    await slow_push(subject, subject.folder / "full")
    found = await ask(subject.domain.get_block_job_info("vda", BYTES))
    assert (found.found, found.type, found.bandwidth) == (1, 5, SLOW)
    assert found.cur < found.end


async def test_job_info_has_the_same_figures(subject: Subject) -> None:
    await slow_push(subject, subject.folder / "full")
    info = await ask(subject.domain.get_job_info())
    assert info.type == 2
    assert info.file_total == info.data_total == info.file_processed + info.file_remaining > 0


async def test_lifting_the_limit_lets_it_end(subject: Subject) -> None:
    await slow_push(subject, subject.folder / "full")
    await ask(subject.domain.block_job_set_speed("vda", 0, BYTES))
    assert (await subject.ended())["success"] == 1


async def test_abort_removes_the_target(subject: Subject) -> None:
    await slow_push(subject, subject.folder / "full")
    await subject.abort()
    figures = await subject.ended()
    assert (figures["success"], figures["errmsg"]) == (0, "Operation canceled")
    assert not (subject.folder / "full").exists()
    assert (await subject.stats(1)).type == 5


async def test_stop_of_the_domain_removes_the_target(subject: Subject) -> None:
    await slow_push(subject, subject.folder / "full")
    await ask(subject.domain.destroy())
    assert not (subject.folder / "full").exists()
    assert (await subject.stats(1)).type == 5
