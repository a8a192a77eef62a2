"""Managed save: the guest's memory in a file, and starting again from there.

The file is a line that tells what it is, the XML of the domain, and QEMU's own migration stream.
Bitmaps are in the images, where QEMU stores them when it stops writing to them.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from virtbackupd.drivers import store
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.enums import (
    DomainState,
    Lifecycle,
    PausedReason,
    RunningReason,
    StartedDetail,
    SuspendedDetail,
)
from virtbackupd.drivers.errors import (
    OperationFailed,
    OperationInvalid,
    SystemFailure,
)
from virtbackupd.drivers.flags import FlagRules
from virtbackupd.drivers.qemu import launch, lifecycle
from virtbackupd.drivers.qemu.live_details import without_sockets_below
from virtbackupd.drivers.qemu.qmp import Monitor, MonitorLost
from virtbackupd.drivers.qemu.run import Run
from virtbackupd.drivers.qemu.undo import undone_by
from virtbackupd.drivers.stops import FAILED, SAVED

if TYPE_CHECKING:
    from virtbackupd.drivers.qemu.domain import QemuDomain

_BYPASS_CACHE: Final = 1
_RUNNING: Final = 2
_PAUSED: Final = 4
_SAVE = FlagRules("virDomainManagedSave", _BYPASS_CACHE | _RUNNING | _PAUSED)
_REMOVE = FlagRules("virDomainManagedSaveRemove", 0)
_MAGIC: Final = "virtbackupd-save 1"
_MAX_HEADER: Final = 64 * 1024 * 1024
_FD_NAME: Final = "managed-save"
_POLL: Final = 0.05
_STALLED_AFTER: Final = 300.0
_GO_ON_GRACE: Final = 30.0
_CLEAN_UP_GRACE: Final = 10.0
_END_GRACE: Final = 60.0
"""Seconds without one byte written, after which a save is given up."""
_UNLIMITED: Final = 1 << 60


class SavedState(NamedTuple):
    """The beginning of a save image."""

    definition: DomainDefinition
    paused: bool
    offset: int
    """Where QEMU's stream begins."""


def save_path(domain: "QemuDomain") -> Path:
    return domain.host.settings.saves / f"{domain.ref.name}.save"


async def managed_save(domain: "QemuDomain", flags: int) -> None:
    """Keep the guest's state and stop."""
    _SAVE.check(flags)
    domain.require_active()
    async with domain.modify("virDomainManagedSave"):
        run = domain.require_run()
        if domain.persistent is None:
            raise OperationInvalid(f"domain {domain.ref.name} is transient and cannot be saved")
        domain.jobs.require_idle("save")
        was_running = domain.state == DomainState.RUNNING
        paused = (not was_running or bool(flags & _PAUSED)) and not flags & _RUNNING
        if was_running:
            await lifecycle.stop_processors(run, PausedReason.SAVE)
        async with undone_by(partial(_go_on, run, was_running=was_running), _GO_ON_GRACE):
            await _write(domain, run, paused=paused)
        domain.saved = save_path(domain)
        await lifecycle.end(run, SAVED)


async def _go_on(run: Run, *, was_running: bool) -> None:
    """After a save that failed the guest runs as before."""
    if was_running and run.ending is None and not run.gone:
        await lifecycle.run_processors(run, RunningReason.UNPAUSED)


async def _write(domain: "QemuDomain", run: Run, *, paused: bool) -> None:
    path = save_path(domain)
    new = path.with_suffix(".new")
    header = _header(domain.definition.to_xml(), paused=paused)
    async with undone_by(partial(store.remove, new), _CLEAN_UP_GRACE):
        async with _opened(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as descriptor:
            await trio.to_thread.run_sync(_write_all, descriptor, header)
            await _migrate(domain, run, descriptor)
            await trio.to_thread.run_sync(os.fsync, descriptor)
        await store.move(new, path)


def _header(xml: str, *, paused: bool) -> bytes:
    body = xml.encode()
    return f"{_MAGIC} {'paused' if paused else 'running'} {len(body)}\n".encode() + body


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


async def _migrate(domain: "QemuDomain", run: Run, descriptor: int) -> None:
    """Let QEMU write its state; both images and bitmaps are flushed when it has."""
    monitor = run.monitor
    await monitor.execute("migrate-set-parameters", {"max-bandwidth": _UNLIMITED})
    await monitor.send_fd(_FD_NAME, descriptor)
    await monitor.execute("migrate", {"uri": f"fd:{_FD_NAME}"})
    async with undone_by(partial(_call_off, monitor), _CLEAN_UP_GRACE):
        await _wait_for_migration(domain, run)


async def _call_off(monitor: Monitor) -> None:
    if not monitor.lost.is_set():
        await monitor.execute("migrate_cancel")


async def _wait_for_migration(domain: "QemuDomain", run: Run) -> None:
    moved, since = -1, trio.current_time()
    while True:
        info = await run.monitor.execute("query-migrate")
        status = info.get("status")
        if status == "completed":
            return
        if status in ("failed", "cancelled"):
            cause = info.get("error-desc", f"the migration to the file {status}")
            raise OperationFailed(f"domain {domain.ref.name} could not be saved: {cause}")
        transferred = info.get("ram", {}).get("transferred", 0)
        if transferred != moved:
            moved, since = transferred, trio.current_time()
        if trio.current_time() - since > _STALLED_AFTER:
            raise OperationFailed(f"saving domain {domain.ref.name} does not go on")
        await trio.sleep(_POLL)


async def restore(domain: "QemuDomain", *, paused: bool) -> None:
    """Start from the managed save image, which is used up by that; the caller has the turn."""
    path = save_path(domain)
    async with _opened(path, os.O_RDONLY) as descriptor:
        saved = await trio.to_thread.run_sync(read_header, descriptor, path)
        # Every run has a folder of its own.
        definition = without_sockets_below(saved.definition, domain.host.settings.root / "lib")
        run = await launch.launch(domain, definition, incoming="defer")
        lifecycle.watch_over(domain, run)
        try:
            async with undone_by(partial(lifecycle.end, run, FAILED), _END_GRACE):
                await trio.to_thread.run_sync(os.lseek, descriptor, saved.offset, os.SEEK_SET)
                await _read_back(domain, run, descriptor)
        except MonitorLost:
            raise _unreadable(path, run) from None
    await discard(domain)
    await _go_on_as_saved(domain, run, paused=paused or saved.paused, asked=paused)


def _unreadable(path: Path, run: Run) -> OperationFailed:
    """QEMU ends when it cannot make sense of what it reads."""
    return OperationFailed(
        f"QEMU could not go on from {path}, see {run.paths.log}; remove the image to start the"
        " domain afresh"
    )


async def _read_back(domain: "QemuDomain", run: Run, descriptor: int) -> None:
    await run.monitor.send_fd(_FD_NAME, descriptor)
    await run.monitor.execute("migrate-incoming", {"uri": f"fd:{_FD_NAME}"})
    await _wait_for_migration(domain, run)


async def _go_on_as_saved(domain: "QemuDomain", run: Run, *, paused: bool, asked: bool) -> None:
    """`asked` tells a pause that the caller wants from one that was saved."""
    lifecycle.require_same(domain, run)
    domain.publish(Lifecycle.STARTED, StartedDetail.RESTORED)
    if paused:
        domain.enter(DomainState.PAUSED, PausedReason.USER)
        detail = SuspendedDetail.PAUSED if asked else SuspendedDetail.RESTORED
        domain.publish(Lifecycle.SUSPENDED, detail)
    else:
        await lifecycle.run_processors(run, RunningReason.RESTORED)
    await domain.save_status()


def read_header(descriptor: int, path: Path) -> SavedState:
    """Blocks; OperationFailed when the file is not a save image."""
    first = os.read(descriptor, 4096)
    line, newline, rest = first.partition(b"\n")
    words = line.decode("ascii", "replace").split(" ")
    if not newline or " ".join(words[:2]) != _MAGIC or len(words) != 4 or not words[3].isdigit():
        raise OperationFailed(f"{path} is not a save image, remove it to start the domain afresh")
    length = int(words[3])
    if length > _MAX_HEADER:
        raise OperationFailed(f"{path} is damaged, remove it to start the domain afresh")
    body = rest[:length]
    while len(body) < length and (more := os.read(descriptor, length - len(body))):
        body += more
    definition = DomainDefinition.parse(body.decode())
    return SavedState(definition, words[2] == "paused", len(line) + 1 + length)


async def managed_save_remove(domain: "QemuDomain", flags: int) -> None:
    """Throw a saved state away."""
    _REMOVE.check(flags)
    async with domain.modify("virDomainManagedSaveRemove"):
        if domain.saved is None:
            raise SystemFailure(f"domain {domain.ref.name} has no managed save image to remove")
        await discard(domain)


async def discard(domain: "QemuDomain") -> None:
    """Remove the image; the caller has the turn."""
    await store.remove(save_path(domain))
    domain.saved = None


@asynccontextmanager
async def _opened(path: Path, flags: int) -> AsyncIterator[int]:
    try:
        descriptor = await trio.to_thread.run_sync(os.open, path, flags, 0o600)
    except OSError as error:
        raise SystemFailure(f"cannot open {path}: {error.strerror}") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)
