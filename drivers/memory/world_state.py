"""Everything the hypervisor knows at one instant, and going back to it.

A state shares the contents of images with the images themselves: taking it and going back take no
longer when the disks are larger, and an image copies what it is about to change. Backups that run
are not part of a state, nor are open consoles. Nothing here waits, so a state is of one instant.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from virtbackupd.drivers.checkpoint_tree import CheckpointTree, TreeState
from virtbackupd.drivers.enums import DomainState
from virtbackupd.drivers.events import DomainRef
from virtbackupd.drivers.memory import console
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.guest import DiskCounters
from virtbackupd.drivers.memory.image import Image, ImageState
from virtbackupd.drivers.memory.images import OWN_FILE, RegistryState, file_stamp
from virtbackupd.drivers.memory.media import chain
from virtbackupd.drivers.memory.nbd_record import DiskReads, ReadsState
from virtbackupd.drivers.memory.shown_host import ShownHost
from virtbackupd.drivers.memory.world_events import changes, seen
from virtbackupd.drivers.secret_store import SecretRecord

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.checkpoint import CheckpointDefinition
    from virtbackupd.drivers.definitions.domain import DomainDefinition
    from virtbackupd.drivers.interface import JobStats
    from virtbackupd.drivers.memory.host import Host
    from virtbackupd.drivers.memory.lifecycle import SavedState
    from virtbackupd.drivers.memory.surroundings import Surroundings


MAGIC: Final = b"vb-world"
"""The first bytes of a file with a state."""


class DomainRecord(NamedTuple):
    """One domain; what it refers to is not to be changed."""

    ref: DomainRef
    persistent: "DomainDefinition | None"
    live: "DomainDefinition | None"
    state: int
    reason: int
    autostart: bool
    uptime: float
    """Seconds since its start, of an active one."""
    saved: "SavedState | None"
    frozen: frozenset[str]
    power_button: bool
    nodes_used: int
    media: dict[str, Image | None]
    checkpoints: "TreeState[CheckpointDefinition]"
    completed: "JobStats | None"
    counted: dict[str, DiskCounters]
    reads: dict[str, ReadsState]


class ImageRecord(NamedTuple):
    """An image and what it held."""

    image: Image
    state: ImageState


class WorldState(NamedTuple):
    """A whole hypervisor."""

    domains: tuple[DomainRecord, ...]
    last_id: int
    images: tuple[ImageRecord, ...]
    """Those that somebody can reach, each after the one below it."""
    registry: RegistryState
    secrets: tuple[SecretRecord, ...]
    backup_rate: int
    """As `World.backup_rate`; going back to a state leaves the host's own rate alone."""
    shown: ShownHost
    """What is said of the host itself; likewise."""
    surroundings: "Surroundings | None" = None
    """Of a state that is for a file; likewise."""


def take(host: "Host") -> WorldState:
    """The state as of now."""
    return WorldState(
        tuple(_record(domain) for domain in host.domains),
        host.domains.last_id,
        tuple(ImageRecord(image, image.state()) for image in _images(host)),
        host.images.state(),
        host.secrets.state(),
        host.copy_rate,
        host.shown,
    )


async def go_back(host: "Host", state: WorldState) -> None:
    """Go back to an earlier state of this host.

    What has been written to files since does not count: they are looked at as they are now.
    """
    registry = await trio.to_thread.run_sync(_with_files_of_now, state.registry)
    restore(host, state._replace(registry=registry))


def _with_files_of_now(registry: RegistryState) -> RegistryState:
    now = {path: file_stamp(path) for path in registry.images if path.startswith("/")}
    # One that is not there may still be made.
    late = {path: stamp for path, stamp in registry.stamps.items() if stamp == OWN_FILE}
    return RegistryState(
        registry.images, late | {path: stamp for path, stamp in now.items() if stamp is not None}
    )


def restore(host: "Host", state: WorldState) -> None:
    """Go back: backups that run end first, and at last the events tell what has changed."""
    for domain in host.domains:
        if domain.backup is not None:
            domain.backup.interrupt()
    before = [seen(domain) for domain in host.domains]
    for image, contents in state.images:
        image.restore(contents)
    host.images.restore(state.registry)
    known = {domain.ref.uuid: domain for domain in host.domains}
    domains = [
        known.pop(record.ref.uuid) if record.ref.uuid in known else _new(host, record)
        for record in state.domains
    ]
    host.domains.restore(
        ((domain, record.ref) for domain, record in zip(domains, state.domains, strict=True)),
        state.last_id,
    )
    for gone in known.values():
        _let_go(gone)
    for domain, record in zip(domains, state.domains, strict=True):
        _put_back(domain, record)
    for event in changes(before, [seen(domain) for domain in domains]):
        host.events.publish(event)
    host.secrets.restore(state.secrets)


def _record(domain: MemoryDomain) -> DomainRecord:
    return DomainRecord(
        ref=domain.ref,
        persistent=domain.persistent,
        live=domain.live,
        state=domain.state,
        reason=domain.reason,
        autostart=domain.autostart,
        uptime=domain.host.clock.monotonic() - domain.started_at if domain.active else 0.0,
        saved=domain.saved,
        frozen=frozenset(domain.frozen),
        power_button=domain.power_button,
        nodes_used=domain.nodes_used,
        media=dict(domain.media),
        checkpoints=domain.checkpoints.state(),
        completed=domain.jobs.completed,
        counted=_copied(domain.counted),
        reads={target: reads.state() for target, reads in domain.reads.items()},
    )


def _put_back(domain: MemoryDomain, record: DomainRecord) -> None:
    """Everything but the `ref`, which the registry has put back."""
    domain.restored += 1
    domain.persistent, domain.live = record.persistent, record.live
    domain.state, domain.reason = record.state, record.reason
    domain.autostart = record.autostart
    domain.started_at = domain.host.clock.monotonic() - record.uptime
    domain.saved = record.saved
    domain.frozen = set(record.frozen)
    domain.power_button, domain.ends_with_backup = record.power_button, False
    domain.nodes_used = record.nodes_used
    domain.media = dict(record.media)
    domain.checkpoints.dissolve()
    domain.checkpoints = CheckpointTree.restored(record.checkpoints)
    domain.jobs.completed = record.completed
    domain.counted = _copied(record.counted)
    domain.reads = {target: DiskReads.restored(known) for target, known in record.reads.items()}
    if not domain.active:
        console.hang_up(domain)


def _let_go(domain: MemoryDomain) -> None:
    """Leave nothing of a domain that there is no more, for a call that still holds it."""
    domain.restored += 1
    domain.persistent = domain.live = domain.saved = None
    domain.enter(DomainState.SHUTOFF, 0)
    domain.reset_guest()
    domain.media = {}
    domain.checkpoints.dissolve()
    domain.jobs.completed = None


def _new(host: "Host", record: DomainRecord) -> MemoryDomain:
    definition = record.live or record.persistent
    if definition is None:
        raise AssertionError(f"domain {record.ref.name} was recorded without a definition")
    return MemoryDomain(host, definition)


def _copied(counted: dict[str, DiskCounters]) -> dict[str, DiskCounters]:
    return {target: replace(counters) for target, counters in counted.items()}


def _images(host: "Host") -> Iterable[Image]:
    """Every image once, those below first."""
    found: dict[int, Image] = {}
    roots = [*host.images, *_media(host)]
    for root in roots:
        if id(root) not in found:
            for image in reversed(tuple(chain(root))):
                found.setdefault(id(image), image)
    return found.values()


def _media(host: "Host") -> Iterator[Image]:
    for domain in host.domains:
        yield from (image for image in domain.media.values() if image is not None)
