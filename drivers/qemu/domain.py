"""A virtual machine of QEMU's: what it is at this moment, and every call on it.

The calls are a line each; what they do lives in the module that the line names. Those modules work
on the state kept here and know each other as little as possible. The state here is what we have
been told; QEMU has the last word, through its events.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from virtbackupd.drivers import checkpoint_rules
from virtbackupd.drivers.checkpoint_tree import CheckpointTree
from virtbackupd.drivers.defined_domain import DefinedDomain
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.enums import ControlState, DeviceModify, DomainState, ShutoffReason
from virtbackupd.drivers.errors import DriverError, OperationInvalid, Origin, SystemFailure
from virtbackupd.drivers.events import DomainRef, TypedParameter
from virtbackupd.drivers.flags import JOB_STATS, FlagRules, check_none
from virtbackupd.drivers.interface import (
    BlockInfo,
    BlockJobInfo,
    BlockStats,
    ConsoleStream,
    DomainInfo,
    JobInfo,
    JobStats,
    VcpuInfo,
)
from virtbackupd.drivers.jobs import JobSlot
from virtbackupd.drivers.metadata import Request, get_metadata
from virtbackupd.drivers.qemu import (
    agent,
    backup,
    block,
    checkpoint,
    commit,
    console,
    define,
    device_calls,
    disk_jobs,
    disk_stats,
    guest_events,
    guest_memory,
    lifecycle,
    media,
    monitor,
    processors,
    save,
    settle,
    snapshot,
    state_file,
    undefine,
)
from virtbackupd.drivers.qemu.block_jobs import BlockJobs
from virtbackupd.drivers.qemu.block_nodes import BlockNodes
from virtbackupd.drivers.qemu.checkpoint_files import CheckpointFiles
from virtbackupd.drivers.qemu.host import Host
from virtbackupd.drivers.qemu.process import cpu_times
from virtbackupd.drivers.qemu.qmp import Monitor
from virtbackupd.drivers.qemu.run import Run
from virtbackupd.drivers.qemu.snapshots import Snapshots
from virtbackupd.drivers.qemu.turn import Turn

if TYPE_CHECKING:
    from pathlib import Path

    from virtbackupd.drivers.definitions.checkpoint import CheckpointDefinition
    from virtbackupd.drivers.qemu.block_nodes import Layer
    from virtbackupd.drivers.qemu.commit import Commit
    from virtbackupd.drivers.qemu.rollback import Attempt
    from virtbackupd.drivers.qemu.running import QemuBackup

Handler: TypeAlias = Callable[[dict[str, Any]], None]

_MONITOR_ERROR = 2
"""VIR_DOMAIN_CONTROL_ERROR_REASON_MONITOR."""
_MESSAGES = FlagRules("virDomainGetMessages", 1 | 2)


class QemuDomain(DefinedDomain):
    """One domain; `ref` is written by the registry alone."""

    def __init__(self, host: Host, definition: DomainDefinition) -> None:
        self.host = host
        self.events = host.events
        self.ref = DomainRef(definition.name, definition.uuid, -1)
        self.persistent: DomainDefinition | None = None
        """What the next start uses, as it is on the disk; None for a transient domain."""
        self.live: DomainDefinition | None = None
        """What runs; None while inactive."""
        self.run: Run | None = None
        """The QEMU that is at work; None while inactive and while starting."""
        self.state: int = DomainState.SHUTOFF.value
        self.reason: int = ShutoffReason.UNKNOWN.value
        self.autostart: bool = False
        self.saved: Path | None = None
        """The managed save image."""
        self.checkpoints: CheckpointTree[CheckpointDefinition] = CheckpointTree()
        self.jobs = JobSlot()
        self.backup: QemuBackup | None = None
        self.attempt: Attempt | None = None
        """A backup that is being begun, or that was and has not been undone yet."""
        self.unsettled = False
        """Whether a call was cut off, and what it left is to be set right before any other."""
        self.block_jobs = BlockJobs()
        self.commits: dict[str, Commit] = {}
        """The block commits that run, by target."""
        self.overlays: dict[str, Layer] = {}
        """The new images of a snapshot that is being made, by target."""
        self.snapshots = Snapshots(self)
        self.nodes = BlockNodes()
        """What QEMU knows of the disks' images in this run."""
        self.checkpoint_files = CheckpointFiles(self)
        self.turn = Turn()
        self.status = state_file.StatusFile(self)
        self._handlers: dict[str, list[Handler]] = {}
        self.on_event("JOB_STATUS_CHANGE", self.block_jobs.on_event)

    # What the other modules ask and tell
    @property
    def monitor(self) -> Monitor:
        """The monitor of what runs."""
        return self.require_run().monitor

    def require_run(self) -> Run:
        """The run, with the same refusal."""
        if self.run is None:
            raise OperationInvalid(f"domain {self.ref.name} is not running", origin=Origin.DOMAIN)
        return self.run

    def disk_nodes(self, target: str) -> tuple[str, ...]:
        """The nodes by which QEMU may mean a disk, from the top; none in an empty drive."""
        chain = self.nodes.disks.get(target)
        return () if chain is None or not chain.layers else tuple(chain.node_names())

    @asynccontextmanager
    async def modify(self, api: str) -> AsyncIterator[None]:
        """The turn to change the domain; see again what it is once it has come."""
        async with self.turn.take(api, self.ref.name):
            if self.unsettled:
                await settle.settle(self)
            run = self.run
            try:
                yield
            except DriverError as error:
                await settle.after_failure(self, run, error)
                raise

    async def save_status(self) -> None:
        """Write what a restarted daemon needs to know of the run; it is on the disk then."""
        await self.status.save()

    async def save_status_if_possible(self) -> None:
        """The same, for what happens in any case: without room on the disk it is written later."""
        try:
            await self.save_status()
        except SystemFailure:
            self.save_status_soon()

    def save_status_soon(self) -> None:
        """The same, for those that cannot wait."""
        self.status.save_soon()

    def load_metadata(self) -> None:
        """Read what is on disk of checkpoints and snapshots. Blocks."""
        self.checkpoint_files.load()
        self.snapshots.load()

    def on_event(self, name: str, handler: Handler) -> None:
        """Call `handler` with the data of each event of QEMU's with that name."""
        self._handlers.setdefault(name, []).append(handler)

    def dispatch_event(self, name: str, data: dict[str, Any], seconds: float) -> None:
        """What the monitor calls, in QEMU's order."""
        del seconds
        guest_events.handle(self, name, data)
        for handler in self._handlers.get(name, ()):
            handler(data)

    async def forget(self) -> None:
        """Drop an undefined domain and its checkpoints' metadata; its images stay."""
        await undefine.forget(self)

    async def remove_checkpoint_files(self) -> None:
        await undefine.remove_checkpoint_files(self)

    def vanish(self) -> None:
        """Be found by nobody any more; the files are another matter."""
        undefine.vanish(self)

    # Definition and state
    def get_info(self) -> DomainInfo:
        about = self.definition
        memory = guest_memory.current(self) if self.active else about.memory
        time = sum(cpu_times(self.run.process.pid)) if self.run is not None else 0
        return DomainInfo(self.state, about.memory, memory, about.vcpus, time)

    async def set_autostart(self, autostart: int) -> None:
        await define.set_autostart(self, bool(autostart))

    def get_metadata(self, type: int, uri: str | None, flags: int) -> str:  # noqa: A002
        return get_metadata(self, type, uri, flags)

    async def set_metadata(
        self,
        type: int,  # noqa: A002
        metadata: str | None,
        key: str | None,
        uri: str | None,
        flags: int,
    ) -> None:
        await define.set_metadata(self, Request(type, metadata, key, uri, flags))

    def get_messages(self, flags: int) -> list[str]:
        _MESSAGES.check(flags)
        return []

    async def memory_stats(self, flags: int) -> Sequence[tuple[int, int]]:
        return await guest_memory.memory_stats(self, flags)

    def get_vcpus(self) -> Sequence[VcpuInfo]:
        return processors.get_vcpus(self)

    def get_control_info(self, flags: int) -> tuple[int, int, int]:
        check_none(flags, "virDomainGetControlInfo")
        if self.require_run().monitor.lost.is_set():
            return ControlState.ERROR, _MONITOR_ERROR, 0
        state = ControlState.JOB if self.turn.holder else ControlState.OK
        return state, 0, int(self.turn.age * 1000)

    # Life cycle
    async def create(self) -> None:
        await lifecycle.create(self, 0)

    async def create_with_flags(self, flags: int) -> DomainRef:
        await lifecycle.create(self, flags)
        return self.ref

    async def shutdown(self) -> None:
        await lifecycle.shutdown(self, 0)

    async def shutdown_flags(self, flags: int) -> None:
        await lifecycle.shutdown(self, flags)

    async def reboot(self, flags: int) -> None:
        await lifecycle.reboot(self, flags)

    async def reset(self, flags: int) -> None:
        await lifecycle.reset(self, flags)

    async def suspend(self) -> None:
        await lifecycle.suspend(self)

    async def resume(self) -> None:
        await lifecycle.resume(self)

    async def destroy(self) -> None:
        await lifecycle.destroy(self, 0)

    async def destroy_flags(self, flags: int) -> None:
        await lifecycle.destroy(self, flags)

    async def undefine(self) -> None:
        await undefine.undefine(self, 0)

    async def undefine_flags(self, flags: int) -> None:
        await undefine.undefine(self, flags)

    async def rename(self, new_name: str | None, flags: int) -> int:
        return await undefine.rename(self, new_name, flags)

    def has_managed_save_image(self, flags: int) -> int:
        check_none(flags, "virDomainHasManagedSaveImage")
        return int(self.saved is not None)

    async def managed_save(self, flags: int) -> None:
        await save.managed_save(self, flags)

    async def managed_save_remove(self, flags: int) -> None:
        await save.managed_save_remove(self, flags)

    # Devices
    async def attach_device(self, xml: str) -> None:
        await device_calls.attach(self, xml, DeviceModify.LIVE)

    async def attach_device_flags(self, xml: str, flags: int) -> None:
        await device_calls.attach(self, xml, flags)

    async def detach_device(self, xml: str) -> None:
        await device_calls.detach(self, xml, DeviceModify.LIVE)

    async def detach_device_flags(self, xml: str, flags: int) -> None:
        await device_calls.detach(self, xml, flags)

    async def detach_device_alias(self, alias: str, flags: int) -> None:
        await device_calls.detach_alias(self, alias, flags)

    async def update_device_flags(self, xml: str, flags: int) -> None:
        await device_calls.update(self, xml, flags)

    # Disks
    async def block_resize(self, disk: str, size: int, flags: int) -> None:
        await media.resize(self, disk, size, flags)
        self.nodes.facts.clear()

    async def get_block_info(self, path: str, flags: int) -> BlockInfo:
        return await block.get_block_info(self, path, flags)

    async def get_disk_errors(self, flags: int) -> Sequence[tuple[str, int]]:
        return await block.get_disk_errors(self, flags)

    async def set_block_threshold(self, dev: str, threshold: int, flags: int) -> None:
        await block.set_block_threshold(self, dev, threshold, flags)

    async def block_stats(self, path: str) -> BlockStats:
        return await disk_stats.block_stats(self, path)

    async def block_stats_flags(self, path: str, flags: int) -> Sequence[TypedParameter]:
        check_none(flags, "virDomainBlockStatsFlags")
        return await disk_stats.block_stats_params(self, path)

    async def get_block_job_info(self, path: str, flags: int) -> BlockJobInfo:
        return await disk_jobs.get_info(self, path, flags)

    async def block_job_abort(self, path: str, flags: int) -> None:
        await disk_jobs.abort(self, path, flags)

    async def block_job_set_speed(self, path: str, bandwidth: int, flags: int) -> None:
        await disk_jobs.set_speed(self, path, bandwidth, flags)

    async def block_commit(
        self, disk: str, base: str | None, top: str | None, bandwidth: int, flags: int
    ) -> None:
        await commit.begin(self, disk, base, top, bandwidth, flags)

    # Snapshots
    def snapshot_num(self, flags: int) -> int:
        return len(self.snapshots.list_all(flags))

    def list_all_snapshots(self, flags: int) -> list[str]:
        return self.snapshots.list_all(flags)

    def has_current_snapshot(self, flags: int) -> int:
        return self.snapshots.has_current(flags)

    async def snapshot_create_xml(self, xml_desc: str, flags: int) -> str:
        return await snapshot.create_xml(self, xml_desc, flags)

    def snapshot_get_xml_desc(self, name: str, flags: int) -> str:
        return self.snapshots.xml(name, flags)

    def snapshot_lookup_by_name(self, name: str, flags: int) -> str:
        return self.snapshots.lookup(name, flags)

    def snapshot_get_parent(self, name: str, flags: int) -> str:
        return self.snapshots.parent(name, flags)

    def snapshot_current(self, flags: int) -> str:
        return self.snapshots.current(flags)

    def snapshot_is_current(self, name: str, flags: int) -> int:
        return self.snapshots.is_current(name, flags)

    def snapshot_has_metadata(self, name: str, flags: int) -> int:
        check_none(flags, "virDomainSnapshotHasMetadata")
        return int(bool(self.snapshots.get(name)))

    def snapshot_num_children(self, name: str, flags: int) -> int:
        return self.snapshots.number_of_children(name, flags)

    async def snapshot_delete(self, name: str, flags: int) -> None:
        async with self.modify("virDomainSnapshotDelete"):
            await self.snapshots.delete(name, flags)

    # Checkpoints
    async def checkpoint_create_xml(self, xml_desc: str, flags: int) -> str:
        return await checkpoint.create_xml(self, xml_desc, flags)

    async def checkpoint_get_xml_desc(self, name: str, flags: int) -> str:
        return await checkpoint.get_xml_desc(self, name, flags)

    def list_all_checkpoints(self, flags: int) -> list[str]:
        return checkpoint_rules.list_all(self, flags)

    def checkpoint_list_all_children(self, name: str, flags: int) -> list[str]:
        return checkpoint_rules.list_children(self, name, flags)

    def checkpoint_lookup_by_name(self, name: str, flags: int) -> str:
        return checkpoint_rules.lookup(self, name, flags)

    def checkpoint_get_parent(self, name: str, flags: int) -> str:
        return checkpoint_rules.get_parent(self, name, flags)

    async def checkpoint_delete(self, name: str, flags: int) -> None:
        await checkpoint.delete(self, name, flags)

    # Backups and jobs
    async def backup_begin(self, backup_xml: str, checkpoint_xml: str | None, flags: int) -> None:
        await backup.begin(self, backup_xml, checkpoint_xml, flags)

    def backup_get_xml_desc(self, flags: int) -> str:
        return backup.get_xml_desc(self, flags)

    async def get_job_info(self) -> JobInfo:
        self.require_active()
        if self.backup is not None:
            await self.backup.refresh()
        return self.jobs.info()

    async def get_job_stats(self, flags: int) -> JobStats:
        JOB_STATS.check(flags)
        if not flags:
            self.require_active()
            if self.backup is not None:
                await self.backup.refresh()
        before = self.jobs.completed
        found = self.jobs.stats(flags)
        if self.jobs.completed is not before:
            self.save_status_soon()
        return found

    async def abort_job(self) -> None:
        await backup.abort(self, 0)

    async def abort_job_flags(self, flags: int) -> None:
        await backup.abort(self, flags)

    # Guest agent, monitor, console
    async def fsfreeze(self, mountpoints: list[str], flags: int) -> int:
        return await agent.fsfreeze(self, mountpoints, flags)

    async def fsthaw(self, mountpoints: list[str], flags: int) -> int:
        return await agent.fsthaw(self, mountpoints, flags)

    async def get_guest_info(self, types: int, flags: int) -> Sequence[TypedParameter]:
        return await agent.guest_info(self, types, flags)

    async def get_time(self, flags: int) -> tuple[int, int]:
        return await agent.get_time(self, flags)

    async def agent_command(self, cmd: str, timeout: int, flags: int) -> str | None:  # noqa: ASYNC109
        return await agent.command(self, cmd, timeout, flags)

    async def monitor_command(self, cmd: str, flags: int) -> str:
        try:
            return await monitor.command(self, cmd, flags)
        finally:
            # It may have been anything, also a resize.
            self.nodes.facts.clear()

    def open_console(self, dev_name: str | None, flags: int) -> ConsoleStream:
        return console.open_console(self, dev_name, flags)
