"""A virtual machine in memory: what it is at this moment, and every call on it.

The calls are a line each; what they do lives in the module that the line names. Those modules
work on the state kept here and know each other as little as possible.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from virtbackupd.drivers import backup_rules, checkpoint_rules
from virtbackupd.drivers.checkpoint_tree import CheckpointTree
from virtbackupd.drivers.defined_domain import DefinedDomain
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.enums import DeviceModify, DomainState, ShutoffReason
from virtbackupd.drivers.errors import OperationInvalid
from virtbackupd.drivers.events import DomainRef, TypedParameter
from virtbackupd.drivers.flags import JOB_STATS, FlagRules, check_none
from virtbackupd.drivers.interface import (
    Answer,
    BlockInfo,
    BlockJobInfo,
    BlockStats,
    ConsoleStream,
    DomainInfo,
    FileSystemInfo,
    InterfaceAddresses,
    JobInfo,
    JobStats,
    VcpuInfo,
)
from virtbackupd.drivers.jobs import JobSlot
from virtbackupd.drivers.memory import (
    agent,
    backup,
    block,
    checkpoint,
    console,
    control_commands,
    device_calls,
    guest_calls,
    lifecycle,
    media,
    monitor,
    pretended,
    resources,
    stats,
    undefine,
)
from virtbackupd.drivers.memory.guest import DiskCounters
from virtbackupd.drivers.memory.host import Host
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.metadata import Request, apply_metadata, get_metadata, plan_metadata
from virtbackupd.drivers.profiles import NEWEST

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.checkpoint import CheckpointDefinition
    from virtbackupd.drivers.definitions.disk import DiskDefinition
    from virtbackupd.drivers.memory.disk_marks import DiskMarks
    from virtbackupd.drivers.memory.nbd_record import DiskReads
    from virtbackupd.drivers.memory.pace import Stop
    from virtbackupd.drivers.memory.running import Backup

_MESSAGES = FlagRules("virDomainGetMessages", 1 | 2)


class MemoryDomain(DefinedDomain):
    """One domain; `ref` is written by the registry alone."""

    def __init__(self, host: Host, definition: DomainDefinition) -> None:
        self.host = host
        self.events = host.events
        self.clock = host.clock
        self.profile = host.profile
        self.ref = DomainRef(definition.name, definition.uuid, -1)
        self.persistent: DomainDefinition | None = definition
        """What the next start uses; None for a transient domain."""
        self.live: DomainDefinition | None = None
        """What runs; None while inactive."""
        self.state: int = DomainState.SHUTOFF.value
        self.reason: int = ShutoffReason.UNKNOWN.value
        self.started_at = 0.0
        self.autostart: bool = False
        self.starting = False
        """Whether a start waits for the contents of the disks."""
        self.saved: lifecycle.SavedState | None = None
        self.frozen: set[str] = set()
        self.consoles: dict[int, console.GuestConsole] = {}
        self.power_button = False
        """Pressed while the guest was paused."""
        self.ends_with_backup = False
        """Whether the guest has shut down and the domain only waits for its backup."""
        self.nodes_used = 0
        """Images that have been attached in this run, for the numbers that clients see."""
        self.media: dict[str, Image | None] = {}
        """By target, while active; None in an empty drive."""
        self.stored_bitmaps: dict[str, frozenset[str]] = {}
        """By target: the bitmaps that its files had when it was attached in this run."""
        self.checkpoints: CheckpointTree[CheckpointDefinition] = CheckpointTree()
        self.jobs = JobSlot()
        self.backup: Backup | None = None
        self.push_stops: dict[str | None, Stop] = {}
        """Where the next push stops, by target or, under None, all of it; arranged by a test."""
        self.counted: dict[str, DiskCounters] = {}
        """What the guest did on each disk in this run, by target."""
        self.marks: DiskMarks | None = None
        """Contents of disks at instants that a test has named, once there is one."""
        self.reads: dict[str, DiskReads] = {}
        """By target: what NBD clients have read of the disk."""
        self.restored = 0
        """How often the domain was put back into an earlier state of the world."""

    # What the other modules ask and tell
    def disk_image(self, name: str) -> Image | None:
        """The medium of a disk by target or source path; of an inactive domain, if it is held."""
        if name in self.media:
            return self.media[name]
        disk = self.definition.find_disk(name)
        if disk is None:
            return None
        if self.active:
            return self.media.get(disk.target)
        return None if disk.source is None else self.host.images.get(disk.source)

    def insert_medium(self, disk: "DiskDefinition") -> None:
        """Attach a disk to the running guest, or put another medium into its drive."""
        image = self.media[disk.target] = self.host.images.of_disk(disk)
        self.stored_bitmaps[disk.target] = media.bitmap_names(image)
        self.nodes_used += 1 + len(disk.backing)

    def remove_medium(self, target: str) -> None:
        """Take a disk away from the running guest."""
        self.media.pop(target, None)
        self.counted.pop(target, None)

    def counters(self, target: str) -> DiskCounters:
        """What the guest did on a disk in this run."""
        found = self.counted.get(target)
        if found is None:
            found = self.counted[target] = DiskCounters()
        return found

    def reset_guest(self) -> None:
        """Forget what a restart of the guest's system ends."""
        self.frozen.clear()
        self.power_button = False
        self.ends_with_backup = False
        if not self.active:
            self.counted.clear()
            console.hang_up(self)

    def forget(self) -> None:
        """Drop what an undefined domain leaves behind; its images stay."""
        self.host.domains.remove(self)
        self.checkpoints = CheckpointTree()
        self.jobs.completed = None

    # Definition and state
    def get_xml_desc(self, flags: int) -> str:
        if self.host.stand_ins.pending:
            self.host.stand_ins.make(self.host.images, self.media.values())
        return super().get_xml_desc(flags)

    def get_info(self) -> DomainInfo:
        about = self.definition
        memory = about.current_memory if self.active else about.memory
        return DomainInfo(self.state, about.memory, memory, about.vcpus, stats.cpu_time(self))

    def set_autostart(self, autostart: int) -> None:
        if self.persistent is None:
            raise OperationInvalid(f"domain {self.ref.name} is transient and cannot be autostarted")
        self.autostart = bool(autostart)

    def get_metadata(self, type: int, uri: str | None, flags: int) -> str:  # noqa: A002
        return get_metadata(self, type, uri, flags)

    def set_metadata(
        self,
        type: int,  # noqa: A002
        metadata: str | None,
        key: str | None,
        uri: str | None,
        flags: int,
    ) -> None:
        request = Request(type, metadata, key, uri, flags)
        apply_metadata(self, request, plan_metadata(self, request))

    def get_messages(self, flags: int) -> list[str]:
        _MESSAGES.check(flags)
        return []

    # Memory and processors
    def set_max_memory(self, memory: int) -> None:
        resources.set_memory(self, memory, resources.MAXIMUM)

    def set_memory(self, memory: int) -> None:
        resources.set_memory(self, memory, resources.LIVE)

    def set_memory_flags(self, memory: int, flags: int) -> None:
        resources.set_memory(self, memory, flags)

    def set_vcpus(self, nvcpus: int) -> None:
        resources.set_vcpus(self, nvcpus, resources.LIVE)

    def set_vcpus_flags(self, nvcpus: int, flags: int) -> None:
        resources.set_vcpus(self, nvcpus, flags)

    def memory_stats(self, flags: int) -> list[tuple[int, int]]:
        return resources.memory_stats(self, flags)

    def get_vcpus(self) -> list[VcpuInfo]:
        return resources.get_vcpus(self)

    def get_cpu_stats(self, start_cpu: int, flags: int) -> list[list[TypedParameter]]:
        return resources.get_cpu_stats(self, start_cpu, flags)

    def get_scheduler_type(self) -> tuple[str, int]:
        self.require_active()
        return "posix", 0

    def get_control_info(self, flags: int) -> tuple[int, int, int]:
        check_none(flags, "virDomainGetControlInfo")
        self.require_active()
        return 0, 0, 0

    # Life cycle
    async def create(self) -> None:
        await lifecycle.start(self, 0)

    async def create_with_flags(self, flags: int) -> DomainRef:
        await lifecycle.start(self, flags)
        return self.ref

    def shutdown(self) -> None:
        lifecycle.shutdown(self, 0)

    def shutdown_flags(self, flags: int) -> None:
        lifecycle.shutdown(self, flags)

    def reboot(self, flags: int) -> None:
        lifecycle.reboot(self, flags)

    def reset(self, flags: int) -> None:
        lifecycle.reset(self, flags)

    def suspend(self) -> None:
        lifecycle.suspend(self)

    def resume(self) -> None:
        lifecycle.resume(self)

    def destroy(self) -> None:
        lifecycle.destroy(self, 0)

    def destroy_flags(self, flags: int) -> None:
        lifecycle.destroy(self, flags)

    def undefine(self) -> None:
        undefine.undefine(self, 0)

    def undefine_flags(self, flags: int) -> None:
        undefine.undefine(self, flags)

    def rename(self, new_name: str | None, flags: int) -> int:
        return undefine.rename(self, new_name, flags)

    def has_managed_save_image(self, flags: int) -> int:
        check_none(flags, "virDomainHasManagedSaveImage")
        return int(self.saved is not None)

    def managed_save(self, flags: int) -> None:
        lifecycle.managed_save(self, flags)

    def managed_save_remove(self, flags: int) -> None:
        lifecycle.managed_save_remove(self, flags)

    # Devices
    async def attach_device(self, xml: str) -> None:
        await device_calls.attach(self, xml, DeviceModify.LIVE)

    async def attach_device_flags(self, xml: str, flags: int) -> None:
        await device_calls.attach(self, xml, flags)

    async def detach_device(self, xml: str) -> None:
        await device_calls.detach(self, xml, DeviceModify.LIVE)

    async def detach_device_flags(self, xml: str, flags: int) -> None:
        await device_calls.detach(self, xml, flags)

    async def update_device_flags(self, xml: str, flags: int) -> None:
        await device_calls.update(self, xml, flags)

    # Disks
    def get_block_info(self, path: str, flags: int) -> Answer[BlockInfo]:
        return block.get_block_info(self, path, flags)

    def get_disk_errors(self, flags: int) -> list[tuple[str, int]]:
        check_none(flags, "virDomainGetDiskErrors")
        self.require_active()
        return []

    def block_stats(self, path: str) -> BlockStats:
        return stats.block_stats(self, path)

    def block_stats_flags(self, path: str, flags: int) -> Sequence[TypedParameter]:
        check_none(flags, "virDomainBlockStatsFlags")
        return stats.block_stats_params(self, path)

    def block_resize(self, disk: str, size: int, flags: int) -> None:
        block.block_resize(self, disk, size, flags)

    def get_block_job_info(self, path: str, flags: int) -> BlockJobInfo:
        return block.get_block_job_info(self, path, flags)

    def block_job_abort(self, path: str, flags: int) -> None:
        block.block_job_abort(self, path, flags)

    def block_job_set_speed(self, path: str, bandwidth: int, flags: int) -> None:
        block.block_job_set_speed(self, path, bandwidth, flags)

    def set_block_threshold(self, dev: str, threshold: int, flags: int) -> None:
        block.set_block_threshold(self, dev, threshold, flags)

    # Checkpoints
    def checkpoint_create_xml(self, xml_desc: str, flags: int) -> str:
        if self.profile is not NEWEST:
            pretended.check_checkpoint(self, xml_desc, flags)
        return checkpoint.create_xml(self, xml_desc, flags)

    def checkpoint_get_xml_desc(self, name: str, flags: int) -> str:
        return checkpoint.get_xml_desc(self, name, flags)

    def list_all_checkpoints(self, flags: int) -> list[str]:
        return checkpoint_rules.list_all(self, flags)

    def checkpoint_list_all_children(self, name: str, flags: int) -> list[str]:
        return checkpoint_rules.list_children(self, name, flags)

    def checkpoint_lookup_by_name(self, name: str, flags: int) -> str:
        return checkpoint_rules.lookup(self, name, flags)

    def checkpoint_get_parent(self, name: str, flags: int) -> str:
        return checkpoint_rules.get_parent(self, name, flags)

    def checkpoint_delete(self, name: str, flags: int) -> None:
        checkpoint.delete(self, name, flags)

    # Backups and jobs
    async def backup_begin(self, backup_xml: str, checkpoint_xml: str | None, flags: int) -> None:
        if self.profile is not NEWEST:
            pretended.check_backup(self, backup_xml)
        await backup.begin(self, backup_xml, checkpoint_xml, flags)

    def backup_get_xml_desc(self, flags: int) -> str:
        return backup.get_xml_desc(self, flags)

    def get_job_info(self) -> JobInfo:
        self.require_active()
        return self.jobs.info()

    def get_job_stats(self, flags: int) -> JobStats:
        JOB_STATS.check(flags)
        if not flags:
            self.require_active()
        return self.jobs.stats(flags)

    def abort_job(self) -> None:
        backup.abort(self)

    def abort_job_flags(self, flags: int) -> None:
        backup_rules.check_abort_flags(self, flags)
        backup.abort(self)

    # Guest agent, monitor, console
    def fsfreeze(self, mountpoints: list[str], flags: int) -> int:
        return agent.fsfreeze(self, mountpoints, flags)

    def fsthaw(self, mountpoints: list[str], flags: int) -> int:
        return agent.fsthaw(self, mountpoints, flags)

    def get_guest_info(self, types: int, flags: int) -> Sequence[TypedParameter]:
        return agent.guest_info(self, types, flags)

    def get_time(self, flags: int) -> tuple[int, int]:
        return agent.get_time(self, flags)

    def get_fsinfo(self, flags: int) -> list[FileSystemInfo]:
        return guest_calls.get_fsinfo(self, flags)

    def get_hostname(self, flags: int) -> str:
        return guest_calls.get_hostname(self, flags)

    def interface_addresses(self, source: int, flags: int) -> list[InterfaceAddresses]:
        return guest_calls.interface_addresses(self, source, flags)

    def agent_command(self, cmd: str, timeout: int, flags: int) -> str | None:
        return agent.command(self, cmd, timeout, flags)

    def monitor_command(self, cmd: str, flags: int) -> Answer[str]:
        return monitor.run(self, cmd, flags)

    def control(self, name: str, arguments: object) -> Answer[object]:
        """Run a control command on this domain."""
        return control_commands.run(self.host, self, name, arguments)

    def open_console(self, dev_name: str | None, flags: int) -> ConsoleStream:
        return console.open_console(self, dev_name, flags)
