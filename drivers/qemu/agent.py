"""The guest agent: a conversation in JSON lines over the host's end of its channel.

Nothing that a guest sends is believed to be well formed, to be short or to come at all. A channel
carries one conversation at a time; each begins by getting back in step with the agent. What the
answers mean to libvirt's callers is in `guest_answers`.
"""

import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import trio

from virtbackupd.drivers.enums import DomainState
from virtbackupd.drivers.errors import (
    AgentUnresponsive,
    ArgumentUnsupported,
    InternalError,
    InvalidArgument,
    OperationInvalid,
)
from virtbackupd.drivers.events import TypedParameter
from virtbackupd.drivers.flags import check_none
from virtbackupd.drivers.json_commands import read_agent_command
from virtbackupd.drivers.qemu import guest_answers

if TYPE_CHECKING:
    from virtbackupd.drivers.qemu.domain import QemuDomain
    from virtbackupd.drivers.qemu.run import Run

Json: TypeAlias = dict[str, Any]

SYNC_DEADLINE: Final = 5.0
"""Seconds in which a living agent answers that it is there."""
COMMAND_DEADLINE: Final = 120.0
"""Seconds for what must wait for the guest's disks, such as freezing them."""
MAX_ANSWER: Final = 32 * 1024 * 1024
_BLOCK: Final = -2
"""VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK; -1 is its default, and we wait as long for both."""
_NOWAIT: Final = 0
_DELIMITER: Final = b"\xff"


class Conversation:
    """One connection to the agent, in step with it."""

    def __init__(self, stream: trio.SocketStream, domain_name: str) -> None:
        self._stream = stream
        self._name = domain_name
        self._pending = bytearray()

    async def synchronise(self) -> None:
        """Drop what earlier conversations left in the channel."""
        number = int.from_bytes(os.urandom(4))
        command = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
        with trio.move_on_after(SYNC_DEADLINE):
            await self._stream.send_all(_DELIMITER + _line(command))
            await self._read_until(_DELIMITER)
            while (await self._answer()).get("return") != number:
                continue
            return
        raise AgentUnresponsive(f"the guest agent of domain {self._name} does not answer")

    async def ask(self, command: Json, deadline: float) -> Json:
        """The whole answer, be it a result or a refusal."""
        with trio.move_on_after(deadline):
            await self._stream.send_all(_line(command))
            return await self._answer()
        raise AgentUnresponsive(
            f"the guest agent of domain {self._name} did not answer {command.get('execute')}"
            f" within {deadline:g} s"
        )

    async def send(self, command: Json) -> None:
        """Say something that is not answered."""
        with trio.fail_after(SYNC_DEADLINE):
            await self._stream.send_all(_line(command))

    async def _answer(self) -> Json:
        line = await self._read_until(b"\n")
        try:
            answer = json.loads(line.rpartition(_DELIMITER)[2])
        except (ValueError, RecursionError):
            raise InternalError(
                f"the guest agent of domain {self._name} sent something that is not JSON"
            ) from None
        return answer if isinstance(answer, dict) else {}

    async def _read_until(self, end: bytes) -> bytes:
        while (at := self._pending.find(end)) < 0:
            if len(self._pending) > MAX_ANSWER:
                raise InternalError(f"the guest agent of domain {self._name} sends without end")
            received = await self._stream.receive_some(65536)
            if not received:
                raise AgentUnresponsive(f"the guest agent of domain {self._name} is gone")
            self._pending += received
        found = bytes(self._pending[:at])
        del self._pending[: at + len(end)]
        return found


def _line(command: Json) -> bytes:
    return json.dumps(command).encode() + b"\n"


@asynccontextmanager
async def conversation(domain: "QemuDomain") -> AsyncIterator[Conversation]:
    """The agent, answering; nobody else talks to it meanwhile."""
    run = require_agent(domain)
    async with run.agent_lock:
        stream = await _connect(domain, run)
        async with stream:
            talk = Conversation(stream, domain.ref.name)
            try:
                await talk.synchronise()
                yield talk
            except trio.BrokenResourceError:
                raise AgentUnresponsive(
                    f"the guest agent of domain {domain.ref.name} is gone"
                ) from None


def require_agent(domain: "QemuDomain") -> "Run":
    """Refuse unless the guest runs and has an agent that listens."""
    run = domain.require_run()
    if domain.state != DomainState.RUNNING:
        raise OperationInvalid(f"domain {domain.ref.name} is paused, so its agent cannot answer")
    if run.agent_path is None:
        raise ArgumentUnsupported(
            f"domain {domain.ref.name} has no QEMU guest agent configured: add a channel named"
            " org.qemu.guest_agent.0"
        )
    if not run.agent_connected:
        raise AgentUnresponsive(
            f"the guest agent of domain {domain.ref.name} is not connected: see that it runs"
            " in the guest"
        )
    return run


async def _connect(domain: "QemuDomain", run: "Run") -> trio.SocketStream:
    try:
        return await trio.open_unix_socket(str(run.agent_path))
    except OSError as error:
        raise AgentUnresponsive(
            f"the agent channel of domain {domain.ref.name} cannot be used: {error.strerror}"
        ) from None


async def execute(
    domain: "QemuDomain",
    command: str,
    arguments: Json | None = None,
    *,
    deadline: float = COMMAND_DEADLINE,
) -> Any:  # noqa: ANN401 - whatever the command returns
    """One command's result; InternalError when the agent refuses it."""
    request: Json = {"execute": command}
    if arguments is not None:
        request["arguments"] = arguments
    async with conversation(domain) as talk:
        answer = await talk.ask(request, deadline)
    if "error" in answer:
        raise InternalError(
            f"unable to execute QEMU agent command {command!r}: {_reason(answer['error'])}"
        )
    return answer.get("return")


def _reason(error: object) -> str:
    return str(error.get("desc", "no reason given")) if isinstance(error, dict) else str(error)


async def shutdown(domain: "QemuDomain", mode: str) -> None:
    """Ask for a power-off or a reboot, to which the agent gives no answer when it obeys."""
    async with conversation(domain) as talk:
        request = {"execute": "guest-shutdown", "arguments": {"mode": mode}}
        await talk.send(request)


async def fsfreeze(domain: "QemuDomain", mountpoints: list[str], flags: int) -> int:
    """Freeze the named mount points, all when none is named; returns how many were frozen."""
    check_none(flags, "virDomainFSFreeze")
    if mountpoints:
        return _count(
            await execute(domain, "guest-fsfreeze-freeze-list", {"mountpoints": mountpoints})
        )
    return _count(await execute(domain, "guest-fsfreeze-freeze"))


async def fsthaw(domain: "QemuDomain", mountpoints: list[str], flags: int) -> int:
    """Thaw everything; libvirt takes no choice of mount points here."""
    check_none(flags, "virDomainFSThaw")
    if mountpoints:
        raise ArgumentUnsupported("thawing chosen mount points is not supported: name none")
    return _count(await execute(domain, "guest-fsfreeze-thaw"))


def _count(answer: object) -> int:
    if type(answer) is not int:
        raise InternalError("the guest agent did not say how many file systems it means")
    return answer


async def get_time(domain: "QemuDomain", flags: int) -> tuple[int, int]:
    """The guest's clock."""
    check_none(flags, "virDomainGetTime")
    return divmod(
        _count(await execute(domain, "guest-get-time", deadline=SYNC_DEADLINE)), 1_000_000_000
    )


async def guest_info(domain: "QemuDomain", types: int, flags: int) -> Sequence[TypedParameter]:
    """The groups named by `virDomainGuestInfoTypes` bits; with 0 those that the agent can tell."""
    check_none(flags, "virDomainGetGuestInfo")
    if unknown := types & ~guest_answers.ALL:
        raise InvalidArgument(f"unsupported guest information types 0x{unknown:x}")
    params: list[TypedParameter] = []
    for group in guest_answers.GROUPS:
        if types and not types & group.bit:
            continue
        try:
            answer = await execute(domain, group.command, deadline=SYNC_DEADLINE)
        except InternalError:
            if types:
                raise
            continue
        params += group.read(answer)
    return params


async def command(
    domain: "QemuDomain",
    cmd: str,
    timeout: int,  # noqa: ASYNC109 - the wire's argument
    flags: int,
) -> str:
    """Execute one JSON command as it is and return the answer as it is."""
    check_none(flags, "virDomainQemuAgentCommand")
    if timeout < _BLOCK:
        raise InvalidArgument(f"an agent timeout of {timeout} is below the minimum {_BLOCK}")
    require_agent(domain)
    request = read_agent_command(domain.ref.name, cmd)
    async with conversation(domain) as talk:
        answer = await talk.ask(request, _seconds(timeout))
    if "error" in answer:
        raise InternalError(
            f"unable to execute QEMU agent command {request['execute']!r}:"
            f" {_reason(answer['error'])}"
        )
    return json.dumps(answer)


def _seconds(timeout: int) -> float:
    if timeout == _NOWAIT:
        return SYNC_DEADLINE
    return COMMAND_DEADLINE if timeout < 0 else float(timeout)
