"""Pull backups: every disk's instant behind one NBD server, until somebody ends the backup.

Old contents are kept in memory, so the scratch file only marks the space; what it would hold is
what the job's figures show.
"""

import errno
import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import trio

from virtbackupd.drivers.backup_rules import with_exports
from virtbackupd.drivers.errors import InternalError
from virtbackupd.drivers.events import DomainBlockThreshold
from virtbackupd.drivers.jobs import DiskJob, DiskState
from virtbackupd.drivers.memory import fault_effects, nbd_tls, pull_address
from virtbackupd.drivers.memory.nbd import (
    close_listeners,
    serve_nbd,
)
from virtbackupd.drivers.memory.nbd_export import NbdExport
from virtbackupd.drivers.memory.nbd_faults import NbdFaults
from virtbackupd.drivers.memory.nbd_protocol import Command
from virtbackupd.drivers.memory.nbd_record import DiskReads
from virtbackupd.drivers.memory.running import Backup, Request, Source
from virtbackupd.drivers.memory.stores import Store, claim_scratch

if TYPE_CHECKING:
    import ssl

    from virtbackupd.drivers.definitions.backup import BackupDisk
    from virtbackupd.drivers.faults.engine import Fired
    from virtbackupd.drivers.memory.frozen import Frozen

_log = logging.getLogger(__name__)

_READ = int(Command.READ)


@dataclass(slots=True)
class _PullDisk:
    source: Source
    store: Store
    view: "Frozen"
    job: DiskJob
    bound: "Fired | None" = None
    """The fault that leaves too little room for old contents."""


class PullBackup(Backup):
    """Ends with an abort, with its domain or with the driver, never by itself."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._stores: list[Store] = []
        self._listeners: Sequence[trio.SocketListener] = ()
        self._tls: ssl.SSLContext | None = None
        self._disks: list[_PullDisk] = []
        self._exports: list[NbdExport] = []
        self._reads: dict[str, DiskReads] = {}
        """By export."""
        self._scope = trio.CancelScope()
        self._listened = self._dead = False
        """Whether a process has begun to listen, and whether that one has ended."""

    async def prepare(self, undo: ExitStack) -> None:
        self.definition = with_exports(self.definition)
        undo.callback(self._discard_stores)
        await trio.to_thread.run_sync(self._claim)
        undo.callback(self._close_listeners)
        self._tls = await self._credentials()
        self._listeners = await self._listen()
        self._listened = self.domain.active

    async def _credentials(self) -> "ssl.SSLContext | None":
        server, folder = self.definition.server, self.domain.host.backup_tls
        if server is None or not server.tls or folder is None:
            return None
        return await trio.to_thread.run_sync(nbd_tls.make_context, folder)

    async def _listen(self) -> Sequence[trio.SocketListener]:
        server, advertised = self.definition.server, self.domain.host.advertise
        if server is None:
            raise InternalError("a pull backup needs a <server>")
        listeners = await pull_address.listen(server, advertised)
        shown = pull_address.announced(server, listeners, advertised)
        self.definition = replace(self.definition, server=shown)
        return listeners

    def freeze(self) -> None:
        entries = {entry.name: entry for entry in self.definition.selected}
        for source, store in zip(self._request.sources, self._stores, strict=True):
            entry = entries[source.disk.target]
            self._freeze_disk(source, store, entry)

    def _freeze_disk(self, source: Source, store: Store, entry: "BackupDisk") -> None:
        dirty = source.dirty()
        view = source.image.freeze()
        job = DiskJob(source.disk.target, source.event_path, source.image.capacity)
        disk = _PullDisk(source, store, view, job)
        if (bound := fault_effects.room(self.domain, job.target, "scratch")) is not None:
            view.preserve_limit, disk.bound = bound
        view.on_preserve = lambda _: self._preserved(disk)
        self.job.disks[job.target] = job
        self._disks.append(disk)
        bitmaps = {entry.exportbitmap: dirty} if dirty is not None and entry.exportbitmap else {}
        export = NbdExport(entry.export, view, bitmaps)
        self._exports.append(export)
        reads = self.domain.reads.setdefault(job.target, DiskReads())
        reads.begin(source.since, dirty)
        self._reads[export.name] = reads

    async def run(self) -> None:
        with self._scope:
            try:
                await serve_nbd(
                    self._listeners,
                    self._exports,
                    observer=self._requested,
                    clock=self.domain.host.clock,
                    faults=self._faults(),
                    figures=self.domain.host.nbd,
                    tls=self._tls,
                )
            except OSError as error:
                _log.warning("NBD server of domain %s failed: %s", self.domain.ref.name, error)
            finally:
                self._close_listeners()

    def _faults(self) -> NbdFaults:
        host = self.domain.host
        disks = {entry.export: entry.name for entry in self.definition.selected}
        return NbdFaults(host.faults, self.domain.ref, disks, host.clock, self._copying)

    def _copying(self, disk: str) -> bool:
        """Some of a disk is being read; whether the backup still runs."""
        fault_effects.at_phase(self.domain, "copying", disk)
        return not self.over.is_set()

    def _requested(self, export: NbdExport, command: int, offset: int, length: int) -> None:
        figures = self.domain.host.nbd
        figures.requests[command] += 1
        if command == _READ:
            figures.bytes_read += length
            self._reads[export.name].note(offset, length)

    def stop_disk(self, disk: DiskJob) -> None:
        token = trio.lowlevel.current_trio_token()
        token.run_sync_soon(self.end_disk, disk)

    def die(self) -> None:
        self._dead = True
        self.interrupt()

    def speed_changed(self, disk: DiskJob) -> None:
        """Nothing is copied but what the guest overwrites, at the guest's own pace."""

    def release(self, *, success: bool) -> None:  # noqa: ARG002 - scratch goes either way
        self._scope.cancel()
        self._close_listeners()
        for disk in self._disks:
            disk.view.close()
            if disk.bound is not None:
                disk.bound.missed()
        self._discard_stores()

    def _claim(self) -> None:
        for source in self._request.sources:
            self._stores.append(claim_scratch(source, reuse=self._request.reuse))

    def _discard_stores(self) -> None:
        for store in self._stores:
            store.discard()

    def _close_listeners(self) -> None:
        """Free the address at once, before the server's task gets its turn. Safe to repeat.

        QEMU removes the socket file when its NBD server is stopped, not when it ends or is killed.
        """
        listeners, self._listeners = self._listeners, ()
        if self.definition.server is not None:
            address = pull_address.address_of(self.definition.server, "")
            dead = self._dead or not self.domain.active
            close_listeners(listeners, address, leave=self._listened and dead)

    def _preserved(self, disk: _PullDisk) -> None:
        """A cluster has been kept: account for it, and look at the bounds."""
        disk.job.current = disk.view.preserved_bytes
        if disk.view.failed and disk.bound is not None:
            disk.bound.done()
        if disk.view.failed and disk.job.state is DiskState.RUNNING:
            token = trio.lowlevel.current_trio_token()
            token.run_sync_soon(self.end_disk, disk.job, os.strerror(errno.ENOSPC))
        limit = self.thresholds.get(disk.job.target)
        if limit and disk.job.current > limit:
            del self.thresholds[disk.job.target]
            self._publish_threshold(disk, limit)

    def _publish_threshold(self, disk: _PullDisk, limit: int) -> None:
        name = f"{disk.job.target}[{disk.source.entry.index}]"
        excess = disk.job.current - limit
        self.domain.events.publish(
            DomainBlockThreshold(self.domain.ref, name, disk.store.path, limit, excess)
        )
