"""What faults do to events between a driver and the clients."""

from typing import TYPE_CHECKING, get_args

import pytest
import trio
from raw_client import RawClient

from virtbackupd.drivers.clock import Clock
from virtbackupd.drivers.events import DomainLifecycle, DomainReboot, DomainRef, Event
from virtbackupd.drivers.faults.effects import EVENTS
from virtbackupd.drivers.faults.engine import Faults
from virtbackupd.server import event_faults
from virtbackupd.server.event_faults import NAMES, EventFaults

if TYPE_CHECKING:
    from tests.server.conftest import Server

REGISTER = "CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY"
TEST = DomainRef("test", bytes(range(16)), 1)
OTHER = DomainRef("other", bytes(range(16, 32)), 1)


class Stage:
    """Faults with a clock that stands, and what was told."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.faults = Faults()
        self.clock = Clock(0)
        self.told: list[int] = []
        self._subject = EventFaults(self.faults, self.clock, nursery)

    def add(self, effect: str, match: str = "event = 'lifecycle'", when: str = "times = 1") -> None:
        self.faults.load_text(
            f"[[faults]]\nmatch = {{ {match} }}\nwhen = {{ {when} }}\neffect = {{ {effect} }}\n"
        )

    def publish(self, *numbers: int) -> list[int]:
        """Lifecycle events told apart by their detail; returns all that was told so far."""
        for number in numbers:
            self.say(DomainLifecycle(TEST, 0, number))
        return self.told

    def say(self, event: Event) -> None:
        self._subject.pass_on(event, self._hear)

    def _hear(self, event: Event) -> None:
        self.told.append(event.detail if isinstance(event, DomainLifecycle) else -1)


@pytest.fixture
async def stage(nursery: trio.Nursery) -> Stage:
    return Stage(nursery)


def test_every_event_has_a_name() -> None:
    assert set(NAMES) == set(get_args(Event))
    assert set(NAMES.values()) == set(EVENTS)


async def test_an_event_is_lost(stage: Stage) -> None:
    stage.add("kind = 'lose'")
    assert stage.publish(1, 2) == [2]


async def test_an_event_is_doubled(stage: Stage) -> None:
    stage.add("kind = 'double'")
    assert stage.publish(1, 2) == [1, 1, 2]


async def test_an_event_changes_places_with_the_next(stage: Stage) -> None:
    stage.add("kind = 'reorder'")
    assert stage.publish(1, 2, 3) == [2, 1, 3]


async def test_an_event_is_late_by_events(stage: Stage) -> None:
    stage.add("kind = 'late', events = 2")
    assert stage.publish(1, 2, 3, 4) == [2, 3, 1, 4]


async def test_an_event_is_late_by_seconds(stage: Stage) -> None:
    stage.add("kind = 'late', seconds = 5")
    stage.publish(1, 2)
    await stage.clock.step(4)
    assert stage.told == [2]
    await stage.clock.step(1)
    assert stage.told == [2, 1]


async def test_a_lost_event_passes_no_other(stage: Stage) -> None:
    stage.add("kind = 'reorder'")
    stage.add("kind = 'lose'", when="after = 1, times = 1")
    assert stage.publish(1, 2, 3) == [3, 1]


async def test_only_the_chosen_kind_is_hit(stage: Stage) -> None:
    stage.add("kind = 'lose'", "event = 're*'")
    stage.say(DomainReboot(TEST))
    assert stage.publish(1) == [1]


async def test_only_the_chosen_domain_is_hit(stage: Stage) -> None:
    stage.add("kind = 'lose'", "event = '*', domain = 'other'", "")
    stage.say(DomainLifecycle(OTHER, 0, 7))
    assert stage.publish(1) == [1]


async def test_too_many_late_events_come_in_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_faults, "HELD_LIMIT", 1)
    stage.add("kind = 'late', events = 9", when="")
    assert stage.publish(1, 2) == [2]


async def test_clients_are_told_what_was_held_when_the_rules_go(
    server: "Server", client: RawClient, nursery: trio.Nursery
) -> None:
    faults = Faults()
    EventFaults(faults, Clock(), nursery).follow(server.services.router)
    faults.load_text("[[faults]]\nmatch.event = 'lifecycle'\neffect.kind = 'reorder'\n")
    await client.call(REGISTER, 0, None)
    server.driver.publish_lifecycle(TEST)
    assert await client.is_silent()
    faults.clear()
    assert server.services.router.faults is None
    assert (await client.frame()).kind == 2


async def test_without_rules_nothing_stands_between(
    server: "Server", nursery: trio.Nursery
) -> None:
    EventFaults(Faults(), Clock(), nursery).follow(server.services.router)
    assert server.services.router.faults is None
