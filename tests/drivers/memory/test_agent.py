"""The guest agent: freezing, information, commands, and when it does not answer."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from virtbackupd.drivers.enums import DomainState
from virtbackupd.drivers.errors import (
    ArgumentUnsupported,
    InternalError,
    InvalidArgument,
    OperationInvalid,
    Origin,
    UnsupportedFlags,
)
from virtbackupd.drivers.memory import agent, guest_info
from virtbackupd.drivers.memory.domain import MemoryDomain

CALLS: list[Callable[[MemoryDomain], object]] = [
    lambda guest: agent.fsfreeze(guest, [], 0),
    lambda guest: agent.fsthaw(guest, [], 0),
    lambda guest: agent.guest_info(guest, 0, 0),
    lambda guest: agent.get_time(guest, 0),
    lambda guest: agent.command(guest, '{"execute": "guest-ping"}', -1, 0),
]


def execute(guest: MemoryDomain, name: str, **arguments: object) -> Any:  # noqa: ANN401 - JSON
    request = {"execute": name, "arguments": arguments}
    return json.loads(agent.command(guest, json.dumps(request), -2, 0))["return"]


def info(guest: MemoryDomain, types: int = 0) -> dict[str, object]:
    return {param.field: param.value for param in agent.guest_info(guest, types, 0)}


@pytest.mark.parametrize("call", CALLS)
async def test_an_inactive_domain_has_no_agent(
    guest: MemoryDomain, call: Callable[[MemoryDomain], object]
) -> None:
    guest.destroy()
    with pytest.raises(OperationInvalid) as refusal:
        call(guest)
    assert refusal.value.origin is Origin.DOMAIN


@pytest.mark.parametrize("call", CALLS)
async def test_a_paused_guest_cannot_answer(
    guest: MemoryDomain, call: Callable[[MemoryDomain], object]
) -> None:
    guest.suspend()
    with pytest.raises(OperationInvalid, match="paused"):
        call(guest)


@pytest.mark.parametrize("call", CALLS)
async def test_without_a_channel_there_is_no_agent(
    mute_guest: MemoryDomain, call: Callable[[MemoryDomain], object]
) -> None:
    with pytest.raises(ArgumentUnsupported, match="no QEMU guest agent configured"):
        call(mute_guest)


async def test_no_call_knows_flags(guest: MemoryDomain) -> None:
    with pytest.raises(UnsupportedFlags):
        agent.fsfreeze(guest, [], 1)


async def test_freezing_counts_file_systems_and_thawing_too(guest: MemoryDomain) -> None:
    assert agent.fsfreeze(guest, [], 0) == 2
    assert guest.frozen == {"/", "/mnt/vdb"}
    assert agent.fsthaw(guest, [], 0) == 2
    assert guest.frozen == set()


async def test_chosen_mount_points_are_frozen(guest: MemoryDomain) -> None:
    assert agent.fsfreeze(guest, ["/mnt/vdb", "/nowhere"], 0) == 1


async def test_freezing_twice_is_refused(guest: MemoryDomain) -> None:
    agent.fsfreeze(guest, [], 0)
    with pytest.raises(InternalError, match="thaw them first"):
        agent.fsfreeze(guest, [], 0)


async def test_thawing_what_is_thawed_is_no_error(guest: MemoryDomain) -> None:
    assert agent.fsthaw(guest, [], 0) == 0


async def test_thawing_takes_no_choice(guest: MemoryDomain) -> None:
    with pytest.raises(ArgumentUnsupported):
        agent.fsthaw(guest, ["/"], 0)


async def test_a_restart_forgets_what_was_frozen(guest: MemoryDomain) -> None:
    agent.fsfreeze(guest, [], 0)
    guest.destroy()
    await guest.create()
    assert guest.frozen == set()


async def test_all_information(guest: MemoryDomain) -> None:
    fields = info(guest)
    assert fields["hostname"] == "guest"
    assert fields["os.id"] == "virtbackupd"
    assert fields["timezone.offset"] == 0
    assert fields["fs.1.mountpoint"] == "/mnt/vdb"
    assert fields["fs.0.total-bytes"] == 4 * 1024 * 1024
    assert fields["if.0.hwaddr"] == "52:54:00:00:00:01"
    assert fields["disk.count"] == 2


@pytest.mark.parametrize(
    ("types", "first"),
    [
        (1, "user.count"),
        (2, "os.id"),
        (4, "timezone.name"),
        (8, "hostname"),
        (16, "fs.count"),
        (32, "disk.count"),
        (64, "if.count"),
    ],
)
async def test_one_kind_of_information(guest: MemoryDomain, types: int, first: str) -> None:
    assert next(iter(info(guest, types))) == first


async def test_unknown_kinds_are_refused(guest: MemoryDomain) -> None:
    with pytest.raises(InvalidArgument, match="0x80"):
        agent.guest_info(guest, guest_info.ALL + 1, 0)


async def test_the_guests_clock_is_the_hosts(guest: MemoryDomain) -> None:
    """To a microsecond: a float holds no more of the time of today."""
    before = time.time_ns() // 1000
    seconds, nanoseconds = agent.get_time(guest, 0)
    told = seconds * 10**6 + nanoseconds // 1000
    assert before - 1 <= told <= time.time_ns() // 1000 + 1


async def test_ping(guest: MemoryDomain) -> None:
    assert agent.command(guest, '{"execute": "guest-ping"}', -1, 0) == '{"return": {}}'


@pytest.mark.parametrize("name", ["guest-sync", "guest-sync-delimited"])
async def test_sync_returns_its_number(guest: MemoryDomain, name: str) -> None:
    assert execute(guest, name, id=42) == 42


async def test_info_lists_the_commands(guest: MemoryDomain) -> None:
    names = {row["name"] for row in execute(guest, "guest-info")["supported_commands"]}
    assert {"guest-ping", "guest-fsfreeze-freeze"} <= names


async def test_freezing_by_command(guest: MemoryDomain) -> None:
    assert execute(guest, "guest-fsfreeze-status") == "thawed"
    assert execute(guest, "guest-fsfreeze-freeze-list", mountpoints=["/"]) == 1
    assert execute(guest, "guest-fsfreeze-status") == "frozen"
    assert execute(guest, "guest-fsfreeze-thaw") == 1
    assert execute(guest, "guest-fsfreeze-freeze") == 2


async def test_a_frozen_guest_answers_little(guest: MemoryDomain) -> None:
    execute(guest, "guest-fsfreeze-freeze")
    assert execute(guest, "guest-ping") == {}
    with pytest.raises(InternalError, match=r"guest-get-osinfo.*frozen"):
        execute(guest, "guest-get-osinfo")


async def test_information_by_command(guest: MemoryDomain) -> None:
    assert execute(guest, "guest-get-host-name") == {"host-name": "guest"}
    assert execute(guest, "guest-get-timezone") == {"zone": "UTC", "offset": 0}
    assert execute(guest, "guest-get-osinfo")["id"] == "virtbackupd"
    assert execute(guest, "guest-get-fsinfo")[0]["mountpoint"] == "/"
    assert execute(guest, "guest-get-time") > 0


async def test_shutdown_by_command(guest: MemoryDomain) -> None:
    execute(guest, "guest-shutdown")
    assert guest.state == DomainState.SHUTOFF


async def test_reboot_by_command(guest: MemoryDomain) -> None:
    execute(guest, "guest-shutdown", mode="reboot")
    assert guest.state == DomainState.RUNNING


@pytest.mark.parametrize(
    "command",
    [
        "{",
        "[" * 100_000,
        "[]",
        "{}",
        '{"execute": 1}',
        '{"execute": "guest-ping", "arguments": 1}',
        '{"execute": "guest-none"}',
        '{"execute": "guest-sync"}',
        '{"execute": "guest-fsfreeze-freeze-list", "arguments": {"mountpoints": 1}}',
    ],
)
async def test_faulty_commands(guest: MemoryDomain, command: str) -> None:
    with pytest.raises(InternalError):
        agent.command(guest, command, 0, 0)


async def test_a_timeout_below_the_minimum_is_refused(guest: MemoryDomain) -> None:
    with pytest.raises(InvalidArgument, match="-3"):
        agent.command(guest, "{}", -3, 0)


async def test_the_guest_s_clock_is_the_daemon_s(guest: MemoryDomain) -> None:
    guest.clock.stop()
    guest.clock.set_time(1_000_000.5)
    assert agent.get_time(guest, 0) == (1_000_000, 500_000_000)
