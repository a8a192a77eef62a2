"""Pull backups whose scratch image cannot grow: the backup has to give way, not the guest.

QEMU as of Debian 12 then refuses the guest's write, which as a rule pauses the guest, and its job
knows of no error. So when a write lacks room while a scratch image does, the backup is made to
fail, and a guest that was paused goes on afterwards: it repeats its write, and nobody copies any
more. Where no scratch image lacks room it is the domain's own disk that is full, and nothing is
done.
"""

import logging
import os
from typing import TYPE_CHECKING, Final

import trio

from virtbackupd.drivers.enums import DomainState, PausedReason, RunningReason
from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.qemu import disk_figures, lifecycle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from virtbackupd.drivers.qemu.disk_figures import LayerSizes
    from virtbackupd.drivers.qemu.domain import QemuDomain
    from virtbackupd.drivers.qemu.image_chain import Image
    from virtbackupd.drivers.qemu.run import Run
    from virtbackupd.drivers.qemu.running import QemuBackup
    from virtbackupd.drivers.qemu.work import DiskWork

log = logging.getLogger(__name__)

_LITTLE: Final = 4 << 20
"""Bytes: QEMU asks for a cluster at a time, which has at most 2 MiB, and for its tables."""
_NO_ROOM: Final = "No space left on device"
"""The text that clients know from a push without room."""


def look(domain: "QemuDomain", run: "Run", backup: "QemuBackup | None") -> None:
    """A write of the guest's may have failed for want of room: see where, without waiting."""
    if backup is None or not backup.job.pull or backup.room_in_doubt:
        return
    backup.room_in_doubt = True
    domain.host.nursery.start_soon(_look, domain, run, backup)


def look_if_paused(domain: "QemuDomain", backup: "QemuBackup | None") -> None:
    """The same, where QEMU's word on the write may have been missed."""
    if domain.run is not None and _paused_by_error(domain):
        look(domain, domain.run, backup)


def _paused_by_error(domain: "QemuDomain") -> bool:
    return (domain.state, domain.reason) == (DomainState.PAUSED, PausedReason.IOERROR)


async def _look(domain: "QemuDomain", run: "Run", backup: "QemuBackup") -> None:
    try:
        full = await _without_room(domain, backup.works)
        if full:
            await backup.fail(full, _NO_ROOM)
        if full or backup.job.failing:
            await backup.over.wait()
            await _go_on(domain, run)
    except DriverError as error:
        log.error("domain %s stays paused: %s", domain.ref.name, error.message)
    finally:
        backup.room_in_doubt = False


async def _without_room(domain: "QemuDomain", works: "list[DiskWork]") -> "list[DiskWork]":
    """Those whose scratch images cannot grow."""
    layers: Mapping[str, LayerSizes] = {}
    if any(work.layer.image.type == "block" for work in works):
        layers = await disk_figures.query_layers(domain)
    rooms = await trio.to_thread.run_sync(_rooms, [work.layer.image for work in works])
    return [
        work
        for work, room in zip(works, rooms, strict=True)
        if room is not None and room - _written(work, layers) < _LITTLE
    ]


def _written(work: "DiskWork", layers: "Mapping[str, LayerSizes]") -> int:
    """How much of a device is in use: an image on one is written from its beginning to its end."""
    sizes = layers.get(work.layer.node) if work.layer.image.type == "block" else None
    return 0 if sizes is None else sizes.allocation


def _rooms(images: "list[Image]") -> list[int | None]:
    """The free bytes of the file system, or the length of the device; None if neither is known."""
    return [_room(image) for image in images]


def _room(image: "Image") -> int | None:
    try:
        if image.type == "block":
            return disk_figures.size_of(image.path).physical
        found = os.statvfs(image.path)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


async def _go_on(domain: "QemuDomain", run: "Run") -> None:
    """Let the guest repeat its write, unless it was stopped for another reason since."""
    async with domain.modify("the end of a backup without room"):
        if domain.run is run and run.ending is None and _paused_by_error(domain):
            await lifecycle.run_processors(run, RunningReason.UNPAUSED)
