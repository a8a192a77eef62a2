"""Faults in the phases of a backup, on disks and on checkpoints of a domain in memory."""

from collections.abc import Awaitable
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from virtbackupd.drivers.enums import (
    DomainState,
    JobType,
    Lifecycle,
    ShutoffReason,
    StoppedDetail,
)
from virtbackupd.drivers.errors import (
    CheckpointInconsistent,
    DriverError,
    InternalError,
    OperationFailed,
    OperationInvalid,
)
from virtbackupd.drivers.events import DomainJobCompleted, DomainLifecycle, Event
from virtbackupd.drivers.faults.effects import PHASES, Point
from virtbackupd.drivers.memory import crash, fault_effects, lifecycle
from virtbackupd.drivers.memory.clusters import CLUSTER
from virtbackupd.drivers.memory.control import Target, call
from virtbackupd.drivers.memory.control_faults import COMMANDS
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.image import Image

KILLED = (DomainState.SHUTOFF, ShutoffReason.CRASHED)
COMPLETED = 1
DISK = "vda"


@pytest.fixture
async def guest(guest: MemoryDomain) -> MemoryDomain:
    """The usual domain, on a host that carries faults out."""
    fault_effects.attach(guest.host)
    return guest


@pytest.fixture
async def image(guest: MemoryDomain) -> Image:
    found = guest.disk_image(DISK)
    assert found is not None
    found.fill_pattern(1, 0, 8 * CLUSTER)
    return found


def add(domain: MemoryDomain, match: str, effect: str, when: str = "times = 1") -> None:
    domain.host.faults.load_text(
        f"[[faults]]\nmatch = {{ {match} }}\nwhen = {{ {when} }}\neffect = {{ {effect} }}\n"
    )


async def push(domain: MemoryDomain, folder: Path, checkpoint: str = "", since: str = "") -> None:
    disk = f"<disk name='vda' type='file'><target file='{folder}/full{checkpoint}'/></disk>"
    incremental = f"<incremental>{since}</incremental>" if since else ""
    await domain.backup_begin(
        f"<domainbackup>{incremental}<disks>{disk}</disks></domainbackup>", named(checkpoint), 0
    )


async def pull(domain: MemoryDomain, folder: Path, checkpoint: str = "") -> None:
    disk = f"<disk name='vda'><scratch file='{folder}/scratch'/></disk>"
    server = f"<server transport='unix' socket='{folder}/nbd'/>"
    document = f"<domainbackup mode='pull'>{server}<disks>{disk}</disks></domainbackup>"
    await domain.backup_begin(document, named(checkpoint), 0)


def files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def named(checkpoint: str) -> str | None:
    if not checkpoint:
        return None
    disks = "<disks><disk name='vda'/></disks>"
    return f"<domaincheckpoint><name>{checkpoint}</name>{disks}</domaincheckpoint>"


async def ended(domain: MemoryDomain) -> None:
    with trio.fail_after(60):
        while domain.backup is not None:
            await domain.backup.over.wait()
    await wait_all_tasks_blocked()


def record(domain: MemoryDomain) -> tuple[JobType, object]:
    """How the last job ended, with its error."""
    stats = domain.get_job_stats(COMPLETED)
    errors = [param.value for param in stats.params if param.field == "errmsg"]
    return JobType(stats.type), errors[0] if errors else None


async def begin_of(domain: MemoryDomain, folder: Path) -> None:
    """A whole pull, which is ended by an abort."""
    await pull(domain, folder, "one")
    domain.abort_job()


@pytest.mark.parametrize("phase", PHASES)
async def test_every_phase_is_met_once(
    guest: MemoryDomain, image: Image, tmp_path: Path, phase: str
) -> None:
    add(guest, f"phase = '{phase}'", "kind = 'bitmap-break'", "")
    await push(guest, tmp_path, "one")
    await ended(guest)
    await push(guest, tmp_path, "two")
    guest.abort_job()
    await ended(guest)
    (row,) = guest.host.faults.report()["rules"]
    assert row["hits"] == (1 if phase in {"abort", "copying"} else 2)
    assert image.bitmaps.names() == ["one", "two"]


@pytest.mark.parametrize("phase", ["begin", "prepared", "checkpoint"])
async def test_a_kill_before_the_instant_refuses_the_backup(
    guest: MemoryDomain, image: Image, tmp_path: Path, phase: str
) -> None:
    add(guest, f"phase = '{phase}'", "kind = 'kill'")
    with pytest.raises(OperationInvalid):
        await push(guest, tmp_path, "one")
    assert (guest.state, guest.reason) == KILLED
    assert guest.list_all_checkpoints(0) == []
    assert image.bitmaps.names() == []
    assert files(tmp_path) == []


@pytest.mark.parametrize("phase", ["frozen", "copying", "completing"])
async def test_a_kill_cancels_the_job(
    guest: MemoryDomain, image: Image, events: list[Event], tmp_path: Path, phase: str
) -> None:
    add(guest, f"phase = '{phase}'", "kind = 'kill'")
    await push(guest, tmp_path, "one")
    await ended(guest)
    assert (guest.state, guest.reason) == KILLED
    assert record(guest) == (JobType.CANCELLED, None)
    assert guest.list_all_checkpoints(0) == ["one"]
    assert image.bitmaps.names() == []
    assert files(tmp_path) == []
    completed, stopped = events[-2:]
    assert isinstance(completed, DomainJobCompleted)
    assert isinstance(stopped, DomainLifecycle)
    assert (stopped.event, stopped.detail) == (Lifecycle.STOPPED, StoppedDetail.FAILED)


async def test_a_kill_at_the_end_leaves_the_job_completed(
    guest: MemoryDomain, image: Image, tmp_path: Path
) -> None:
    add(guest, "phase = 'ended'", "kind = 'kill'")
    await push(guest, tmp_path, "one")
    await ended(guest)
    assert (guest.state, guest.reason) == KILLED
    assert record(guest) == (JobType.COMPLETED, None)
    assert image.bitmaps.names() == []


async def test_a_kill_at_abort_is_told_to_the_caller(guest: MemoryDomain, tmp_path: Path) -> None:
    add(guest, "phase = 'abort'", "kind = 'kill'")
    await pull(guest, tmp_path)
    with pytest.raises(OperationFailed, match="no longer running"):
        guest.abort_job()


async def test_bitmaps_of_earlier_runs_are_inconsistent_after_a_kill(guest: MemoryDomain) -> None:
    guest.checkpoint_create_xml(named("old") or "", 0)
    guest.destroy()
    image = guest.host.images.get("/images/vda.qcow2")
    assert image is not None
    lifecycle.boot(guest, guest.definition, paused=False)
    guest.checkpoint_create_xml(named("new") or "", 0)
    crash.kill(guest)
    assert [(found.name, found.inconsistent) for found in image.bitmaps] == [("old", True)]


async def test_a_guest_shuts_down_in_the_middle(
    guest: MemoryDomain, image: Image, tmp_path: Path
) -> None:
    add(guest, "phase = 'copying', disk = 'vda'", "kind = 'shutdown'")
    await push(guest, tmp_path)
    await ended(guest)
    assert (guest.state, guest.reason) == (DomainState.SHUTOFF, ShutoffReason.SHUTDOWN)
    assert record(guest) == (JobType.CANCELLED, None)


async def test_a_phase_can_be_delayed(guest: MemoryDomain, tmp_path: Path) -> None:
    add(guest, "phase = 'prepared'", "kind = 'delay', seconds = 5")
    clock = guest.host.clock
    clock.stop()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pull, guest, tmp_path, "one")
        with trio.fail_after(60):
            while not clock.waiting():
                await trio.lowlevel.checkpoint()
        await clock.step(4)
        assert guest.list_all_checkpoints(0) == []
        await clock.step(1)
        assert guest.list_all_checkpoints(0) == ["one"]
    guest.abort_job()


@pytest.mark.parametrize(
    ("kind", "left"), [("bitmap-lose", ["two"]), ("bitmap-break", ["one", "two"])]
)
async def test_bitmaps_of_chosen_checkpoints_suffer(
    guest: MemoryDomain, image: Image, kind: str, left: list[str]
) -> None:
    for name in ("one", "two"):
        guest.checkpoint_create_xml(named(name) or "", 0)
    add(guest, "phase = 'begin'", f"kind = '{kind}', checkpoint = 'o*'")
    fault_effects.at_phase(guest, "begin")
    assert image.bitmaps.names() == left
    assert [found.name for found in image.bitmaps if found.inconsistent] == left[:-1]
    assert guest.list_all_checkpoints(0) == ["one", "two"]


async def test_bitmaps_of_other_disks_are_left_alone(guest: MemoryDomain, image: Image) -> None:
    guest.checkpoint_create_xml(named("one") or "", 0)
    add(guest, "phase = 'begin', disk = 'vdb'", "kind = 'bitmap-lose'")
    fault_effects.at_phase(guest, "begin")
    assert image.bitmaps.names() == ["one"]
    assert len(guest.host.faults.unmatched()) == 1


async def test_a_lost_bitmap_refuses_an_incremental(
    guest: MemoryDomain, image: Image, tmp_path: Path
) -> None:
    await push(guest, tmp_path, "one")
    await ended(guest)
    add(guest, "phase = 'ended', disk = 'vda'", "kind = 'bitmap-lose'")
    fault_effects.at_phase(guest, "ended")
    assert image.bitmaps.names() == []
    with pytest.raises(CheckpointInconsistent):
        await push(guest, tmp_path, "two", since="one")


@pytest.mark.parametrize("byte", [0, CLUSTER, 3 * CLUSTER + 1])
async def test_a_target_takes_so_many_bytes(
    guest: MemoryDomain, image: Image, tmp_path: Path, byte: int
) -> None:
    add(guest, "disk = 'vda'", f"kind = 'no-space', on = 'target', byte = {byte}")
    await push(guest, tmp_path)
    await ended(guest)
    assert record(guest) == (JobType.FAILED, "No space left on device")
    assert guest.host.faults.unmatched() == []
    assert files(tmp_path) == []


async def test_a_target_with_room_is_written(
    guest: MemoryDomain, image: Image, tmp_path: Path
) -> None:
    add(guest, "", f"kind = 'no-space', on = 'target', byte = {8 * CLUSTER}")
    await push(guest, tmp_path)
    await ended(guest)
    assert record(guest) == (JobType.COMPLETED, None)
    assert len(guest.host.faults.unmatched()) == 1


async def test_a_scratch_takes_so_many_bytes(
    guest: MemoryDomain, image: Image, tmp_path: Path
) -> None:
    add(guest, "", f"kind = 'no-space', on = 'scratch', byte = {CLUSTER}")
    await pull(guest, tmp_path)
    image.write(0, b"x")
    await wait_all_tasks_blocked()
    assert guest.backup is not None
    image.write(CLUSTER, b"x")
    await ended(guest)
    assert record(guest) == (JobType.FAILED, "No space left on device")
    assert guest.host.faults.unmatched() == []


async def test_a_scratch_with_room_stays_unmatched(
    guest: MemoryDomain, image: Image, tmp_path: Path
) -> None:
    add(guest, "", f"kind = 'no-space', on = 'scratch', byte = {CLUSTER}")
    await begin_of(guest, tmp_path)
    await ended(guest)
    assert len(guest.host.faults.unmatched()) == 1


async def test_a_deletion_fails_half_way(guest: MemoryDomain, image: Image) -> None:
    for name in ("one", "two"):
        guest.checkpoint_create_xml(named(name) or "", 0)
    add(guest, "domain = 'guest'", "kind = 'delete-half', message = 'torn'")
    with pytest.raises(InternalError, match="torn"):
        guest.checkpoint_delete("one", 0)
    assert guest.list_all_checkpoints(0) == ["one", "two"]
    assert image.bitmaps.names() == ["two"]
    with pytest.raises(DriverError):
        guest.checkpoint_delete("one", 0)
    guest.checkpoint_delete("one", 2)
    assert guest.list_all_checkpoints(0) == ["two"]


async def test_a_deletion_of_metadata_is_not_hit(guest: MemoryDomain, image: Image) -> None:
    guest.checkpoint_create_xml(named("one") or "", 0)
    add(guest, "", "kind = 'delete-half'")
    guest.checkpoint_delete("one", 2)
    assert image.bitmaps.names() == ["one"]
    assert len(guest.host.faults.unmatched()) == 1


async def test_somebody_deletes_checkpoints(guest: MemoryDomain, image: Image) -> None:
    for name in ("one", "two"):
        guest.checkpoint_create_xml(named(name) or "", 0)
    add(guest, "phase = 'begin'", "kind = 'checkpoint-lose', checkpoint = 'one'")
    fault_effects.at_phase(guest, "begin")
    assert guest.list_all_checkpoints(0) == ["two"]
    assert image.bitmaps.names() == ["two"]


async def test_an_inactive_domain_cannot_be_killed(guest: MemoryDomain) -> None:
    guest.destroy()
    add(guest, "phase = 'begin'", "kind = 'kill'")
    fault_effects.at_phase(guest, "begin")
    assert guest.reason == ShutoffReason.DESTROYED
    assert len(guest.host.faults.unmatched()) == 1


async def test_a_call_that_hangs_is_let_go_when_its_domain_stops(guest: MemoryDomain) -> None:
    add(guest, "nbd = 'read'", "kind = 'drop'")
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guest.host.faults.hang, guest.ref.uuid)
            await wait_all_tasks_blocked()
            guest.destroy()


async def control(domain: MemoryDomain, command: str, /, **arguments: object) -> object:
    answer = call(COMMANDS, Target(domain.host, domain), command, arguments)
    return await answer if isinstance(answer, Awaitable) else answer


RULES = "[[faults]]\nmatch.nbd = 'read'\neffect.kind = 'drop'\n"


async def test_rules_are_loaded_as_text(guest: MemoryDomain) -> None:
    await control(guest, "faults-load", text=RULES)
    await control(guest, "faults-load", text=RULES)
    assert len(guest.host.faults.watches(Point.NBD)) == 2
    await control(guest, "faults-load", text=RULES, replace=True)
    assert len(guest.host.faults.watches(Point.NBD)) == 1


async def test_rules_are_loaded_from_a_file(guest: MemoryDomain, tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    await control(guest, "faults-load", path=str(path))
    assert guest.host.faults.unmatched() == [f"{path}:1"]


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "neither": ({}, "either text or path"),
    "both": ({"text": "", "path": "/x"}, "either text or path"),
    "relative": ({"path": "x"}, "'x' is no absolute path"),
    "missing": ({"path": "/nonexistent/x"}, "/nonexistent/x: cannot read the fault file"),
    "wrong": ({"text": "[[faults]]"}, "faults:1: faults"),
    "unknown": ({"txt": ""}, "txt"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_what_cannot_be_loaded_is_refused(guest: MemoryDomain, case: str) -> None:
    arguments, message = WRONG[case]
    with pytest.raises(DriverError, match=message):
        await control(guest, "faults-load", **arguments)
    assert not guest.host.faults.active


async def test_rules_are_listed_reported_and_dropped(guest: MemoryDomain) -> None:
    await control(guest, "faults-load", text=RULES)
    listed = await control(guest, "faults-list")
    assert isinstance(listed, dict)
    assert listed["rules"][0]["match"] == {"nbd": "read"}
    report = await control(guest, "faults-report")
    assert isinstance(report, dict)
    assert report["unmatched"] == ["faults:1"]
    assert await control(guest, "faults-clear") == report
    assert not guest.host.faults.active


async def test_scenarios_are_listed(guest: MemoryDomain) -> None:
    listed = await control(guest, "scenarios")
    assert isinstance(listed, dict)
    assert "nbd-cut" in listed["scenarios"]


async def test_an_unknown_scenario_lists_the_known(guest: MemoryDomain) -> None:
    with pytest.raises(DriverError, match=r"no scenario 'x'; known are: abort-refused, "):
        await control(guest, "scenario", name="x")


async def test_a_scenario_is_about_the_domain_and_disk_named(guest: MemoryDomain) -> None:
    await control(guest, "scenario", name="nbd-cut", domain="other", disk="vdb")
    await control(guest, "scenario", name="begin-slow", disk="vdb")
    cut, slow = (row["match"] for row in guest.host.faults.describe())
    assert cut == {"nbd": "read", "domain": "other", "disk": "vdb"}
    assert slow == {"phase": "begin", "domain": "guest"}
