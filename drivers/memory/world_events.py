"""The life cycle events between two states of a world, as libvirt has them for a reverted domain.

Compares what clients can see; it knows no images and changes nothing.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from virtbackupd.drivers.enums import (
    DefinedDetail,
    DomainState,
    Lifecycle,
    ResumedDetail,
    StartedDetail,
    StoppedDetail,
    SuspendedDetail,
    UndefinedDetail,
)
from virtbackupd.drivers.events import DomainLifecycle, DomainRef
from virtbackupd.drivers.registry import INACTIVE

if TYPE_CHECKING:
    from virtbackupd.drivers.defined_domain import DefinedDomain
    from virtbackupd.drivers.definitions.domain import DomainDefinition


class Seen(NamedTuple):
    """What clients knew of a domain."""

    ref: DomainRef
    persistent: "DomainDefinition | None"
    state: int


_NOT_THERE: Final = Seen(DomainRef("", b"", INACTIVE), None, 0)


def seen(domain: "DefinedDomain") -> Seen:
    """What clients know of the domain as of now."""
    return Seen(domain.ref, domain.persistent, domain.state)


def changes(before: Iterable[Seen], after: Iterable[Seen]) -> Iterator[DomainLifecycle]:
    """What a client must hear to know the new world from the old one."""
    left = {old.ref.uuid: old for old in before}
    pairs = [(left.pop(new.ref.uuid, _NOT_THERE), new) for new in after]
    for old in left.values():
        yield from _ended(old)
    for known, new in pairs:
        yield from _begun(new) if known is _NOT_THERE else _moved(known, new)


def _ended(old: Seen) -> Iterator[DomainLifecycle]:
    ref = old.ref._replace(id=INACTIVE)
    if old.ref.id != INACTIVE:
        yield DomainLifecycle(ref, Lifecycle.STOPPED, StoppedDetail.FROM_SNAPSHOT)
    if old.persistent is not None:
        yield DomainLifecycle(ref, Lifecycle.UNDEFINED, UndefinedDetail.REMOVED)


def _begun(new: Seen) -> Iterator[DomainLifecycle]:
    if new.persistent is not None:
        yield DomainLifecycle(new.ref, Lifecycle.DEFINED, DefinedDetail.ADDED)
    if new.ref.id != INACTIVE:
        yield from _started(new)


def _started(new: Seen) -> Iterator[DomainLifecycle]:
    yield DomainLifecycle(new.ref, Lifecycle.STARTED, StartedDetail.FROM_SNAPSHOT)
    if new.state == DomainState.PAUSED:
        yield DomainLifecycle(new.ref, Lifecycle.SUSPENDED, SuspendedDetail.FROM_SNAPSHOT)


def _moved(old: Seen, new: Seen) -> Iterator[DomainLifecycle]:
    """Between two states of the same domain; one id means one and the same run."""
    if old.ref.id not in (INACTIVE, new.ref.id):
        ref = old.ref._replace(id=INACTIVE)
        yield DomainLifecycle(ref, Lifecycle.STOPPED, StoppedDetail.FROM_SNAPSHOT)
    yield from _redefined(old, new)
    if new.ref.id == INACTIVE:
        return
    if new.ref.id != old.ref.id:
        yield from _started(new)
    elif new.state != old.state:
        yield _switched(new)


def _redefined(old: Seen, new: Seen) -> Iterator[DomainLifecycle]:
    if old.ref.name != new.ref.name:
        yield DomainLifecycle(old.ref, Lifecycle.UNDEFINED, UndefinedDetail.RENAMED)
        yield DomainLifecycle(new.ref, Lifecycle.DEFINED, DefinedDetail.RENAMED)
    elif new.persistent is None:
        if old.persistent is not None:
            yield DomainLifecycle(new.ref, Lifecycle.UNDEFINED, UndefinedDetail.REMOVED)
    elif old.persistent is None:
        yield DomainLifecycle(new.ref, Lifecycle.DEFINED, DefinedDetail.ADDED)
    elif old.persistent is not new.persistent and old.persistent.to_xml() != (
        new.persistent.to_xml()
    ):
        yield DomainLifecycle(new.ref, Lifecycle.DEFINED, DefinedDetail.FROM_SNAPSHOT)


def _switched(new: Seen) -> DomainLifecycle:
    if new.state == DomainState.PAUSED:
        return DomainLifecycle(new.ref, Lifecycle.SUSPENDED, SuspendedDetail.FROM_SNAPSHOT)
    return DomainLifecycle(new.ref, Lifecycle.RESUMED, ResumedDetail.FROM_SNAPSHOT)
