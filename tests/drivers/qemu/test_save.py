"""Managed save: a guest's memory goes to a file and comes back."""

from pathlib import Path

import pytest

from virtbackupd.drivers.enums import Create, DomainState, RunningReason, ShutoffReason
from virtbackupd.drivers.errors import OperationFailed, OperationInvalid, SystemFailure
from virtbackupd.drivers.qemu.domain import QemuDomain
from virtbackupd.drivers.qemu.save import save_path


async def _write_memory(guest: QemuDomain) -> None:
    """Into the clock's battery-backed memory, which is part of the machine's state."""
    await guest.monitor_command("o /b 0x70 0x40", 1)
    await guest.monitor_command("o /b 0x71 0x5a", 1)


async def test_a_saved_domain_is_shut_off(guest: QemuDomain) -> None:
    await guest.managed_save(0)
    assert guest.get_state(0) == (DomainState.SHUTOFF, ShutoffReason.SAVED)
    assert guest.has_managed_save_image(0)


async def test_a_start_goes_on_where_the_save_was(guest: QemuDomain) -> None:
    await guest.suspend()
    await _write_memory(guest)
    await guest.managed_save(0)
    await guest.create()
    await guest.monitor_command("o /b 0x70 0x40", 1)
    assert "0x5a" in await guest.monitor_command("i /b 0x71", 1)


async def test_a_restored_domain_runs_and_the_image_is_used_up(guest: QemuDomain) -> None:
    await guest.managed_save(0)
    await guest.create()
    assert guest.get_state(0) == (DomainState.RUNNING, RunningReason.RESTORED)
    assert not guest.has_managed_save_image(0)
    assert not save_path(guest).exists()


async def test_a_paused_domain_comes_back_paused(guest: QemuDomain) -> None:
    await guest.suspend()
    await guest.managed_save(0)
    await guest.create()
    assert guest.get_state(0)[0] == DomainState.PAUSED


async def test_bitmaps_survive_a_save(guest: QemuDomain) -> None:
    parts = "<name>c1</name><disks><disk name='vda'/></disks>"
    await guest.checkpoint_create_xml(f"<domaincheckpoint>{parts}</domaincheckpoint>", 0)
    await guest.managed_save(0)
    await guest.create()
    await guest.checkpoint_delete("c1", 0)


async def test_a_forced_boot_throws_the_image_away(guest: QemuDomain) -> None:
    await guest.managed_save(0)
    await guest.create_with_flags(Create.FORCE_BOOT)
    assert guest.get_state(0) == (DomainState.RUNNING, RunningReason.BOOTED)
    assert not guest.has_managed_save_image(0)


async def test_an_image_can_be_removed(guest: QemuDomain) -> None:
    await guest.managed_save(0)
    await guest.managed_save_remove(0)
    assert not save_path(guest).exists()
    assert not guest.has_managed_save_image(0)
    with pytest.raises(SystemFailure):
        await guest.managed_save_remove(0)


async def test_a_domain_with_an_image_is_not_undefined(guest: QemuDomain) -> None:
    await guest.managed_save(0)
    with pytest.raises(OperationInvalid, match="MANAGED_SAVE"):
        await guest.undefine()


async def test_a_damaged_image_is_named(guest: QemuDomain) -> None:
    await guest.managed_save(0)
    save_path(guest).write_text("something else\n")
    with pytest.raises(OperationFailed, match=r"guest\.save"):
        await guest.create()
    assert guest.get_state(0)[0] == DomainState.SHUTOFF


async def test_a_cut_image_leaves_the_domain_shut_off(guest: QemuDomain) -> None:
    await guest.managed_save(0)
    path = save_path(guest)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(OperationFailed):
        await guest.create()
    assert guest.get_state(0)[0] == DomainState.SHUTOFF
    assert path.exists()


async def test_a_save_that_fails_lets_the_guest_run_on(guest: QemuDomain, state_dir: Path) -> None:
    folder = state_dir / "qemu" / "save"
    folder.rmdir()
    with pytest.raises(Exception, match=r"guest\.new"):
        await guest.managed_save(0)
    assert guest.get_state(0)[0] == DomainState.RUNNING
