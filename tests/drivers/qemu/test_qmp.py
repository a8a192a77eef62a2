"""The monitor of a real QEMU: answers, refusals, events, descriptors, and its loss."""

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from select import select
from signal import SIGKILL, SIGSTOP, SIGTERM
from typing import Any

import pytest
import trio
import trio.testing

from virtbackupd.drivers import steps
from virtbackupd.drivers.qemu.process import Process, read_start_time
from virtbackupd.drivers.qemu.qmp import Monitor, MonitorLost, QmpError, open_bridge

Events = list[tuple[str, dict[str, Any], float]]


@pytest.fixture
def process(state_dir: Path) -> Iterator[Process]:
    """Detached, so that it listens when the command returns."""
    chardev = f"socket,id=m,path={state_dir}/m,server=on,wait=off"
    command = ["qemu-system-x86_64", "-M", "none", "-nodefaults", "-display", "none", "-S"]
    command += ["-chardev", chardev, "-mon", "chardev=m,mode=control", "-daemonize"]
    subprocess.run([*command, "-pidfile", str(state_dir / "pid")], check=True)
    process = Process(int((state_dir / "pid").read_text()))
    yield process
    process.signal(SIGKILL)
    process.close()


@pytest.fixture
def events() -> Events:
    return []


@pytest.fixture
async def monitor(process: Process, state_dir: Path, events: Events) -> AsyncIterator[Monitor]:
    async with open_bridge() as bridge:
        yield await bridge.open(state_dir / "m", lambda *event: events.append(event), name="x")


async def test_a_command_returns_its_result(monitor: Monitor) -> None:
    assert (await monitor.execute("query-status"))["status"] == "prelaunch"


async def test_a_command_takes_arguments(monitor: Monitor) -> None:
    text = await monitor.execute("human-monitor-command", {"command-line": "info name"})
    assert isinstance(text, str)


async def test_a_refusal_has_the_class_and_words_of_qemu(monitor: Monitor) -> None:
    with pytest.raises(QmpError) as caught:
        await monitor.execute("no-such-command")
    assert caught.value.class_ == "CommandNotFound"
    assert "no-such-command" in caught.value.desc


async def test_one_command_for_several_is_sent_in_their_order(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    monkeypatch.setattr(steps, "hook", taken.append)
    nodes = [{"driver": "null-co", "node-name": "n0"}]
    # Each stands on the one before.
    nodes += [{"driver": "raw", "node-name": f"n{n}", "file": f"n{n - 1}"} for n in range(1, 9)]
    assert await monitor.execute_each("blockdev-add", nodes) == [None] * 9
    # None waits for another's answer.
    assert taken == ["blockdev-add"] * 9 + ["blockdev-add: answered"] * 9


async def test_each_is_told_whether_it_was_refused(monitor: Monitor) -> None:
    paths = [{"path": path} for path in ("/machine", "/nowhere", "/machine")]
    found = await monitor.execute_each("qom-list", paths)
    assert [refusal and refusal.class_ for refusal in found] == [None, "DeviceNotFound", None]


async def test_a_lost_monitor_is_lost_for_each(monitor: Monitor, process: Process) -> None:
    process.signal(SIGSTOP)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_when_asked, process)
        with trio.fail_after(60), pytest.raises(MonitorLost, match="during query-status"):
            await monitor.execute_each("query-status", [{}, {}])


async def _end_when_asked(process: Process) -> None:
    await trio.testing.wait_all_tasks_blocked()
    process.signal(SIGKILL)


async def test_several_commands_are_under_way_at_once(monitor: Monitor) -> None:
    results: list[Any] = []

    async def ask() -> None:
        results.append(await monitor.execute("query-status"))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert len(results) == 20


async def test_events_come_before_the_answer_sent_after_them(
    monitor: Monitor, events: Events
) -> None:
    await monitor.execute("cont")
    await monitor.execute("stop")
    assert [name for name, _, _ in events] == ["RESUME", "STOP"]


async def test_events_carry_their_time(monitor: Monitor, events: Events) -> None:
    await monitor.execute("cont")
    assert events[0][2] > 1_600_000_000


async def test_a_raw_message_is_answered_whole(monitor: Monitor) -> None:
    answer = await monitor.execute_raw({"execute": "no-such-command", "id": "mine"})
    assert answer["error"]["class"] == "CommandNotFound"
    assert "id" not in answer


async def test_a_descriptor_can_be_given_to_qemu(monitor: Monitor, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        await monitor.send_fd("file", file.fileno())
    assert await monitor.execute("closefd", {"fdname": "file"}) == {}


async def test_a_command_has_a_deadline(monitor: Monitor) -> None:
    with pytest.raises(MonitorLost, match=r"query-status .* within 0 s"):
        await monitor.execute("query-status", timeout=0)


async def test_an_answer_that_comes_too_late_confuses_nobody(monitor: Monitor) -> None:
    with pytest.raises(MonitorLost):
        await monitor.execute("query-version", timeout=0)
    assert (await monitor.execute("query-status"))["status"] == "prelaunch"


async def test_the_end_of_qemu_is_noticed(monitor: Monitor, process: Process) -> None:
    process.signal(SIGKILL)
    with trio.fail_after(60):
        await monitor.lost.wait()
    with pytest.raises(MonitorLost, match="x is gone"):
        await monitor.execute("query-status")


async def test_a_command_under_way_fails_when_qemu_ends(monitor: Monitor, process: Process) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_expect_loss, monitor)
        await monitor.execute("query-version")
        process.signal(SIGKILL)


async def _expect_loss(monitor: Monitor) -> None:
    with pytest.raises(MonitorLost):
        await _ask_for_ever(monitor)


async def _ask_for_ever(monitor: Monitor) -> None:
    while True:
        await monitor.execute("query-status")


async def test_what_qemu_says_last_is_heard(
    monitor: Monitor, process: Process, events: Events
) -> None:
    process.signal(SIGTERM)
    # Nobody reads before all has been said.
    select([process._descriptor], [], [])
    await monitor.read_out()
    assert [name for name, _, _ in events] == ["SHUTDOWN"]


async def test_a_closed_monitor_leaves_qemu_alone(monitor: Monitor, process: Process) -> None:
    await monitor.close()
    await monitor.close()
    assert process.start_time == read_start_time(process.pid)


async def test_a_socket_that_is_not_there_is_named(state_dir: Path) -> None:
    async with open_bridge() as bridge:
        with pytest.raises(MonitorLost, match="domain one"):
            await bridge.open(state_dir / "none", lambda *_: None, name="domain one")
