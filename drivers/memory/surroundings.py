"""What tests arrange around a world: the clock and the fault rules.

A saved world brings them along. Going back to a state in memory leaves both as they are: time does
not run backwards for those who are connected, and rules are the test's, not the world's.
"""

from typing import TYPE_CHECKING, NamedTuple

from virtbackupd.drivers.clock import ClockState
from virtbackupd.drivers.errors import OperationInvalid
from virtbackupd.drivers.faults.engine import RuleState

if TYPE_CHECKING:
    from virtbackupd.drivers.memory.host import Host


class Surroundings(NamedTuple):
    """How the clock goes, and the rules in force with what they have counted."""

    clock: ClockState
    faults: tuple[RuleState, ...]


UNTOUCHED = ClockState(stopped=False, time=None)
"""A clock that nobody has asked anything of."""


def take(host: "Host") -> Surroundings:
    """As of now."""
    return Surroundings(host.clock.state(), host.faults.state())


def check(host: "Host") -> None:
    """Refuse to put anything back while the clock is on its way."""
    if host.clock.moving:
        raise OperationInvalid("the clock is being moved by another call, wait for its end")


def put_back(host: "Host", known: Surroundings) -> None:
    """Go on from there; rules that are in force until now are dropped."""
    host.clock.restore(known.clock)
    host.faults.restore(known.faults)


def begin_with(host: "Host", known: Surroundings) -> None:
    """The same at the start, when a clock or rules that were asked for come first."""
    if host.clock.state() == UNTOUCHED:
        host.clock.restore(known.clock)
    if not host.faults.active:
        host.faults.restore(known.faults)
