"""What a starting daemon makes of the files of its predecessor: definitions, and QEMUs that run on.

A domain whose QEMU still lives is taken over as it is; one whose QEMU has ended meanwhile is shut
off, and the world is told as if it had happened now. A file that cannot be read is left alone and
logged: it is somebody's data.
"""

import logging
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from virtbackupd.drivers import store
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.enums import DomainState, Lifecycle, ShutoffReason
from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.qemu import launch, lifecycle, process, resume, scratch_room, state_file
from virtbackupd.drivers.qemu.config import DomainPaths
from virtbackupd.drivers.qemu.define import autostart_path, definition_path
from virtbackupd.drivers.qemu.process import Process
from virtbackupd.drivers.qemu.qmp import MonitorLost
from virtbackupd.drivers.qemu.run import Run
from virtbackupd.drivers.qemu.save import save_path
from virtbackupd.drivers.qemu.state_file import Status
from virtbackupd.drivers.stops import CRASHED
from virtbackupd.drivers.store import StoredFile

if TYPE_CHECKING:
    from virtbackupd.drivers.qemu.domain import QemuDomain
    from virtbackupd.drivers.qemu.host import Host

log = logging.getLogger(__name__)

_PATIENCE: Final = 5.0
"""Seconds that a silent QEMU may hold up the start of the daemon."""
_NOTICE: Final = 1.0
"""Seconds in which the end of a process follows that of its socket."""
_PAUSE: Final = 2.0


async def recover(host: "Host") -> None:
    """Fill an empty host; returns when every living QEMU is under watch."""
    await _load_definitions(host)
    found = await trio.to_thread.run_sync(_read, host.settings.status)
    async with trio.open_nursery() as nursery:
        for file in found:
            nursery.start_soon(_take_over_quietly, host, file)
    for domain in host.domains:
        if not domain.active:
            await domain.checkpoint_files.drop_marks()


async def autostart(host: "Host") -> None:
    """Start what is to start with the daemon; a failure is logged and stops nothing."""
    for domain in list(host.domains):
        if domain.autostart and not domain.active:
            try:
                await lifecycle.create(domain, 0)
            except DriverError as error:
                log.error("domain %s is not started: %s", domain.ref.name, error.message)


def _read(folder: Path) -> list[StoredFile]:
    return list(store.read_all(folder))


async def _load_definitions(host: "Host") -> None:
    files = await trio.to_thread.run_sync(_read, host.settings.definitions)
    known: dict[bytes, list[DomainDefinition]] = {}
    for file in files:
        definition = _definition(file)
        if definition is not None:
            known.setdefault(definition.uuid, []).append(definition)
    for same in known.values():
        definition = same[0] if len(same) == 1 else await _finish_rename(host, same)
        await _adopt(host, definition)


def _definition(file: StoredFile) -> DomainDefinition | None:
    try:
        if file.text is None:
            raise OSError(file.problem)
        definition = DomainDefinition.parse(file.text)
    except (DriverError, OSError) as error:
        log.error("%s is left out: %s", file.path, error)
        return None
    if definition.name != file.path.stem:
        log.error("%s is left out: it defines domain %s", file.path, definition.name)
        return None
    return definition


async def _finish_rename(host: "Host", same: list[DomainDefinition]) -> DomainDefinition:
    """Two names with one UUID: the daemon was ended while it renamed a domain."""
    ages = [(await trio.Path(definition_path(host, each.name)).stat()).st_mtime_ns for each in same]
    newest = same[ages.index(max(ages))]
    for old in same:
        if old is not newest:
            await _move_to(host, old.name, newest.name)
    return newest


async def _move_to(host: "Host", old: str, new: str) -> None:
    for folder in (host.settings.checkpoints, host.settings.snapshots):
        if await trio.Path(folder(old)).exists():
            await store.move(folder(old), folder(new))
    if await trio.Path(autostart_path(host, old)).exists():
        await store.move(autostart_path(host, old), autostart_path(host, new))
    await store.remove(definition_path(host, old))


async def _adopt(host: "Host", definition: DomainDefinition) -> None:
    domain = host.add(definition)
    domain.persistent = definition
    domain.autostart = await trio.Path(autostart_path(host, definition.name)).exists()
    image = save_path(domain)
    domain.saved = image if await trio.Path(image).exists() else None
    await trio.to_thread.run_sync(domain.load_metadata)


async def _take_over_quietly(host: "Host", file: StoredFile) -> None:
    try:
        status = state_file.parse_status(file.text or "")
        await _take_over(host, status)
    except DriverError as error:
        log.error("%s is left out: %s", file.path, error.message)


async def _take_over(host: "Host", status: Status) -> None:
    domain = await _domain_of(host, status)
    host.domains.activate(domain, status.id)
    domain.live = status.definition
    domain.state, domain.reason = status.state, status.reason
    paths = host.settings.run_paths(status.id, domain.ref.name)
    found = process.adopt(status.pid, status.start_time)
    for part in state_file.PARTS:
        if part.tag in status.parts:
            part.read(domain, status.parts[part.tag])
    if found is None:
        await _ended_meanwhile(domain, paths.folder, status)
        return
    try:
        with trio.fail_after(_PATIENCE):
            monitor = await launch.connect(domain, paths)
    except (MonitorLost, trio.TooSlowError):
        log.warning("QEMU of domain %s does not answer", domain.ref.name)
        if await found.gone_within(_NOTICE):
            await _ended_meanwhile(domain, paths.folder, status)
        else:
            host.nursery.start_soon(_take_over_later, domain, found, paths, status)
        return
    await _go_on(domain, Run(paths, found, monitor, reboots=status.reboots))


async def _take_over_later(
    domain: "QemuDomain", found: Process, paths: DomainPaths, status: Status
) -> None:
    """Until QEMU answers or ends, its domain can only be looked at."""
    try:
        while not await found.gone_within(_PAUSE):
            with suppress(MonitorLost):
                monitor = await launch.connect(domain, paths)
                break
        else:
            await _ended_meanwhile(domain, paths.folder, status)
            return
        await _go_on(domain, Run(paths, found, monitor, reboots=status.reboots))
    except DriverError as error:
        log.error("domain %s: %s", domain.ref.name, error.message)


async def _go_on(domain: "QemuDomain", run: Run) -> None:
    domain.run = run
    lifecycle.watch_over(domain, run)
    await launch.learn(domain, run)
    backup = domain.backup
    await resume.resume(domain)
    await launch.see_state(domain, run)
    scratch_room.look_if_paused(domain, backup)
    await domain.save_status()


async def _domain_of(host: "Host", status: Status) -> "QemuDomain":
    known = host.domains.maybe_by_uuid(status.definition.uuid)
    if known is not None:
        return known
    transient = host.add(status.definition)
    await trio.to_thread.run_sync(transient.load_metadata)
    return transient


async def _ended_meanwhile(domain: "QemuDomain", folder: Path, status: Status) -> None:
    shut_down = status.state == DomainState.SHUTDOWN
    await resume.end_without_qemu(domain)
    reason = ShutoffReason.SHUTDOWN if shut_down else CRASHED.reason
    domain.host.domains.deactivate(domain)
    domain.live = None
    domain.enter(DomainState.SHUTOFF, reason)
    await domain.status.remove()
    await trio.to_thread.run_sync(shutil.rmtree, folder, True)  # noqa: FBT003
    # Nobody is connected yet; whoever connects sees the state.
    domain.publish(Lifecycle.STOPPED, CRASHED.detail)
    if domain.persistent is None:
        await domain.forget()
