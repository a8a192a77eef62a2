"""Makes a host with the domains of a world when the driver is opened."""

import trio

from virtbackupd.drivers.enums import CheckpointCreate, DomainState
from virtbackupd.drivers.errors import SystemFailure
from virtbackupd.drivers.interface import DriverOptions
from virtbackupd.drivers.memory import checkpoint, define, media
from virtbackupd.drivers.memory.host import Host
from virtbackupd.drivers.memory.images import Stamp, file_stamp
from virtbackupd.drivers.memory.stand_ins import place_stand_ins
from virtbackupd.drivers.memory.world import World, WorldDomain, load_world


async def make_host(nursery: trio.Nursery, options: DriverOptions) -> Host:
    """Read the world file, or take the default world; WorldError says what is wrong with it."""
    world, stamps = await trio.to_thread.run_sync(_load, options)
    host = Host(nursery, copy_rate=world.backup_rate)
    for image in world.images:
        host.images.add(image, stamps[image.path])
    for described in world.domains:
        await _add(host, described)
    return host


def _load(options: DriverOptions) -> tuple[World, dict[str, Stamp | None]]:
    folder = options.state_dir / "memory" / "images"
    try:
        world = load_world(options.world, folder)
        place_stand_ins(world.images, folder)
    except OSError as error:
        raise SystemFailure(f"cannot prepare the image folder {folder}: {error}") from error
    return world, {image.path: file_stamp(image.path) for image in world.images}


async def _add(host: Host, described: WorldDomain) -> None:
    if described.state is not DomainState.SHUTOFF:
        await media.take_files(host, described.definition.disks)
    domain = define.adopt(host, described.definition, described.state)
    domain.autostart = described.autostart
    for known in described.checkpoints:
        checkpoint.create_xml(domain, known.xml, CheckpointCreate.REDEFINE)
