"""Control commands through the monitor: as JSON, and as lines for humans."""

import json
from collections.abc import Awaitable
from typing import Any

import pytest

from virtbackupd.drivers.errors import InvalidArgument, OperationInvalid
from virtbackupd.drivers.memory import control_commands
from virtbackupd.drivers.memory.control import UnknownCommand
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.driver import MemoryDriver
from virtbackupd.drivers.memory.monitor import HMP

MIB = 1 << 20


async def answered(guest: MemoryDomain, command: str, flags: int) -> str:
    answer = guest.monitor_command(command, flags)
    return await answer if isinstance(answer, Awaitable) else answer


async def qmp(guest: MemoryDomain, name: str, **arguments: object) -> Any:  # noqa: ANN401 - JSON
    request = {"execute": f"x-virtbackupd-{name}", "arguments": arguments, "id": 7}
    answer = json.loads(await answered(guest, json.dumps(request), 0))
    assert answer.pop("id") == 7
    return answer


async def hmp(guest: MemoryDomain, line: str) -> str:
    return await answered(guest, f"x-virtbackupd {line}".rstrip(), HMP)


async def test_a_command_that_answers_at_once(guest: MemoryDomain) -> None:
    assert await qmp(guest, "guest-zero", disk="vda", offset=0, length=10) == {
        "return": {"written": 10}
    }


async def test_a_command_that_waits(guest: MemoryDomain) -> None:
    found = await qmp(guest, "checksum", disk="vda")
    assert found["return"]["bytes"] == 4 * MIB


async def test_a_refusal_at_once_and_after_a_wait(guest: MemoryDomain) -> None:
    at_once = await qmp(guest, "guest-zero", disk="vdz", offset=0, length=1)
    later = await qmp(guest, "compare", disk="vda", path="/nonexistent/image")
    for answer, text in ((at_once, "no disk 'vdz'"), (later, "no file with contents")):
        assert answer["error"]["class"] == "GenericError"
        assert text in answer["error"]["desc"]


async def test_an_unknown_command_lists_the_known_ones(guest: MemoryDomain) -> None:
    error = (await qmp(guest, "dance"))["error"]
    assert error["class"] == "CommandNotFound"
    assert "known are: bitmap-inconsistent, " in error["desc"]
    assert "guest-write" in error["desc"]


async def test_an_unknown_argument_lists_the_known_ones(guest: MemoryDomain) -> None:
    refusal = (await qmp(guest, "guest-zero", ofset=1))["error"]["desc"]
    assert refusal.endswith("`ofset`; it takes disk, offset, length")


async def test_query_commands_lists_every_command(guest: MemoryDomain) -> None:
    listed = json.loads(await answered(guest, '{"execute": "query-commands"}', 0))["return"]
    names = {entry["name"] for entry in listed}
    assert {f"x-virtbackupd-{name}" for name in control_commands.commands()} <= names


async def test_a_line_with_arguments(guest: MemoryDomain) -> None:
    answer = await hmp(guest, "guest-write disk=vda offset=1M length=64k byte=7")
    assert answer == '{"written": 65536}\r\n'


async def test_a_line_that_waits(guest: MemoryDomain) -> None:
    assert json.loads(await hmp(guest, "checksum disk=vda"))["bytes"] == 4 * MIB


async def test_a_line_within_json(guest: MemoryDomain) -> None:
    line = {"command-line": "x-virtbackupd checksum disk=vda"}
    request = {"execute": "human-monitor-command", "arguments": line}
    answer = json.loads(await answered(guest, json.dumps(request), 0))
    assert json.loads(answer["return"])["bytes"] == 4 * MIB


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "a control command expected"),
        ("dance", "Error: there is no control command 'dance'"),
        ("guest-zero vda", "Error: 'vda' is not an argument: write KEY=VALUE"),
        ("guest-zero disk=vda", "Error: control command guest-zero: "),
        ("snapshot-list name=a", "Error: control command snapshot-list: Object contains unknown"),
        ("compare disk=vda path=/nonexistent/image", "Error: path: /nonexistent/image is no file"),
        ("guest-zero disk=vda length=1 offset=" + "[" * 5000, "Error: offset: "),
    ],
)
async def test_lines_that_make_no_sense(guest: MemoryDomain, line: str, complaint: str) -> None:
    assert (await hmp(guest, line)).startswith((complaint, f"x-virtbackupd: {complaint}"))


async def test_help_names_the_line(guest: MemoryDomain) -> None:
    assert "x-virtbackupd -- COMMAND" in await answered(guest, "help", HMP)


async def test_every_command_is_described(guest: MemoryDomain) -> None:
    described = MemoryDriver(guest.host).control_commands()
    assert described.keys() == control_commands.commands().keys()
    assert all(each.about.endswith(".") for each in described.values())


async def test_the_driver_runs_commands_on_a_domain(guest: MemoryDomain) -> None:
    driver = MemoryDriver(guest.host)
    arguments = {"disk": "vda", "offset": 0, "length": 1}
    assert driver.control(guest.ref.uuid, "guest-zero", arguments) == {"written": 1}


async def test_a_command_on_a_domain_asks_for_one(guest: MemoryDomain) -> None:
    driver = MemoryDriver(guest.host)
    with pytest.raises(InvalidArgument, match="works on a domain: name one"):
        driver.control(None, "guest-zero", {"disk": "vda", "offset": 0, "length": 1})


async def test_an_unknown_command_is_an_invalid_argument_of_its_own_kind(
    guest: MemoryDomain,
) -> None:
    with pytest.raises(UnknownCommand):
        MemoryDriver(guest.host).control(None, "dance", {})


@pytest.mark.parametrize("arguments", [None, [], "x", 5])
async def test_arguments_are_an_object(guest: MemoryDomain, arguments: object) -> None:
    with pytest.raises(InvalidArgument, match="control command clock: "):
        MemoryDriver(guest.host).control(None, "clock", arguments)


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ('{"execute": "x-virtbackupd-snapshot-list"}', 0),
        ("x-virtbackupd snapshot-list", HMP),
    ],
)
async def test_a_domain_that_is_off_takes_control_commands(
    guest: MemoryDomain, command: str, flags: int
) -> None:
    guest.destroy()
    assert '"snapshots": []' in await answered(guest, command, flags)


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ('{"execute": "query-status"}', 0),
        ('{"execute": "query-status", "id": "x-virtbackupd-clock"}', 0),
        ("[" * 5000 + "x-virtbackupd-clock", 0),
        ('["x-virtbackupd-clock"]', 0),
        ("info status", HMP),
        ("", HMP),
    ],
    ids=["json", "other-member", "no-json", "no-object", "line", "empty"],
)
async def test_a_domain_that_is_off_has_no_qemu(
    guest: MemoryDomain, command: str, flags: int
) -> None:
    guest.destroy()
    with pytest.raises(OperationInvalid, match="not running"):
        await answered(guest, command, flags)
