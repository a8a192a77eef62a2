"""Talking to domains of the in-memory hypervisor in this process: monitors, control commands."""

from collections.abc import Awaitable
from typing import Any

from virtbackupd.drivers.memory.domain import MemoryDomain


def at_once(answer: str | Awaitable[str]) -> str:
    """What a monitor answers without a wait."""
    assert isinstance(answer, str)
    return answer


async def control(domain: MemoryDomain, command: str, /, **arguments: Any) -> Any:  # noqa: ANN401 - as JSON says it
    """What a control command answers."""
    answer = domain.control(command, arguments)
    return await answer if isinstance(answer, Awaitable) else answer


def ranges(*found: tuple[int, int]) -> list[dict[str, int]]:
    """As answers show offsets with their lengths."""
    return [{"offset": offset, "length": length} for offset, length in found]
