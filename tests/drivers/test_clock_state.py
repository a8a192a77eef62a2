"""How a clock goes, taken from one and given to another."""

import math

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from virtbackupd.drivers import clock as clock_module
from virtbackupd.drivers.clock import Clock, ClockState
from virtbackupd.drivers.errors import OperationInvalid

NOON = 1_769_860_800.0
"""2026-01-31T12:00:00Z."""


def test_a_clock_of_the_host_has_no_time_of_its_own() -> None:
    assert Clock().state() == ClockState(stopped=False, time=None)


async def test_a_clock_that_stands_is_made_to_stand_at_the_same_time() -> None:
    other = Clock()
    other.restore(Clock(NOON).state())
    assert (other.stopped, other.time()) == (True, NOON)


async def test_a_clock_that_was_set_goes_on_from_there() -> None:
    clock = Clock(NOON)
    clock.start()
    state = clock.state()
    assert state.time is not None
    other = Clock()
    other.restore(state)
    assert not other.stopped
    # A microsecond is what sums of seconds since 1970 may be off; an hour, what no test takes.
    assert NOON - 1e-6 <= state.time <= other.time() + 1e-6 < NOON + 3600


async def test_a_clock_goes_back_to_the_host_s_time() -> None:
    clock = Clock(NOON)
    clock.restore(Clock().state())
    assert clock.state() == ClockState(stopped=False, time=None)


async def test_nobody_wakes_of_it(nursery: trio.Nursery) -> None:
    clock = Clock(NOON)
    nursery.start_soon(clock.sleep, 60)
    await wait_all_tasks_blocked()
    clock.restore(ClockState(stopped=True, time=NOON + 3600))
    assert [waiter.due - clock.monotonic() for waiter in clock.waiting()] == [60]


async def test_a_clock_under_way_is_not_set_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module, "SETTLE_LIMIT", math.inf)
    clock = Clock(NOON)
    async with trio.open_nursery() as steps:
        with clock.working():
            steps.start_soon(clock.step, 60)
            await wait_all_tasks_blocked()
            assert clock.moving
            with pytest.raises(OperationInvalid, match="being moved by another call"):
                clock.restore(ClockState(stopped=False, time=None))
    assert not clock.moving
