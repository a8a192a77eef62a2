"""States and events of real QEMUs, in libvirt's order."""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from guest_power import loader, power_off, until_it_runs
from waiting import until

from virtbackupd.drivers.enums import (
    Create,
    DomainState,
    Lifecycle,
    PausedReason,
    ResumedDetail,
    RunningReason,
    ShutdownDetail,
    ShutoffReason,
    StartedDetail,
    StoppedDetail,
    SuspendedDetail,
)
from virtbackupd.drivers.errors import (
    ArgumentUnsupported,
    DriverError,
    InternalError,
    OperationInvalid,
    OperationTimeout,
    SystemFailure,
)
from virtbackupd.drivers.events import DomainLifecycle, DomainReboot, Event
from virtbackupd.drivers.qemu import launch, settle, turn
from virtbackupd.drivers.qemu.domain import QemuDomain
from virtbackupd.drivers.qemu.driver import QemuDriver
from virtbackupd.drivers.qemu.qmp import MonitorLost

XML = """<domain type='qemu'><name>plain</name><memory unit='MiB'>32</memory>
<os><type arch='x86_64' machine='q35'>hvm</type>{loader}</os><features><acpi/></features>{extra}
<devices>{devices}</devices></domain>"""
BROKEN_DISK = """<disk type='file'><driver name='qemu' type='qcow2'/><source file='/no/such/image'/>
<target dev='vda' bus='virtio'/></disk>"""
WRONG_OPTION = """<commandline xmlns='http://libvirt.org/schemas/domain/qemu/1.0'>
<arg value='-no-such-option'/></commandline>"""

_DEFINITIONS = (Lifecycle.DEFINED, Lifecycle.UNDEFINED)
Define = Callable[..., Awaitable[QemuDomain]]


class Heard:
    """What a driver tells of runs, as (event, detail); a reboot is a word."""

    def __init__(self) -> None:
        self.events: list[tuple[int, int] | str] = []
        self._changed = trio.Event()

    def hear(self, event: Event) -> None:
        if isinstance(event, DomainLifecycle) and event.event not in _DEFINITIONS:
            self.events.append((event.event, event.detail))
        elif isinstance(event, DomainReboot):
            self.events.append("reboot")
        self._changed.set()

    def _has(self, expected: list[tuple[int, int] | str]) -> bool:
        count = len(expected)
        return any(self.events[at : at + count] == expected for at in range(len(self.events)))

    async def wait_for(self, *expected: tuple[int, int] | str) -> None:
        with trio.fail_after(60):
            while not self._has(list(expected)):
                self._changed = trio.Event()
                await self._changed.wait()


@pytest.fixture
async def heard(qemu: QemuDriver) -> AsyncIterator[Heard]:
    heard = Heard()
    with qemu.events.subscribed(heard.hear):
        yield heard


@pytest.fixture
def define(qemu: QemuDriver, state_dir: Path) -> Define:
    firmware = loader(state_dir)

    async def define(extra: str = "", devices: str = "") -> QemuDomain:
        xml = XML.format(loader=firmware, extra=extra, devices=devices)
        ref = await qemu.domain_define_xml(xml)
        return qemu.domain_by_uuid(ref.uuid)

    return define


@pytest.fixture
async def plain(define: Define) -> QemuDomain:
    return await define()


RESUMED = (Lifecycle.RESUMED, ResumedDetail.UNPAUSED)
STARTED = (Lifecycle.STARTED, StartedDetail.BOOTED)
PAUSED = (Lifecycle.SUSPENDED, SuspendedDetail.PAUSED)


async def test_a_start_is_told_as_libvirt_tells_it(plain: QemuDomain, heard: Heard) -> None:
    await plain.create()
    assert heard.events == [RESUMED, STARTED]
    assert plain.get_state(0) == (DomainState.RUNNING, RunningReason.BOOTED)


async def test_a_paused_start_runs_nothing(plain: QemuDomain, heard: Heard) -> None:
    await plain.create_with_flags(Create.PAUSED)
    assert heard.events == [STARTED, PAUSED]
    assert plain.get_state(0) == (DomainState.PAUSED, PausedReason.USER)
    assert (await plain.monitor.execute("query-status"))["status"] == "prelaunch"


async def test_a_qemu_that_dies_amid_its_start_is_not_told_as_started(
    plain: QemuDomain, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die() -> None:
        run = plain.require_run()
        run.process.signal(signal.SIGKILL)
        await run.over.wait()

    monkeypatch.setattr(plain, "save_status", die)
    with pytest.raises(InternalError, match="ended while it was started"):
        await plain.create_with_flags(Create.PAUSED)
    assert STARTED not in heard.events
    assert plain.get_state(0) == (DomainState.SHUTOFF, ShutoffReason.CRASHED)


async def test_a_start_gives_an_id_that_is_never_used_again(plain: QemuDomain) -> None:
    first = (await plain.create_with_flags(0)).id
    await plain.destroy()
    assert (await plain.create_with_flags(0)).id == first + 1


async def test_what_runs_cannot_be_started(plain: QemuDomain) -> None:
    await plain.create()
    with pytest.raises(OperationInvalid, match="already running"):
        await plain.create()


async def test_pausing_and_going_on(plain: QemuDomain, heard: Heard) -> None:
    await plain.create()
    await plain.suspend()
    assert plain.get_state(0) == (DomainState.PAUSED, PausedReason.USER)
    await plain.resume()
    assert plain.get_state(0) == (DomainState.RUNNING, RunningReason.UNPAUSED)
    assert heard.events[2:] == [PAUSED, RESUMED]


async def test_pausing_twice_is_no_error(plain: QemuDomain, heard: Heard) -> None:
    await plain.create_with_flags(Create.PAUSED)
    await plain.suspend()
    assert heard.events[2:] == []


async def test_what_runs_cannot_be_resumed(plain: QemuDomain) -> None:
    await plain.create()
    with pytest.raises(OperationInvalid, match="already running"):
        await plain.resume()


async def test_a_pause_through_the_monitor_is_seen(plain: QemuDomain, heard: Heard) -> None:
    await plain.create()
    await plain.monitor_command("stop", 1)
    assert plain.get_state(0)[0] == DomainState.PAUSED
    assert heard.events[-1] == PAUSED


async def test_destroying(plain: QemuDomain, heard: Heard) -> None:
    await plain.create()
    await plain.destroy()
    assert heard.events[2:] == [
        (Lifecycle.SHUTDOWN, ShutdownDetail.HOST),
        (Lifecycle.STOPPED, StoppedDetail.DESTROYED),
    ]
    assert plain.get_state(0) == (DomainState.SHUTOFF, ShutoffReason.DESTROYED)
    assert plain.ref.id == -1


async def test_a_destroyed_domain_leaves_no_file_of_its_run(plain: QemuDomain) -> None:
    await plain.create()
    paths = plain.require_run().paths
    await plain.destroy()
    assert not paths.folder.exists()
    assert not plain.status.path.exists()


async def test_a_reset_is_told(plain: QemuDomain, heard: Heard) -> None:
    await plain.create()
    await plain.reset(0)
    await heard.wait_for("reboot")


async def test_a_guest_that_crashed_stands_still_after_a_reset(plain: QemuDomain) -> None:
    await plain.create_with_flags(Create.PAUSED)
    plain.enter(DomainState.CRASHED, 0)
    await plain.reset(0)
    assert plain.get_state(0) == (DomainState.PAUSED, PausedReason.CRASHED)


async def test_a_killed_qemu_has_crashed(plain: QemuDomain, heard: Heard) -> None:
    await plain.create()
    plain.require_run().process.signal(signal.SIGKILL)
    await heard.wait_for((Lifecycle.STOPPED, StoppedDetail.FAILED))
    assert plain.get_state(0) == (DomainState.SHUTOFF, ShutoffReason.CRASHED)


async def test_a_qemu_that_the_host_ends_has_shut_down(plain: QemuDomain, heard: Heard) -> None:
    await plain.create()
    plain.require_run().process.signal(signal.SIGTERM)
    await heard.wait_for(
        (Lifecycle.SHUTDOWN, ShutdownDetail.HOST), (Lifecycle.STOPPED, StoppedDetail.SHUTDOWN)
    )


async def test_a_guest_that_powers_off_ends_qemu(plain: QemuDomain, heard: Heard) -> None:
    await plain.create()
    await power_off(plain)
    await heard.wait_for(
        (Lifecycle.SHUTDOWN, ShutdownDetail.GUEST), (Lifecycle.STOPPED, StoppedDetail.SHUTDOWN)
    )
    assert plain.get_state(0) == (DomainState.SHUTOFF, ShutoffReason.SHUTDOWN)


async def test_a_reboot_starts_again_after_the_power_off(plain: QemuDomain, heard: Heard) -> None:
    await plain.create()
    await plain.reboot(0)
    await power_off(plain)
    await heard.wait_for(STARTED, "reboot")
    assert plain.get_state(0) == (DomainState.RUNNING, RunningReason.BOOTED)
    await until_it_runs(plain)


async def test_a_reboot_is_not_seen_as_an_end(plain: QemuDomain) -> None:
    """What lies between power-off and reset is nobody's business, as with libvirtd."""
    states = []
    for name in ("SHUTDOWN", "STOP", "RESET", "RESUME"):
        plain.on_event(name, lambda _: states.append(plain.state))
    await plain.create()
    await plain.reboot(0)
    states.clear()
    await power_off(plain)
    await until(lambda: len(states) >= 4)
    assert states == [DomainState.RUNNING] * 4


async def test_the_reason_of_a_reboot_is_not_that_of_a_later_resume(plain: QemuDomain) -> None:
    await plain.create()
    await plain.reboot(0)
    await power_off(plain)
    await until_it_runs(plain)
    for command in ("stop", "cont"):
        await plain.monitor_command(command, 1)
    assert plain.get_state(0) == (DomainState.RUNNING, RunningReason.UNPAUSED)


async def test_only_one_power_off_is_a_reboot(plain: QemuDomain, heard: Heard) -> None:
    await plain.create()
    await plain.reboot(0)
    await power_off(plain)
    await until_it_runs(plain)
    await power_off(plain)
    await heard.wait_for((Lifecycle.STOPPED, StoppedDetail.SHUTDOWN))


async def test_a_shutdown_takes_a_reboot_back(plain: QemuDomain, heard: Heard) -> None:
    await plain.create()
    await plain.reboot(0)
    await plain.shutdown()
    await power_off(plain)
    await heard.wait_for((Lifecycle.STOPPED, StoppedDetail.SHUTDOWN))


async def test_a_reset_takes_a_reboot_back(plain: QemuDomain, heard: Heard) -> None:
    await plain.create()
    await plain.reboot(0)
    await plain.reset(0)
    await heard.wait_for("reboot")
    await power_off(plain)
    await heard.wait_for((Lifecycle.STOPPED, StoppedDetail.SHUTDOWN))


async def test_a_call_that_is_at_work_comes_before_the_restart(plain: QemuDomain) -> None:
    await plain.create()
    await plain.reboot(0)
    async with plain.modify("virDomainManagedSave"):
        await power_off(plain)
        assert (await plain.monitor.execute("query-status"))["status"] == "shutdown"
    await until_it_runs(plain)


async def test_a_restart_is_not_given_up_for_a_long_call(
    plain: QemuDomain, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(turn, "PATIENCE", 0.05)
    await plain.create()
    await plain.reboot(0)
    async with plain.modify("virDomainManagedSave"):
        await power_off(plain)
        await until(lambda: "the restart of the guest cannot begin" in caplog.text)
    await until_it_runs(plain)


async def test_what_a_call_has_left_half_done_stops_no_restart(
    plain: QemuDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: QemuDomain) -> None:
        raise SystemFailure("no room")

    await plain.create()
    await plain.reboot(0)
    with monkeypatch.context() as patch:
        patch.setattr(settle, "settle", refuse)
        plain.unsettled = True
        await power_off(plain)
        await until_it_runs(plain)
        plain.unsettled = False


async def test_a_monitor_that_is_lost_amid_a_start_is_a_plain_refusal(
    plain: QemuDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(_: object) -> None:
        raise MonitorLost("gone")

    monkeypatch.setattr(launch, "_learn_threads", lose)
    with pytest.raises(InternalError, match="could not start domain"):
        await plain.create()


async def test_a_domain_may_start_again_by_itself(define: Define, heard: Heard) -> None:
    restarting = await define("<on_poweroff>restart</on_poweroff>")
    await restarting.create()
    await power_off(restarting)
    await heard.wait_for(STARTED, "reboot")
    await until_it_runs(restarting)


async def test_asking_for_a_shutdown_changes_nothing_by_itself(plain: QemuDomain) -> None:
    await plain.create()
    await plain.shutdown()
    assert plain.get_state(0)[0] == DomainState.RUNNING


async def test_an_agent_that_is_not_there_cannot_shut_down(plain: QemuDomain) -> None:
    await plain.create()
    with pytest.raises(ArgumentUnsupported, match="agent"):
        await plain.shutdown_flags(2)


@pytest.mark.parametrize("call", ["suspend", "resume", "shutdown", "destroy"])
async def test_what_does_not_run_refuses(plain: QemuDomain, call: str) -> None:
    with pytest.raises(OperationInvalid, match="not running"):
        await getattr(plain, call)()


async def test_a_start_that_fails_names_the_cause(define: Define, heard: Heard) -> None:
    broken = await define(devices=BROKEN_DISK)
    with pytest.raises(DriverError, match="/no/such/image"):
        await broken.create()
    assert heard.events == []
    assert broken.get_state(0)[0] == DomainState.SHUTOFF
    assert broken.ref.id == -1


async def test_a_qemu_that_does_not_start_is_quoted(define: Define) -> None:
    refused = await define(extra=WRONG_OPTION)
    with pytest.raises(InternalError, match="no-such-option"):
        await refused.create()
    assert list((refused.host.settings.root / "lib").iterdir()) == []


async def test_the_variables_of_the_firmware_are_renewed_when_asked(
    qemu: QemuDriver, state_dir: Path
) -> None:
    await trio.Path(state_dir / "code").write_bytes(bytes(1 << 20))
    code = f"<loader readonly='yes' type='pflash'>{state_dir}/code</loader>"
    flash = f"{code}<nvram template='{state_dir}/code'>{state_dir}/vars</nvram></os>"
    ref = await qemu.domain_define_xml(
        XML.format(loader="", extra="", devices="").replace("</os>", flash)
    )
    variables = trio.Path(state_dir / "vars")
    await variables.write_bytes(b"x" * (1 << 20))
    await qemu.domain_by_uuid(ref.uuid).create_with_flags(Create.RESET_NVRAM)
    assert await variables.read_bytes() == bytes(1 << 20)


async def test_a_transient_domain_vanishes(qemu: QemuDriver, heard: Heard) -> None:
    ref = await qemu.domain_create_xml(XML.format(loader="", extra="", devices=""), 0)
    await qemu.domain_by_uuid(ref.uuid).destroy()
    await heard.wait_for((Lifecycle.STOPPED, StoppedDetail.DESTROYED))
    await trio.testing.wait_all_tasks_blocked(0.05)
    assert qemu.list_all_domains(0) == []


async def test_a_transient_domain_that_cannot_start_vanishes(qemu: QemuDriver) -> None:
    with pytest.raises(DriverError):
        await qemu.domain_create_xml(XML.format(loader="", extra="", devices=BROKEN_DISK), 0)
    assert qemu.list_all_domains(0) == []


async def test_the_turn_is_not_waited_for_for_ever(
    plain: QemuDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn, "PATIENCE", 0.05)
    async with trio.open_nursery() as nursery:
        await nursery.start(_keep_turn, plain)
        with pytest.raises(OperationTimeout, match="virDomainManagedSave has been at work"):
            await plain.create()
        nursery.cancel_scope.cancel()


async def _keep_turn(
    domain: QemuDomain, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    async with domain.modify("virDomainManagedSave"):
        task_status.started()
        await trio.sleep_forever()


async def test_a_monitor_that_breaks_is_connected_again(plain: QemuDomain) -> None:
    await plain.create()
    run = plain.require_run()
    broken = run.monitor
    await broken.close()
    await until(lambda: run.monitor is not broken)
    assert (await plain.monitor.execute("query-status"))["running"]
