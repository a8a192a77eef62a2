"""Which domains a list or a statistics call means: libvirt's filter bits as a table.

Bits of one group widen each other, groups narrow each other, and a group with all bits or none set
does not filter. Knows only what it asks of a domain.
"""

from collections.abc import Callable, Iterable, Sized
from typing import Protocol, TypeAlias, TypeVar

from virtbackupd.drivers.enums import DomainState, ListDomains


class Listed(Protocol):
    """What filters look at."""

    state: int
    autostart: bool

    @property
    def active(self) -> bool: ...

    @property
    def persistent(self) -> object | None: ...

    @property
    def saved(self) -> object | None:
        """A managed save image, if there is one."""

    @property
    def checkpoints(self) -> Sized: ...

    def snapshot_num(self, flags: int) -> object: ...


D = TypeVar("D", bound=Listed)
Test: TypeAlias = Callable[[Listed], bool]

_KNOWN_STATES = (DomainState.RUNNING, DomainState.PAUSED, DomainState.SHUTOFF)

_GROUPS: tuple[tuple[tuple[ListDomains, Test], ...], ...] = (
    (
        (ListDomains.ACTIVE, lambda domain: domain.active),
        (ListDomains.INACTIVE, lambda domain: not domain.active),
    ),
    (
        (ListDomains.PERSISTENT, lambda domain: domain.persistent is not None),
        (ListDomains.TRANSIENT, lambda domain: domain.persistent is None),
    ),
    (
        (ListDomains.RUNNING, lambda domain: domain.state == DomainState.RUNNING),
        (ListDomains.PAUSED, lambda domain: domain.state == DomainState.PAUSED),
        (ListDomains.SHUTOFF, lambda domain: domain.state == DomainState.SHUTOFF),
        (ListDomains.OTHER, lambda domain: domain.state not in _KNOWN_STATES),
    ),
    (
        (ListDomains.MANAGEDSAVE, lambda domain: domain.saved is not None),
        (ListDomains.NO_MANAGEDSAVE, lambda domain: domain.saved is None),
    ),
    (
        (ListDomains.AUTOSTART, lambda domain: domain.autostart),
        (ListDomains.NO_AUTOSTART, lambda domain: not domain.autostart),
    ),
    (
        (ListDomains.HAS_SNAPSHOT, lambda domain: domain.snapshot_num(0) != 0),
        (ListDomains.NO_SNAPSHOT, lambda domain: domain.snapshot_num(0) == 0),
    ),
    (
        (ListDomains.HAS_CHECKPOINT, lambda domain: len(domain.checkpoints) > 0),
        (ListDomains.NO_CHECKPOINT, lambda domain: not len(domain.checkpoints)),
    ),
)

ALL_FILTERS = sum(int(bit) for group in _GROUPS for bit, _ in group)
STATS_FILTERS = sum(int(bit) for group in _GROUPS[:3] for bit, _ in group)
"""What a statistics call takes: activity, persistence and state."""


def filtered(domains: Iterable[D], flags: int) -> list[D]:
    """Those that pass every group of bits set in `flags`."""
    tests = list(_tests(flags))
    if not tests:
        return list(domains)
    return [domain for domain in domains if all(_passes(domain, group) for group in tests)]


def _tests(flags: int) -> Iterable[list[Test]]:
    for group in _GROUPS:
        chosen = [test for bit, test in group if flags & bit]
        if 0 < len(chosen) < len(group):
            yield chosen


def _passes(domain: Listed, group: list[Test]) -> bool:
    return any(test(domain) for test in group)
