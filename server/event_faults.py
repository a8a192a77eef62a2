"""Faults on events: which of a driver's events clients are told, how often and when.

Stands between a driver's bus and the router while there are rules about events. What is held back
is bounded; an event that comes after its time still goes to those who want it then.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from virtbackupd.drivers import events
from virtbackupd.drivers.clock import Clock
from virtbackupd.drivers.events import DomainRef, Event
from virtbackupd.drivers.faults.effects import Double, Late, Lose, Point, Reorder
from virtbackupd.drivers.faults.engine import Faults, Fired
from virtbackupd.server.events import EventRouter

HELD_LIMIT: Final = 4096
"""Events held back at once; one more is told at its time."""
NAMES: Final[dict[type, str]] = {
    events.DomainLifecycle: "lifecycle",
    events.DomainReboot: "reboot",
    events.DomainIoError: "io-error",
    events.DomainBlockJob: "block-job",
    events.DomainJobCompleted: "job-completed",
    events.DomainDeviceAdded: "device-added",
    events.DomainDeviceRemoved: "device-removed",
    events.DomainDeviceRemovalFailed: "device-removal-failed",
    events.DomainAgentLifecycle: "agent-lifecycle",
    events.DomainMetadataChange: "metadata-change",
    events.DomainBlockThreshold: "block-threshold",
    events.SecretLifecycle: "secret-lifecycle",
    events.SecretValueChanged: "secret-value-changed",
}
"""As rules name them."""

Tell = Callable[[Event], None]


@dataclass(slots=True)
class _Held:
    """An event that is late."""

    event: Event
    tell: Tell
    behind: int
    """Events that have still to come first."""


class EventFaults:
    """What happens to each event of each driver."""

    def __init__(self, faults: Faults, clock: Clock, nursery: trio.Nursery) -> None:
        """Events that are late by time wait in the nursery."""
        self._faults = faults
        self._clock = clock
        self._nursery = nursery
        self._held: list[_Held] = []
        self._sleeping = 0

    def follow(self, router: EventRouter) -> None:
        """Stand in its way whenever there are rules about events, and only then."""

        def look() -> None:
            watched = bool(self._faults.watches(Point.EVENT))
            router.faults = self if watched else None
            if not watched:
                self._tell_held()

        self._faults.changed.append(look)
        look()

    def _tell_held(self) -> None:
        held, self._held = self._held, []
        for each in held:
            each.tell(each.event)

    def pass_on(self, event: Event, tell: Tell) -> None:
        """Tell the event as the rules say, and what was held back for it."""
        fired = self._faults.at(Point.EVENT, NAMES[type(event)], _domain_of(event), _disk_of(event))
        before = list(self._held)
        kept = [each for each in fired if self._keeps(event, tell, each)]
        if not kept:
            tell(event)
            for each in fired:
                if isinstance(each.effect, Double):
                    tell(event)
        if not any(isinstance(each.effect, Lose) for each in kept):
            self._count(before)

    def _keeps(self, event: Event, tell: Tell, fired: Fired) -> bool:
        """Whether the event is not told now."""
        effect = fired.effect
        if isinstance(effect, Late | Reorder) and len(self._held) + self._sleeping >= HELD_LIMIT:
            fired.missed()
            return False
        fired.done()
        if isinstance(effect, Late) and effect.seconds is not None:
            self._sleeping += 1
            self._nursery.start_soon(self._tell_later, event, tell, effect.seconds)
        elif isinstance(effect, Late):
            self._held.append(_Held(event, tell, effect.events or 1))
        elif isinstance(effect, Reorder):
            self._held.append(_Held(event, tell, 1))
        return isinstance(effect, Lose | Late | Reorder)

    def _count(self, held: list[_Held]) -> None:
        """One more event has passed those that were held before."""
        for each in held:
            each.behind -= 1
            if each.behind <= 0:
                self._held.remove(each)
                each.tell(each.event)

    async def _tell_later(self, event: Event, tell: Tell, seconds: float) -> None:
        await self._clock.sleep(seconds, "late event")
        self._sleeping -= 1
        tell(event)


def _domain_of(event: Event) -> DomainRef | None:
    return getattr(event, "domain", None)


def _disk_of(event: Event) -> str:
    """The target, of those that are about a disk."""
    if isinstance(event, events.DomainBlockJob):
        return event.target
    if isinstance(event, events.DomainBlockThreshold):
        return event.device.partition("[")[0]
    return ""
