"""When a daemon without work ends by itself."""

import pytest
import trio
from trio.testing import MockClock

from virtbackupd.server.idle import IdleWatch
from virtbackupd.server.limits import Admission, Limits


class House:
    """What may keep a daemon."""

    def __init__(self) -> None:
        self.admission = Admission(Limits())
        self.machines = False
        self.over = trio.Event()

    async def busy(self) -> bool:
        return self.machines

    async def watch(self, idle: IdleWatch) -> None:
        await idle.over()
        self.over.set()


@pytest.fixture
def house() -> House:
    return House()


async def test_without_clients_it_is_over(
    house: House, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(house.watch, IdleWatch(house.admission, house.busy, 10))
    await trio.sleep(9)
    assert not house.over.is_set()
    await trio.sleep(2)
    assert house.over.is_set()


async def test_client_keeps_the_daemon(
    house: House, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    await house.admission.acquire()
    nursery.start_soon(house.watch, IdleWatch(house.admission, house.busy, 10))
    await trio.sleep(100)
    assert not house.over.is_set()
    house.admission.release()
    await trio.sleep(11)
    assert house.over.is_set()


async def test_client_that_comes_begins_the_time_anew(
    house: House, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(house.watch, IdleWatch(house.admission, house.busy, 10))
    await trio.sleep(9)
    await house.admission.acquire()
    house.admission.release()
    await trio.sleep(9)
    assert not house.over.is_set()


async def test_client_that_comes_at_the_last_moment_keeps_the_daemon(
    house: House, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def meanwhile() -> bool:
        await house.admission.acquire()
        return False

    nursery.start_soon(house.watch, IdleWatch(house.admission, meanwhile, 10))
    await trio.sleep(100)
    assert not house.over.is_set()


async def test_running_machine_keeps_the_daemon(
    house: House, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    house.machines = True
    nursery.start_soon(house.watch, IdleWatch(house.admission, house.busy, 10))
    await trio.sleep(35)
    assert not house.over.is_set()
    house.machines = False
    await trio.sleep(11)
    assert house.over.is_set()


async def test_time_may_be_set_later(
    house: House, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    idle = IdleWatch(house.admission, house.busy)
    nursery.start_soon(house.watch, idle)
    await trio.sleep(1000)
    assert not house.over.is_set()
    idle.timeout = 5
    await trio.sleep(6)
    assert house.over.is_set()
