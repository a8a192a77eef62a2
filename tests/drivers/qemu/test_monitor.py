"""What users say to the monitor of a real QEMU."""

import json

import pytest

from virtbackupd.drivers.errors import (
    InternalError,
    InvalidArgument,
    OperationInvalid,
    UnsupportedFlags,
)
from virtbackupd.drivers.qemu.domain import QemuDomain

HMP = 1


async def test_a_json_command_is_answered_whole(guest: QemuDomain) -> None:
    answer = json.loads(await guest.monitor_command('{"execute":"query-status"}', 0))
    assert answer["return"]["status"] == "running"


async def test_a_refusal_is_an_answer_too(guest: QemuDomain) -> None:
    answer = json.loads(await guest.monitor_command('{"execute":"dance"}', 0))
    assert answer["error"]["class"] == "CommandNotFound"


async def test_a_line_for_humans_is_answered_with_text(guest: QemuDomain) -> None:
    assert "VM status: running" in await guest.monitor_command("info status", HMP)


async def test_a_disk_is_written_by_its_target(guest: QemuDomain) -> None:
    await guest.monitor_command('qemu-io vda "write -P 0xab 0 64k"', HMP)
    assert "error" not in await guest.monitor_command('qemu-io vda "read -P 0xab 0 64k"', HMP)


async def test_what_qemu_io_finds_wrong_is_said(guest: QemuDomain) -> None:
    answer = await guest.monitor_command('qemu-io vdz "read 0 64k"', HMP)
    assert "vdz" in answer


async def test_a_target_works_inside_json_as_well(guest: QemuDomain) -> None:
    line = 'qemu-io vda "write -P 1 0 64k"'
    command = {"execute": "human-monitor-command", "arguments": {"command-line": line}}
    assert "Error" not in await guest.monitor_command(json.dumps(command), 0)


async def test_what_is_not_json_is_refused(guest: QemuDomain) -> None:
    with pytest.raises(InternalError, match="not JSON"):
        await guest.monitor_command("info status", 0)


async def test_unknown_flags_are_refused(guest: QemuDomain) -> None:
    with pytest.raises(UnsupportedFlags):
        await guest.monitor_command("info status", 2)


async def test_a_nul_byte_is_refused(guest: QemuDomain) -> None:
    with pytest.raises(InvalidArgument):
        await guest.monitor_command("info\0status", HMP)


async def test_what_does_not_run_has_no_monitor(guest: QemuDomain) -> None:
    await guest.destroy()
    with pytest.raises(OperationInvalid):
        await guest.monitor_command("info status", HMP)
