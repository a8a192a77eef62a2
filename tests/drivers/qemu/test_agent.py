"""Conversations with a guest agent: one that answers, and others that do not."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from waiting import until

from virtbackupd.drivers.errors import (
    AgentUnresponsive,
    ArgumentUnsupported,
    InternalError,
    OperationInvalid,
)
from virtbackupd.drivers.qemu import agent
from virtbackupd.drivers.qemu.domain import QemuDomain

ANSWERS: dict[str, Any] = {
    "guest-ping": {},
    "guest-fsfreeze-freeze": 2,
    "guest-fsfreeze-freeze-list": 1,
    "guest-fsfreeze-thaw": 2,
    "guest-get-time": 1_700_000_000_500_000_000,
    "guest-get-host-name": {"host-name": "inside"},
    "guest-get-users": [{"user": "root", "login-time": 1.5}],
}

Serve = Callable[..., Awaitable[None]]


class FakeAgent:
    """Speaks the agent's protocol at the guest's end of a channel."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.heard: list[dict[str, Any]] = []
        self.noise = b""
        self.silent = False

    async def serve(self, stream: trio.SocketStream) -> None:
        pending = b""
        async for data in stream:
            pending += data
            while b"\n" in pending:
                line, _, pending = pending.partition(b"\n")
                await self._answer(stream, json.loads(line.lstrip(b"\xff")))

    async def _answer(self, stream: trio.SocketStream, request: dict[str, Any]) -> None:
        self.heard.append(request)
        if self.silent:
            return
        name = request["execute"]
        if name == "guest-sync-delimited":
            answer = {"return": request["arguments"]["id"]}
            await stream.send_all(self.noise + b"\xff" + json.dumps(answer).encode() + b"\n")
        elif name in self.answers:
            await stream.send_all(json.dumps({"return": self.answers[name]}).encode() + b"\n")
        elif name != "guest-shutdown":
            error = {"class": "CommandNotFound", "desc": f"{name} is unknown"}
            await stream.send_all(json.dumps({"error": error}).encode() + b"\n")


@pytest.fixture
def fake() -> FakeAgent:
    return FakeAgent(dict(ANSWERS))


@pytest.fixture
async def talking(guest: QemuDomain, fake: FakeAgent, state_dir: Path) -> AsyncIterator[QemuDomain]:
    """A running domain whose agent is the fake one."""
    path = state_dir / "qga"
    sock = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    await sock.bind(str(path))
    sock.listen()
    run = guest.require_run()
    run.agent_path, run.agent_connected = str(path), True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, fake.serve, [trio.SocketListener(sock)])
        yield guest
        nursery.cancel_scope.cancel()


async def test_a_command_is_passed_on_as_it_is(talking: QemuDomain) -> None:
    assert await talking.agent_command('{"execute":"guest-ping"}', -1, 0) == '{"return": {}}'


async def test_a_refusal_has_the_words_of_the_agent(talking: QemuDomain) -> None:
    with pytest.raises(InternalError, match="guest-dance is unknown"):
        await talking.agent_command('{"execute":"guest-dance"}', -1, 0)


async def test_what_is_no_command_is_refused(talking: QemuDomain) -> None:
    with pytest.raises(InternalError, match="not JSON"):
        await talking.agent_command("dance", -1, 0)


async def test_freezing_tells_how_many(talking: QemuDomain) -> None:
    assert await talking.fsfreeze([], 0) == 2
    assert await talking.fsthaw([], 0) == 2


async def test_freezing_some_names_them(talking: QemuDomain, fake: FakeAgent) -> None:
    assert await talking.fsfreeze(["/"], 0) == 1
    assert fake.heard[-1]["arguments"] == {"mountpoints": ["/"]}


async def test_thawing_takes_no_choice(talking: QemuDomain) -> None:
    with pytest.raises(ArgumentUnsupported):
        await talking.fsthaw(["/"], 0)


async def test_the_time_is_split(talking: QemuDomain) -> None:
    assert await talking.get_time(0) == (1_700_000_000, 500_000_000)


async def test_the_information_that_there_is_is_told(talking: QemuDomain) -> None:
    found = {param.field: param.value for param in await talking.get_guest_info(0, 0)}
    assert found["hostname"] == "inside"
    assert found["user.0.login-time"] == 1500


async def test_information_that_was_asked_for_must_be_there(talking: QemuDomain) -> None:
    with pytest.raises(InternalError, match="guest-get-osinfo"):
        await talking.get_guest_info(2, 0)


async def test_leftovers_of_earlier_talks_are_dropped(talking: QemuDomain, fake: FakeAgent) -> None:
    fake.noise = b'{"return": 17}\n'
    assert await talking.agent_command('{"execute":"guest-ping"}', -1, 0) == '{"return": {}}'


async def test_a_shutdown_waits_for_no_answer(talking: QemuDomain, fake: FakeAgent) -> None:
    await talking.shutdown_flags(2)
    await until(lambda: fake.heard[-1]["execute"] == "guest-shutdown")
    assert fake.heard[-1]["arguments"] == {"mode": "powerdown"}


async def test_a_shutdown_through_the_agent_takes_a_reboot_back(talking: QemuDomain) -> None:
    await talking.reboot(1)
    assert talking.require_run().reboots
    await talking.shutdown_flags(2)
    assert not talking.require_run().reboots


async def test_an_agent_that_is_silent_is_given_up(
    talking: QemuDomain, fake: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "SYNC_DEADLINE", 0.1)
    fake.silent = True
    with pytest.raises(AgentUnresponsive, match="does not answer"):
        await talking.agent_command('{"execute":"guest-ping"}', -1, 0)


async def test_an_agent_that_is_not_connected_is_not_asked(talking: QemuDomain) -> None:
    talking.require_run().agent_connected = False
    with pytest.raises(AgentUnresponsive, match="not connected"):
        await talking.fsfreeze([], 0)


async def test_a_paused_guest_cannot_answer(talking: QemuDomain) -> None:
    await talking.suspend()
    with pytest.raises(OperationInvalid, match="paused"):
        await talking.fsfreeze([], 0)


async def test_without_a_channel_there_is_no_agent(guest: QemuDomain) -> None:
    with pytest.raises(ArgumentUnsupported, match=r"org\.qemu\.guest_agent\.0"):
        await guest.fsfreeze([], 0)
