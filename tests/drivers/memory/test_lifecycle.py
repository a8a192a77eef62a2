"""What the in-memory domain adds to the contract's life cycle: buttons, counters, media."""

import pytest

from virtbackupd.drivers.enums import DomainState
from virtbackupd.drivers.errors import (
    ArgumentUnsupported,
    OperationInvalid,
    SystemFailure,
    UnsupportedFlags,
)
from virtbackupd.drivers.events import DomainLifecycle, DomainReboot, Event
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.host import Host

AGENT, ACPI = 2, 1
FORCE_BOOT, PAUSED = 8, 1
SAVE_RUNNING, SAVE_PAUSED = 2, 4


async def redefined(guest: MemoryDomain, old: str, new: str) -> None:
    """Change the persistent definition and start the guest with it."""
    assert guest.persistent is not None
    xml = guest.persistent.to_xml().replace(old, new)
    guest.persistent = type(guest.persistent).parse(xml)
    guest.destroy()
    await guest.create()


async def test_shutdown_of_a_paused_guest_waits(guest: MemoryDomain) -> None:
    guest.suspend()
    guest.shutdown()
    assert guest.state == DomainState.PAUSED
    guest.resume()
    assert guest.state == DomainState.SHUTOFF


async def test_reset_forgets_the_power_button(guest: MemoryDomain) -> None:
    guest.suspend()
    guest.shutdown()
    guest.reset(0)
    guest.resume()
    assert guest.state == DomainState.RUNNING


async def test_shutdown_can_mean_restart(guest: MemoryDomain, events: list[Event]) -> None:
    await redefined(guest, "<devices>", "<on_poweroff>restart</on_poweroff><devices>")
    events.clear()
    guest.shutdown()
    assert guest.state == DomainState.RUNNING
    assert [type(event) for event in events] == [DomainReboot]


async def test_reboot_can_mean_stop(guest: MemoryDomain) -> None:
    await redefined(guest, "<devices>", "<on_reboot>destroy</on_reboot><devices>")
    guest.reboot(0)
    assert guest.state == DomainState.SHUTOFF


async def test_shutdown_through_a_missing_agent(mute_guest: MemoryDomain) -> None:
    with pytest.raises(ArgumentUnsupported):
        mute_guest.shutdown_flags(AGENT)
    mute_guest.shutdown_flags(AGENT | ACPI)


async def test_unknown_flags(guest: MemoryDomain) -> None:
    for call in (guest.shutdown_flags, guest.reboot, guest.reset, guest.destroy_flags):
        with pytest.raises(UnsupportedFlags):
            call(64)


async def test_unknown_flags_of_start_come_before_the_state(guest: MemoryDomain) -> None:
    assert guest.active
    with pytest.raises(UnsupportedFlags):
        await guest.create_with_flags(64)


async def test_suspending_twice_tells_once(guest: MemoryDomain, events: list[Event]) -> None:
    events.clear()
    guest.suspend()
    guest.suspend()
    assert len(events) == 1


async def test_start_after_force_boot_is_a_boot(guest: MemoryDomain) -> None:
    guest.managed_save(0)
    await guest.create_with_flags(FORCE_BOOT)
    assert guest.get_state(0) == (1, 1)


@pytest.mark.parametrize(
    ("pause_first", "flags", "expected"),
    [(False, 0, 1), (False, SAVE_PAUSED, 3), (True, 0, 3), (True, SAVE_RUNNING, 1)],
)
async def test_saved_state_remembers_whether_to_run(
    guest: MemoryDomain, pause_first: bool, flags: int, expected: int
) -> None:
    if pause_first:
        guest.suspend()
    guest.managed_save(flags)
    await guest.create()
    assert guest.state == expected


async def test_saved_state_can_be_thrown_away(guest: MemoryDomain) -> None:
    guest.managed_save(0)
    guest.managed_save_remove(0)
    assert guest.has_managed_save_image(0) == 0
    with pytest.raises(SystemFailure):
        guest.managed_save_remove(0)


async def test_transient_guest_cannot_be_saved(guest: MemoryDomain) -> None:
    guest.undefine()
    with pytest.raises(OperationInvalid):
        guest.managed_save(0)


async def test_counters_begin_anew_with_each_run(guest: MemoryDomain) -> None:
    guest.monitor_command('qemu-io vda "write 0 64k"', 1)
    assert guest.block_stats("vda").write_requests == 1
    guest.destroy()
    await guest.create()
    assert guest.block_stats("vda").write_requests == 0


async def test_contents_outlive_a_run(guest: MemoryDomain) -> None:
    guest.monitor_command('qemu-io vda "write -P 0x42 0 64k"', 1)
    guest.destroy()
    await guest.create()
    image = guest.disk_image("vda")
    assert image is not None
    assert image.read(0, 4) == b"\x42" * 4


async def test_stop_is_told_with_the_id_gone(guest: MemoryDomain, events: list[Event]) -> None:
    guest.destroy()
    event = events[-1]
    assert isinstance(event, DomainLifecycle)
    assert event.domain.id == -1


async def test_stopped_transient_guest_is_forgotten(guest: MemoryDomain, host: Host) -> None:
    guest.undefine()
    guest.destroy()
    assert len(host.domains) == 0
