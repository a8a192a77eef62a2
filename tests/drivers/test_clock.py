"""The clock of a daemon: real time is Trio's, stopped time moves only when it is told to."""

import time
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from virtbackupd.drivers import clock as clock_module
from virtbackupd.drivers.clock import LONGEST_STEP, Clock, clock_from, read_time, settled
from virtbackupd.drivers.errors import InvalidArgument, OperationInvalid

NOON = 1_769_860_800.0
"""2026-01-31T12:00:00Z."""


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON)


class Sleepers:
    """Tasks on a clock, and when each of them woke by it."""

    def __init__(self, nursery: trio.Nursery, clock: Clock) -> None:
        self._nursery = nursery
        self._clock = clock
        self.woken: list[tuple[str, float]] = []

    async def add(self, name: str, *pauses: float) -> None:
        self._nursery.start_soon(self._sleep, name, pauses)
        await trio.testing.wait_all_tasks_blocked()

    async def _sleep(self, name: str, pauses: tuple[float, ...]) -> None:
        for pause in pauses:
            await self._clock.sleep(pause)
            self.woken.append((name, self._clock.time() - NOON))


@pytest.fixture
def sleepers(nursery: trio.Nursery, clock: Clock) -> Sleepers:
    return Sleepers(nursery, clock)


async def test_real_time_is_the_host_s() -> None:
    before = time.time()
    assert before <= Clock().time() <= time.time()


async def test_real_monotonic_time_is_trio_s(autojump_clock: trio.testing.MockClock) -> None:
    clock = Clock()
    begun = clock.monotonic()
    await trio.sleep(7)
    assert clock.monotonic() - begun == 7


async def test_a_real_sleep(autojump_clock: trio.testing.MockClock) -> None:
    begun = trio.current_time()
    await Clock().sleep(3)
    assert trio.current_time() - begun == 3


async def test_a_real_deadline(autojump_clock: trio.testing.MockClock) -> None:
    with Clock().deadline(3) as deadline:
        await trio.sleep_forever()
    assert deadline.expired


async def test_a_block_in_time_is_not_expired() -> None:
    clock = Clock()
    with clock.deadline(3) as deadline:
        await trio.lowlevel.checkpoint()
    assert not deadline.expired
    assert clock.waiting() == []


async def test_fail_after(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(trio.TooSlowError), Clock().fail_after(3):
        await trio.sleep_forever()


async def test_fail_after_lets_an_error_through(clock: Clock) -> None:
    with pytest.raises(ValueError, match="mine"), clock.fail_after(3):
        raise ValueError("mine")


async def test_stopped_time_stands(clock: Clock) -> None:
    begun = clock.monotonic()
    await trio.sleep(0.001)
    assert (clock.time(), clock.monotonic()) == (NOON, begun)


async def test_a_step_moves_both_times(clock: Clock) -> None:
    begun = clock.monotonic()
    assert await clock.step(90) == 0
    assert (clock.time(), clock.monotonic() - begun) == (NOON + 90, 90)


async def test_sleepers_wake_in_order_at_their_own_time(clock: Clock, sleepers: Sleepers) -> None:
    await sleepers.add("late", 5)
    await sleepers.add("twice", 2, 1.5)
    await sleepers.add("early", 1)
    assert await clock.step(5) == 4
    assert sleepers.woken == [("early", 1), ("twice", 2), ("twice", 3.5), ("late", 5)]
    assert clock.time() == NOON + 5


async def test_who_came_first_wakes_first(clock: Clock, sleepers: Sleepers) -> None:
    names = [str(number) for number in range(20)]
    for name in names:
        await sleepers.add(name, 1)
    await clock.step(1)
    assert [name for name, _ in sleepers.woken] == names


async def test_who_is_not_due_sleeps_on(clock: Clock, sleepers: Sleepers) -> None:
    await sleepers.add("late", 5)
    await clock.step(4.999)
    assert sleepers.woken == []
    await clock.step(0.001)
    assert sleepers.woken == [("late", 5)]


async def test_a_jump_goes_to_the_next_sleeper(clock: Clock, sleepers: Sleepers) -> None:
    await sleepers.add("late", 5)
    await sleepers.add("early", 1)
    assert await clock.jump() == 1
    assert sleepers.woken == [("early", 1)]
    assert await clock.jump() == 4


async def test_a_jump_without_sleepers_stays(clock: Clock) -> None:
    assert await clock.jump() == 0
    assert clock.time() == NOON


async def test_a_deadline_is_cancelled_by_a_step(clock: Clock, nursery: trio.Nursery) -> None:
    ended: list[bool] = []

    async def wait() -> None:
        with clock.deadline(10) as deadline:
            await trio.sleep_forever()
        ended.append(deadline.expired)

    nursery.start_soon(wait)
    await clock.step(9.5)
    assert ended == []
    await clock.step(0.5)
    assert ended == [True]


async def test_a_time_in_the_past_does_not_wait(clock: Clock) -> None:
    with trio.fail_after(60):
        await clock.sleep(0)
        await clock.sleep_until(clock.monotonic() - 1)


async def test_stopping_keeps_those_who_sleep_already(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    clock, woken = Clock(), trio.Event()

    async def sleep() -> None:
        await clock.sleep(10)
        woken.set()

    nursery.start_soon(sleep)
    await trio.sleep(4)
    clock.stop()
    await trio.sleep(100)
    assert not woken.is_set()
    await clock.step(6)
    assert woken.is_set()


async def test_starting_goes_on_from_where_it_stood(
    clock: Clock, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    woken = trio.Event()

    async def sleep() -> None:
        await clock.sleep(10)
        woken.set()

    nursery.start_soon(sleep)
    await clock.step(4)
    clock.start()
    await trio.sleep(5.9)
    assert not woken.is_set()
    await trio.sleep(0.2)
    assert woken.is_set()
    assert clock.time() == pytest.approx(NOON + 10.1)


async def test_stop_and_start_twice_change_nothing(clock: Clock) -> None:
    clock.stop()
    assert clock.time() == NOON
    clock.start()
    clock.start()
    assert not clock.stopped
    assert clock.time() == pytest.approx(NOON, abs=5)


async def test_stopping_real_time_keeps_its_value() -> None:
    clock, before = Clock(), time.time()
    clock.stop()
    assert before <= clock.time() <= time.time()


async def test_setting_the_time_wakes_nobody(clock: Clock, sleepers: Sleepers) -> None:
    await sleepers.add("late", 5)
    clock.set_time(NOON + 1000)
    await settled(clock)
    assert (clock.time(), sleepers.woken) == (NOON + 1000, [])


async def test_setting_a_running_clock() -> None:
    clock = Clock()
    clock.set_time(NOON)
    assert clock.time() == pytest.approx(NOON, abs=5)
    clock.set_time(None)
    assert clock.time() == pytest.approx(time.time(), abs=5)


async def test_setting_a_stopped_clock_to_now(clock: Clock) -> None:
    clock.set_time(None)
    assert clock.stopped
    assert clock.time() == pytest.approx(time.time(), abs=5)


async def test_a_running_clock_is_not_moved() -> None:
    with pytest.raises(OperationInvalid, match="stop it"):
        await Clock().step(1)
    with pytest.raises(OperationInvalid, match="stop it"):
        await Clock().jump()


@pytest.mark.parametrize("seconds", [-1, LONGEST_STEP + 1, float("nan"), float("inf")])
async def test_a_wrong_step(clock: Clock, seconds: float) -> None:
    with pytest.raises(InvalidArgument):
        await clock.step(seconds)


async def test_no_step_beyond_the_last_year() -> None:
    with pytest.raises(InvalidArgument, match="9999"):
        await Clock(clock_module.LAST_TIME).step(1)


async def test_a_clock_under_way_is_not_started(clock: Clock, nursery: trio.Nursery) -> None:
    refused: list[OperationInvalid] = []

    async def wake_and_start() -> None:
        await clock.sleep(1)
        try:
            clock.start()
        except OperationInvalid as error:
            refused.append(error)

    nursery.start_soon(wake_and_start)
    await clock.step(2)
    assert len(refused) == 1
    assert clock.time() == NOON + 2


async def test_steps_take_turns(clock: Clock, sleepers: Sleepers) -> None:
    await sleepers.add("one", 1.5)
    await sleepers.add("two", 2.5)
    async with trio.open_nursery() as steps:
        steps.start_soon(clock.step, 2)
        steps.start_soon(clock.step, 1)
    assert [round(at, 3) for _, at in sleepers.woken] == [1.5, 2.5]
    assert clock.time() == NOON + 3


async def test_a_step_waits_for_work_in_threads(clock: Clock, nursery: trio.Nursery) -> None:
    done: list[str] = []

    async def work() -> None:
        await clock.sleep(1)
        with clock.working():
            await trio.to_thread.run_sync(time.sleep, 0.05)
        done.append("written")

    nursery.start_soon(work)
    await clock.step(1)
    assert done == ["written"]


async def test_a_step_does_not_wait_for_ever(
    clock: Clock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock_module, "SETTLE_LIMIT", 0.02)

    async def spin() -> None:
        while True:
            await trio.lowlevel.checkpoint()

    nursery.start_soon(spin)
    with trio.fail_after(60):
        await clock.step(1)
    assert clock.time() == NOON + 1


async def test_a_step_of_too_many_wakes_says_where_it_stopped(
    clock: Clock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock_module, "WAKES_PER_STEP", 3)

    async def tick() -> None:
        while True:
            await clock.sleep(1)

    nursery.start_soon(tick)
    with pytest.raises(OperationInvalid, match="shorter steps"):
        await clock.step(10)
    assert clock.time() == NOON + 3


async def test_eager_waiters_wake_at_the_end_of_a_step(clock: Clock, nursery: trio.Nursery) -> None:
    seen: list[float] = []

    async def account() -> None:
        with clock.deadline(10, eager=True):
            await trio.sleep_forever()
        seen.append(clock.time() - NOON)

    nursery.start_soon(account)
    await clock.step(4)
    assert seen == [4]


async def test_who_waits_is_known(clock: Clock, nursery: trio.Nursery) -> None:
    nursery.start_soon(clock.sleep, 5, "later")
    nursery.start_soon(clock.sleep, 2, "sooner")
    await settled(clock)
    begun = clock.monotonic()
    found = [(waiter.what, waiter.due - begun) for waiter in clock.waiting()]
    assert found == [("sooner", 2), ("later", 5)]


@pytest.mark.parametrize(
    "text",
    ["1769860800", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00", "2026-01-31T13:00:00+01:00"],
)
def test_times_that_are_read(text: str) -> None:
    assert read_time(text) == NOON


@pytest.mark.parametrize("text", ["", "noon", "-1", "nan", "inf", "1e12", "2026-13-01"])
def test_times_that_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="time"):
        read_time(text)


def test_the_clock_of_a_setting() -> None:
    assert not clock_from("real").stopped
    assert clock_from("stopped").stopped


async def test_the_clock_of_a_time() -> None:
    assert clock_from("2026-01-31T12:00:00Z").time() == NOON


@pytest.mark.parametrize("wait", [trio.sleep, Clock().sleep], ids=["trio", "clock"])
async def test_cancelling_a_sleeper_leaves_nothing(
    wait: Callable[[float], Awaitable[None]],
) -> None:
    with trio.move_on_after(0.01) as scope:
        await wait(60)
    assert scope.cancelled_caught
