"""Processes that outlive us: started, found again, ended."""

import os
import signal
from pathlib import Path

import pytest
import trio
from waiting import until

from virtbackupd.drivers.errors import InternalError, SystemFailure
from virtbackupd.drivers.qemu import process
from virtbackupd.drivers.qemu.config import DomainPaths, Settings
from virtbackupd.drivers.qemu.process import Launch, Process

SLEEPER = ["/bin/sh", "-c", "echo started >&2; exec sleep 60"]
STUBBORN = ["/bin/sh", "-c", "trap '' TERM; echo started >&2; while :; do sleep 60; done"]


@pytest.fixture
def paths(state_dir: Path) -> DomainPaths:
    return DomainPaths(state_dir / "run", state_dir / "one.log")


def start(paths: DomainPaths, argv: list[str]) -> Process:
    settings = Settings(paths.folder.parent, "/bin/false")
    return process.start(Launch(argv, {}, paths), settings)


async def test_the_end_of_a_child_says_what_ended_it(paths: DomainPaths) -> None:
    child = start(paths, SLEEPER)
    child.signal(signal.SIGKILL)
    assert await child.wait() == "signal SIGKILL"


async def test_an_exit_status_is_told(paths: DomainPaths) -> None:
    child = start(paths, ["/bin/sh", "-c", "exit 3"])
    assert await child.wait() == "exit status 3"


async def test_what_is_printed_goes_to_the_log(paths: DomainPaths) -> None:
    child = start(paths, ["/bin/sh", "-c", "echo qemu: broken >&2"])
    await child.wait()
    assert "qemu: broken" in paths.log.read_text()


async def test_the_log_begins_with_the_command(paths: DomainPaths) -> None:
    child = start(paths, ["/bin/true", "an argument"])
    await child.wait()
    assert "starting /bin/true 'an argument'" in paths.log.read_text()


async def test_the_process_has_a_session_of_its_own(paths: DomainPaths) -> None:
    child = start(paths, SLEEPER)
    session = os.getsid(child.pid)
    await child.end()
    assert session == child.pid


async def test_several_tasks_may_wait_for_the_same_end(paths: DomainPaths) -> None:
    child = start(paths, SLEEPER)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(child.wait)
        nursery.start_soon(child.end)


async def test_who_does_not_obey_is_killed(
    paths: DomainPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "TERMINATE_GRACE", 0.2)
    child = start(paths, STUBBORN)
    await _started(paths)
    await child.end()
    assert await child.wait() == "signal SIGKILL"


async def test_a_graceful_end_does_not_kill(
    paths: DomainPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "TERMINATE_GRACE", 0.2)
    child = start(paths, STUBBORN)
    await _started(paths)
    with pytest.raises(InternalError, match="does not end"):
        await child.end(graceful_only=True)
    child.signal(signal.SIGKILL)
    await child.wait()


async def _started(paths: DomainPaths) -> None:
    await until(lambda: "\nstarted" in paths.log.read_text())


async def test_a_running_process_is_found_again(paths: DomainPaths) -> None:
    child = start(paths, SLEEPER)
    found = process.adopt(child.pid, child.start_time)
    assert found is not None
    await found.end()
    found.close()


async def test_a_number_that_another_process_has_now_is_not_adopted(paths: DomainPaths) -> None:
    child = start(paths, SLEEPER)
    assert process.adopt(child.pid, child.start_time - 1) is None
    await child.end()


async def test_a_process_that_has_ended_is_not_adopted(paths: DomainPaths) -> None:
    child = start(paths, ["/bin/true"])
    await child.wait()
    assert process.adopt(child.pid, child.start_time) is None


def test_a_program_that_is_not_there_is_named(paths: DomainPaths) -> None:
    with pytest.raises(SystemFailure, match="/no/such/program"):
        start(paths, ["/no/such/program"])


async def test_processor_time_is_counted(paths: DomainPaths) -> None:
    child = start(paths, ["/bin/sh", "-c", "while :; do :; done"])
    await until(lambda: sum(process.cpu_times(child.pid)) >= 20_000_000)
    await child.end()


def test_a_process_that_is_gone_has_used_nothing() -> None:
    assert process.cpu_times(2**22 + 1) == (0, 0)


def test_the_last_words_are_those_after_the_start(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("old words\n")
    start = process.log_size(log)
    log.write_text("old words\nqemu-system-x86_64: -foo: invalid option\n")
    assert "invalid option" in process.last_words(log, start)
    assert "old" not in process.last_words(log, start)
