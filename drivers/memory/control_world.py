"""The control commands for whole worlds: save, load, go back to the start, named snapshots."""

from pathlib import Path

import trio

from virtbackupd.drivers.errors import InvalidArgument, OperationInvalid
from virtbackupd.drivers.memory import boot, surroundings, world_state
from virtbackupd.drivers.memory.control import (
    Arguments,
    CommandTable,
    ControlCommand,
    NoArguments,
    Target,
)
from virtbackupd.drivers.memory.state_file import save_state

Json = dict[str, object]


class WorldFileArguments(Arguments, frozen=True):
    """Which file, by its absolute path on the machine of the daemon."""

    path: str


class SnapshotArguments(Arguments, frozen=True):
    """Which snapshot."""

    name: str


async def _save(target: Target, given: WorldFileArguments) -> Json:
    host, path = target.host, _absolute(given.path)
    state = world_state.take(host)._replace(surroundings=surroundings.take(host))
    size = await trio.to_thread.run_sync(save_state, path, state, str(host.image_dir))
    return {"path": given.path, "bytes": size, "domains": len(state.domains)}


async def _load(target: Target, given: WorldFileArguments) -> Json:
    await boot.load_into(target.host, _absolute(given.path))
    return _domains(target)


async def _reset(target: Target, _: NoArguments) -> Json:
    start = target.host.snapshots.start
    if start is None:
        raise OperationInvalid("the world is still being made, there is nothing to go back to")
    await world_state.go_back(target.host, start)
    return _domains(target)


def _take(target: Target, given: SnapshotArguments) -> Json:
    target.host.snapshots.check_new(given.name)
    target.host.snapshots.add(given.name, world_state.take(target.host))
    return _list(target, NoArguments())


async def _restore(target: Target, given: SnapshotArguments) -> Json:
    await world_state.go_back(target.host, target.host.snapshots.get(given.name))
    return _domains(target)


def _list(target: Target, _: NoArguments) -> Json:
    return {"snapshots": target.host.snapshots.names()}


def _drop(target: Target, given: SnapshotArguments) -> Json:
    target.host.snapshots.drop(given.name)
    return _list(target, NoArguments())


def _domains(target: Target) -> Json:
    return {"domains": len(target.host.domains)}


def _absolute(path: str) -> Path:
    found = Path(path)
    if not found.is_absolute() or "\0" in path:
        raise InvalidArgument(f"{path!r} is no absolute path: the daemon has a folder of its own")
    return found


COMMANDS: CommandTable = {
    "world-save": ControlCommand(
        "Write the state of everything into a file.", _save, WorldFileArguments, waits=True
    ),
    "world-load": ControlCommand(
        "Replace everything by a world file or a saved state; running backups end.",
        _load,
        WorldFileArguments,
        waits=True,
    ),
    "world-reset": ControlCommand(
        "Go back to what the daemon started with; running backups end.", _reset, waits=True
    ),
    "snapshot-take": ControlCommand(
        "Keep the state of everything in memory under a name.", _take, SnapshotArguments
    ),
    "snapshot-restore": ControlCommand(
        "Go back to a snapshot; running backups end.", _restore, SnapshotArguments, waits=True
    ),
    "snapshot-list": ControlCommand("The names of the snapshots, the oldest first.", _list),
    "snapshot-drop": ControlCommand("Forget a snapshot.", _drop, SnapshotArguments),
}
