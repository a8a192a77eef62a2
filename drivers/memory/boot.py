"""Makes a host with the domains of a world when the driver is opened, and gives it another later.

A world comes from a world file or from a saved state; the first bytes of the file tell which.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import trio

from virtbackupd.drivers.enums import DomainState
from virtbackupd.drivers.errors import SystemFailure
from virtbackupd.drivers.interface import DriverOptions
from virtbackupd.drivers.memory import define, fault_effects, media, surroundings, world_state
from virtbackupd.drivers.memory.host import Host
from virtbackupd.drivers.memory.images import OWN_FILE, Stamp
from virtbackupd.drivers.memory.nbd_tls import folder_from
from virtbackupd.drivers.memory.stand_ins import place_stand_ins
from virtbackupd.drivers.memory.world import World, WorldDomain, load_world
from virtbackupd.drivers.memory.world_state import MAGIC, WorldState


class Loaded(NamedTuple):
    """What a file holds, with the states of the files that its images are about."""

    world: World | WorldState
    stamps: dict[str, Stamp | None]

    @property
    def surroundings(self) -> "surroundings.Surroundings | None":
        return self.world.surroundings if isinstance(self.world, WorldState) else None


def image_dir(options: DriverOptions) -> Path:
    """Where images without a path of their own seem to lie."""
    return options.state_dir / "memory" / "images"


async def make_host(nursery: trio.Nursery, options: DriverOptions) -> Host:
    """Read the world, or take the default one; WorldError says what is wrong with it."""
    loaded = await trio.to_thread.run_sync(_load, options.world, image_dir(options))
    host = Host(
        nursery,
        copy_rate=loaded.world.backup_rate,
        clock=options.clock,
        profile=options.profile,
        faults=options.faults,
        advertise=options.advertise,
        backup_tls=folder_from(options.settings),
        image_dir=image_dir(options),
        shown=loaded.world.shown,
    )
    fault_effects.attach(host)
    await _fill(host, loaded)
    if (known := loaded.surroundings) is not None:
        surroundings.begin_with(host, known)
    host.snapshots.start = world_state.take(host)
    return host


async def load_into(host: Host, path: Path) -> None:
    """Give a host another world, which is refused as a whole if anything is wrong with it."""
    with _collecting_later():
        loaded = await trio.to_thread.run_sync(_load, path, host.image_dir)
        # A host that nobody sees, so that what has to wait is done before the world changes.
        other = Host(host.nursery, clock=host.clock, profile=host.profile, image_dir=host.image_dir)
        await _fill(other, loaded)
        _take_over(host, other, loaded.surroundings)


def _take_over(host: Host, other: Host, around: "surroundings.Surroundings | None") -> None:
    if around is not None:
        surroundings.check(host)
    host.stand_ins.expect(other.stand_ins.pending.values())
    world_state.restore(host, world_state.take(other))
    if around is not None:
        surroundings.put_back(host, around)
    # The other host and its domains hold each other.
    other.domains.restore((), 0)


@contextmanager
def _collecting_later() -> Iterator[None]:
    """Garbage collection would pass over the many new objects again and again: half of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _load(path: Path | None, folder: Path) -> Loaded:
    world = _read(path, folder)
    images = world.images if isinstance(world, World) else [image for image, _ in world.images]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return Loaded(world, place_stand_ins(images, folder))
    except OSError as error:
        raise SystemFailure(f"cannot prepare the image folder {folder}: {error}") from error


def _read(path: Path | None, folder: Path) -> World | WorldState:
    if path is not None and _is_saved(path):
        from virtbackupd.drivers.memory.state_file import load_state  # noqa: PLC0415 - rarely used

        return load_state(path, str(folder))
    return load_world(path, folder)


def _is_saved(path: Path) -> bool:
    """Whether the file begins like a saved state; False also when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


async def _fill(host: Host, loaded: Loaded) -> None:
    world, stamps = loaded
    if isinstance(world, World):
        for image in world.images:
            host.images.add(image, stamps[image.path])
        for described in world.domains:
            await _add(host, described)
        for xml in world.secrets:
            host.secrets.secret_define_xml(xml, 0)
    else:
        world_state.restore(host, world)
        for path, stamp in stamps.items():
            host.images.stamped(path, stamp)
    host.stand_ins.expect(image for image in host.images if stamps.get(image.path) is OWN_FILE)


async def _add(host: Host, described: WorldDomain) -> None:
    if described.state is not DomainState.SHUTOFF and described.given:
        await media.take_files(host, (described.live or described.definition).disks)
    domain = define.adopt(host, described.definition, described.state, described.live)
    domain.autostart = described.autostart
    if not described.persistent:
        domain.persistent = None
    for known in described.checkpoints:
        domain.checkpoints.redefine(known.name, known, known.parent)
