"""The points of a backup at which faults happen, and what can happen to a domain there.

Callers ask only where there are rules. The RPC connection and NBD have modules of their own.
"""

from functools import partial
from typing import TYPE_CHECKING

from virtbackupd.drivers.enums import DomainState
from virtbackupd.drivers.errors import InternalError
from virtbackupd.drivers.faults.effects import (
    BitmapBreak,
    BitmapLose,
    CheckpointLose,
    Delay,
    DeleteHalf,
    DomainEffect,
    Kill,
    NoSpace,
    Point,
    Shutdown,
)
from virtbackupd.drivers.faults.patterns import Pattern
from virtbackupd.drivers.memory import crash, lifecycle
from virtbackupd.drivers.memory.media import chain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from virtbackupd.drivers.events import DomainRef
    from virtbackupd.drivers.faults.engine import Fired
    from virtbackupd.drivers.faults.rule_file import RuleSpec
    from virtbackupd.drivers.memory.bitmap import Bitmap
    from virtbackupd.drivers.memory.domain import MemoryDomain
    from virtbackupd.drivers.memory.host import Host
    from virtbackupd.drivers.memory.image import Image


def attach(host: "Host") -> None:
    """From now on effects on domains are carried out on this host's."""
    host.faults.performer = partial(_perform, host)


# Points


def at_phase(domain: "MemoryDomain", phase: str, disk: str = "") -> None:
    """A phase of a backup in which nothing may wait."""
    faults = domain.host.faults
    if faults.active:
        for fired in faults.at(Point.PHASE, phase, domain.ref, disk):
            faults.perform(fired, domain.ref)


async def wait_phase(domain: "MemoryDomain", phase: str) -> None:
    """One in which something may."""
    faults = domain.host.faults
    if faults.active:
        for fired in faults.at(Point.PHASE, phase, domain.ref):
            if isinstance(fired.effect, Delay):
                fired.done()
                await domain.host.clock.sleep(fired.effect.seconds, f"fault at {phase}")
            else:
                faults.perform(fired, domain.ref)


def room(domain: "MemoryDomain", disk: str, on: str) -> "tuple[int, Fired] | None":
    """The bytes that fit where a disk is written to, if a fault says so."""
    faults = domain.host.faults
    fired = faults.space(domain.ref, disk, on) if faults.active else None
    if fired is None or not isinstance(fired.effect, NoSpace):
        return None
    return fired.effect.byte, fired


def delete_half(domain: "MemoryDomain", bitmaps: "list[tuple[Image, str]]") -> None:
    """Delete only the first bitmaps of a checkpoint and fail, if a fault says so.

    The checkpoint stays, as it does when QEMU fails in between: it takes the bitmaps of all disks
    out of their images before it makes sure that it can.
    """
    faults = domain.host.faults
    for fired in faults.at(Point.DELETION, "", domain.ref) if faults.active else ():
        effect = fired.effect
        if isinstance(effect, DeleteHalf) and bitmaps:
            for image, name in bitmaps[: effect.disks or -(-len(bitmaps) // 2)]:
                image.bitmaps.lose(name)
            fired.done()
            raise InternalError(effect.message)
        fired.missed()


# What happens to a domain


def _perform(host: "Host", ref: "DomainRef", effect: DomainEffect, spec: "RuleSpec") -> bool:
    domain = host.domains.maybe_by_uuid(ref.uuid)
    return domain is not None and _EFFECTS[type(effect)](domain, effect, spec)


def _kill(domain: "MemoryDomain", _effect: DomainEffect, _spec: "RuleSpec") -> bool:
    if domain.active:
        crash.kill(domain)
        return True
    return False


def _shutdown(domain: "MemoryDomain", _effect: DomainEffect, _spec: "RuleSpec") -> bool:
    if domain.state == DomainState.RUNNING:
        lifecycle.power_off(domain)
        return True
    return False


def _lose_bitmaps(domain: "MemoryDomain", effect: DomainEffect, spec: "RuleSpec") -> bool:
    found = list(_bitmaps(domain, effect, spec))
    for image, bitmap in found:
        image.bitmaps.lose(bitmap.name)
    return bool(found)


def _break_bitmaps(domain: "MemoryDomain", effect: DomainEffect, spec: "RuleSpec") -> bool:
    found = list(_bitmaps(domain, effect, spec))
    for image, bitmap in found:
        image.bitmaps.mark_inconsistent(bitmap.name)
    return bool(found)


def _bitmaps(
    domain: "MemoryDomain", effect: DomainEffect, spec: "RuleSpec"
) -> "Iterator[tuple[Image, Bitmap]]":
    assert isinstance(effect, BitmapLose | BitmapBreak)  # noqa: S101 - by the table
    wanted = Pattern(effect.checkpoint)
    for disk in domain.definition.disks:
        if spec.disk.fits(disk.target):
            for image in chain(domain.disk_image(disk.target)):
                chosen = [bitmap for bitmap in image.bitmaps if wanted.fits(bitmap.name)]
                yield from ((image, bitmap) for bitmap in chosen)


def _lose_checkpoints(domain: "MemoryDomain", effect: DomainEffect, _spec: "RuleSpec") -> bool:
    assert isinstance(effect, CheckpointLose)  # noqa: S101 - by the table
    wanted = Pattern(effect.checkpoint)
    names = [name for name in domain.list_all_checkpoints(0) if wanted.fits(name)]
    for name in names:
        _discard(domain, name)
    return bool(names)


def _discard(domain: "MemoryDomain", name: str) -> None:
    for disk in domain.checkpoints.get(name).bitmap_disks:
        for image in chain(domain.disk_image(disk.name)):
            if (bitmap := disk.bitmap or name) in image.bitmaps:
                image.bitmaps.remove(bitmap)
    domain.checkpoints.remove(name)


_EFFECTS: "dict[type[DomainEffect], Callable[[MemoryDomain, DomainEffect, RuleSpec], bool]]" = {
    Kill: _kill,
    Shutdown: _shutdown,
    BitmapLose: _lose_bitmaps,
    BitmapBreak: _break_bitmaps,
    CheckpointLose: _lose_checkpoints,
}
