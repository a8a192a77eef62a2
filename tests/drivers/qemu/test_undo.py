"""What was begun is taken back when the rest fails or is cancelled, and only then."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from virtbackupd.drivers.qemu.undo import undone_by

GRACE = 30.0


@pytest.fixture
def undone() -> list[str]:
    return []


@pytest.fixture
def undo(undone: list[str]) -> Callable[[], Awaitable[None]]:
    async def take_back() -> None:
        await trio.sleep(1)
        undone.append("all")

    return take_back


async def test_what_succeeds_stays(
    undone: list[str], undo: Callable[[], Awaitable[None]], autojump_clock: MockClock
) -> None:
    async with undone_by(undo, GRACE):
        await trio.sleep(1)
    assert undone == []


async def test_a_failure_is_undone_and_told(
    undone: list[str], undo: Callable[[], Awaitable[None]], autojump_clock: MockClock
) -> None:
    with pytest.raises(ValueError, match="no room"):
        async with undone_by(undo, GRACE):
            raise ValueError("no room")
    assert undone == ["all"]


async def test_what_is_cancelled_is_undone(
    undone: list[str], undo: Callable[[], Awaitable[None]], autojump_clock: MockClock
) -> None:
    with trio.move_on_after(5) as scope:
        async with undone_by(undo, GRACE):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert undone == ["all"]


async def test_undoing_has_an_end(autojump_clock: MockClock) -> None:
    begun = trio.current_time()
    with pytest.raises(ValueError, match="no room"):
        async with undone_by(trio.sleep_forever, GRACE):
            raise ValueError("no room")
    assert trio.current_time() - begun == GRACE
