"""What every driver answers: procedure names in snake case, with the wire's arguments in order.

A method that need not wait is a plain function and is answered in place; one that waits is `async`
and gets a task of its own. Arguments and results are plain Python: no client, serial or wire number
is seen here. Refusals are `DriverError`s. Whatever a driver does not override is refused as
unsupported, which stock clients survive.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn, TypeAlias, TypeVar

from virtbackupd.drivers.clock import Clock
from virtbackupd.drivers.errors import (
    NoNetwork,
    NoSecret,
    NoStoragePool,
    Unsupported,
)
from virtbackupd.drivers.events import DomainRef, EventBus, SecretRef, TypedParameter
from virtbackupd.drivers.faults.engine import Faults
from virtbackupd.drivers.figures import DriverFigures
from virtbackupd.drivers.profiles import NEWEST, Profile
from virtbackupd.drivers.records import (
    BlockInfo,
    BlockJobInfo,
    BlockStats,
    DomainInfo,
    DomainStatsRecord,
    FileSystemInfo,
    InterfaceAddresses,
    JobInfo,
    JobStats,
    NodeInfo,
    VcpuInfo,
)

if TYPE_CHECKING:
    import msgspec

T = TypeVar("T")
Answer: TypeAlias = T | Awaitable[T]


class ConsoleStream(ABC):
    """The driver's end of an open console or channel."""

    @abstractmethod
    async def receive(self) -> bytes:
        """Wait for output of the guest; empty bytes mean that the guest's end is closed."""

    @abstractmethod
    def send_nowait(self, data: bytes) -> None:
        """Type `data` into the guest; what exceeds the bound is dropped, as a UART does."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the console. Safe to repeat."""


class ControlDescription(NamedTuple):
    """What can be said of a control command to those who want to call it."""

    about: str
    arguments: "type[msgspec.Struct]"
    needs_domain: bool


def _unsupported(what: str) -> NoReturn:
    raise Unsupported(what)


class Domain:
    """One virtual machine. A checkpoint is a name, as on the wire: each call looks again."""

    ref: DomainRef
    """The name, UUID and id of this moment."""

    # Definition and state
    def get_xml_desc(self, flags: int) -> Answer[str]:
        _unsupported("virDomainGetXMLDesc")

    def get_state(self, flags: int) -> Answer[tuple[int, int]]:
        """State and reason."""
        _unsupported("virDomainGetState")

    def get_info(self) -> Answer[DomainInfo]:
        _unsupported("virDomainGetInfo")

    def get_os_type(self) -> Answer[str]:
        _unsupported("virDomainGetOSType")

    def get_max_memory(self) -> Answer[int]:
        _unsupported("virDomainGetMaxMemory")

    def get_max_vcpus(self) -> Answer[int]:
        _unsupported("virDomainGetMaxVcpus")

    def get_vcpus_flags(self, flags: int) -> Answer[int]:
        _unsupported("virDomainGetVcpusFlags")

    def is_active(self) -> Answer[int]:
        _unsupported("virDomainIsActive")

    def is_persistent(self) -> Answer[int]:
        _unsupported("virDomainIsPersistent")

    def is_updated(self) -> Answer[int]:
        _unsupported("virDomainIsUpdated")

    def get_autostart(self) -> Answer[int]:
        _unsupported("virDomainGetAutostart")

    def set_autostart(self, autostart: int) -> Answer[None]:
        _unsupported("virDomainSetAutostart")

    def get_metadata(self, type: int, uri: str | None, flags: int) -> Answer[str]:
        _unsupported("virDomainGetMetadata")

    def set_metadata(
        self,
        type: int,
        metadata: str | None,
        key: str | None,
        uri: str | None,
        flags: int,
    ) -> Answer[None]:
        _unsupported("virDomainSetMetadata")

    def get_messages(self, flags: int) -> Answer[list[str]]:
        return []

    def get_security_label(self) -> Answer[tuple[bytes, int]]:
        """The label, without its trailing NUL, and whether it is enforced."""
        return b"", 0

    # Memory and processors
    def set_max_memory(self, memory: int) -> Answer[None]:
        _unsupported("virDomainSetMaxMemory")

    def set_memory(self, memory: int) -> Answer[None]:
        _unsupported("virDomainSetMemory")

    def set_memory_flags(self, memory: int, flags: int) -> Answer[None]:
        _unsupported("virDomainSetMemoryFlags")

    def set_vcpus(self, nvcpus: int) -> Answer[None]:
        _unsupported("virDomainSetVcpus")

    def set_vcpus_flags(self, nvcpus: int, flags: int) -> Answer[None]:
        _unsupported("virDomainSetVcpusFlags")

    def memory_stats(self, flags: int) -> Answer[Sequence[tuple[int, int]]]:
        """Tags of `virDomainMemoryStatTags` with their values."""
        _unsupported("virDomainMemoryStats")

    def get_vcpus(self) -> Answer[Sequence[VcpuInfo]]:
        _unsupported("virDomainGetVcpus")

    def get_cpu_stats(
        self, start_cpu: int, flags: int
    ) -> Answer[Sequence[Sequence[TypedParameter]]]:
        """One list for all processors of the host together (-1), or one each from `start_cpu`."""
        _unsupported("virDomainGetCPUStats")

    def get_scheduler_type(self) -> Answer[tuple[str, int]]:
        """Name, and how many parameters can be tuned."""
        _unsupported("virDomainGetSchedulerType")

    def get_control_info(self, flags: int) -> Answer[tuple[int, int, int]]:
        """State, details and milliseconds in that state of the way to the hypervisor."""
        _unsupported("virDomainGetControlInfo")

    # Life cycle
    def create(self) -> Answer[None]:
        _unsupported("virDomainCreate")

    def create_with_flags(self, flags: int) -> Answer[DomainRef]:
        _unsupported("virDomainCreateWithFlags")

    def shutdown(self) -> Answer[None]:
        _unsupported("virDomainShutdown")

    def shutdown_flags(self, flags: int) -> Answer[None]:
        _unsupported("virDomainShutdownFlags")

    def reboot(self, flags: int) -> Answer[None]:
        _unsupported("virDomainReboot")

    def reset(self, flags: int) -> Answer[None]:
        _unsupported("virDomainReset")

    def suspend(self) -> Answer[None]:
        _unsupported("virDomainSuspend")

    def resume(self) -> Answer[None]:
        _unsupported("virDomainResume")

    def destroy(self) -> Answer[None]:
        _unsupported("virDomainDestroy")

    def destroy_flags(self, flags: int) -> Answer[None]:
        _unsupported("virDomainDestroyFlags")

    def undefine(self) -> Answer[None]:
        _unsupported("virDomainUndefine")

    def undefine_flags(self, flags: int) -> Answer[None]:
        _unsupported("virDomainUndefineFlags")

    def rename(self, new_name: str | None, flags: int) -> Answer[int]:
        _unsupported("virDomainRename")

    def has_managed_save_image(self, flags: int) -> Answer[int]:
        _unsupported("virDomainHasManagedSaveImage")

    def managed_save(self, flags: int) -> Answer[None]:
        _unsupported("virDomainManagedSave")

    def managed_save_remove(self, flags: int) -> Answer[None]:
        _unsupported("virDomainManagedSaveRemove")

    # Devices
    def attach_device(self, xml: str) -> Answer[None]:
        _unsupported("virDomainAttachDevice")

    def attach_device_flags(self, xml: str, flags: int) -> Answer[None]:
        _unsupported("virDomainAttachDeviceFlags")

    def detach_device(self, xml: str) -> Answer[None]:
        _unsupported("virDomainDetachDevice")

    def detach_device_flags(self, xml: str, flags: int) -> Answer[None]:
        _unsupported("virDomainDetachDeviceFlags")

    def update_device_flags(self, xml: str, flags: int) -> Answer[None]:
        _unsupported("virDomainUpdateDeviceFlags")

    def detach_device_alias(self, alias: str, flags: int) -> Answer[None]:
        _unsupported("virDomainDetachDeviceAlias")

    # Disks
    def get_block_info(self, path: str, flags: int) -> Answer[BlockInfo]:
        _unsupported("virDomainGetBlockInfo")

    def get_disk_errors(self, flags: int) -> Answer[Sequence[tuple[str, int]]]:
        """Targets of the disks that stopped on an error, with `virDomainDiskErrorCode`."""
        _unsupported("virDomainGetDiskErrors")

    def block_stats(self, path: str) -> Answer[BlockStats]:
        _unsupported("virDomainBlockStats")

    def block_stats_flags(self, path: str, flags: int) -> Answer[Sequence[TypedParameter]]:
        """All parameters; the count-only first call of old clients is the server's business."""
        _unsupported("virDomainBlockStatsFlags")

    def block_resize(self, disk: str, size: int, flags: int) -> Answer[None]:
        _unsupported("virDomainBlockResize")

    def get_block_job_info(self, path: str, flags: int) -> Answer[BlockJobInfo]:
        _unsupported("virDomainGetBlockJobInfo")

    def block_job_abort(self, path: str, flags: int) -> Answer[None]:
        _unsupported("virDomainBlockJobAbort")

    def block_job_set_speed(self, path: str, bandwidth: int, flags: int) -> Answer[None]:
        _unsupported("virDomainBlockJobSetSpeed")

    def block_commit(
        self, disk: str, base: str | None, top: str | None, bandwidth: int, flags: int
    ) -> Answer[None]:
        _unsupported("virDomainBlockCommit")

    def set_block_threshold(self, dev: str, threshold: int, flags: int) -> Answer[None]:
        _unsupported("virDomainSetBlockThreshold")

    # Snapshots
    def snapshot_num(self, flags: int) -> Answer[int]:
        return 0

    def list_all_snapshots(self, flags: int) -> Answer[list[str]]:
        """Names of the snapshots."""
        return []

    def has_current_snapshot(self, flags: int) -> Answer[int]:
        return 0

    def snapshot_create_xml(self, xml_desc: str, flags: int) -> Answer[str]:
        """Returns the snapshot's name."""
        _unsupported("virDomainSnapshotCreateXML")

    def snapshot_get_xml_desc(self, name: str, flags: int) -> Answer[str]:
        _unsupported("virDomainSnapshotGetXMLDesc")

    def snapshot_lookup_by_name(self, name: str, flags: int) -> Answer[str]:
        _unsupported("virDomainSnapshotLookupByName")

    def snapshot_get_parent(self, name: str, flags: int) -> Answer[str]:
        _unsupported("virDomainSnapshotGetParent")

    def snapshot_current(self, flags: int) -> Answer[str]:
        _unsupported("virDomainSnapshotCurrent")

    def snapshot_is_current(self, name: str, flags: int) -> Answer[int]:
        _unsupported("virDomainSnapshotIsCurrent")

    def snapshot_has_metadata(self, name: str, flags: int) -> Answer[int]:
        _unsupported("virDomainSnapshotHasMetadata")

    def snapshot_num_children(self, name: str, flags: int) -> Answer[int]:
        _unsupported("virDomainSnapshotNumChildren")

    def snapshot_delete(self, name: str, flags: int) -> Answer[None]:
        _unsupported("virDomainSnapshotDelete")

    # Checkpoints
    def checkpoint_create_xml(self, xml_desc: str, flags: int) -> Answer[str]:
        """Create or redefine; returns the checkpoint's name."""
        _unsupported("virDomainCheckpointCreateXML")

    def checkpoint_get_xml_desc(self, name: str, flags: int) -> Answer[str]:
        _unsupported("virDomainCheckpointGetXMLDesc")

    def list_all_checkpoints(self, flags: int) -> Answer[list[str]]:
        _unsupported("virDomainListAllCheckpoints")

    def checkpoint_list_all_children(self, name: str, flags: int) -> Answer[list[str]]:
        _unsupported("virDomainCheckpointListAllChildren")

    def checkpoint_lookup_by_name(self, name: str, flags: int) -> Answer[str]:
        _unsupported("virDomainCheckpointLookupByName")

    def checkpoint_get_parent(self, name: str, flags: int) -> Answer[str]:
        _unsupported("virDomainCheckpointGetParent")

    def checkpoint_delete(self, name: str, flags: int) -> Answer[None]:
        _unsupported("virDomainCheckpointDelete")

    # Backups and jobs
    def backup_begin(self, backup_xml: str, checkpoint_xml: str | None, flags: int) -> Answer[None]:
        _unsupported("virDomainBackupBegin")

    def backup_get_xml_desc(self, flags: int) -> Answer[str]:
        _unsupported("virDomainBackupGetXMLDesc")

    def get_job_info(self) -> Answer[JobInfo]:
        _unsupported("virDomainGetJobInfo")

    def get_job_stats(self, flags: int) -> Answer[JobStats]:
        _unsupported("virDomainGetJobStats")

    def abort_job(self) -> Answer[None]:
        _unsupported("virDomainAbortJob")

    def abort_job_flags(self, flags: int) -> Answer[None]:
        _unsupported("virDomainAbortJobFlags")

    # Guest agent, monitor, console
    def fsfreeze(self, mountpoints: list[str], flags: int) -> Answer[int]:
        """Returns the number of file systems frozen."""
        _unsupported("virDomainFSFreeze")

    def fsthaw(self, mountpoints: list[str], flags: int) -> Answer[int]:
        _unsupported("virDomainFSThaw")

    def get_guest_info(self, types: int, flags: int) -> Answer[Sequence[TypedParameter]]:
        _unsupported("virDomainGetGuestInfo")

    def get_time(self, flags: int) -> Answer[tuple[int, int]]:
        """Seconds and nanoseconds of the guest's clock."""
        _unsupported("virDomainGetTime")

    def get_fsinfo(self, flags: int) -> Answer[Sequence[FileSystemInfo]]:
        _unsupported("virDomainGetFSInfo")

    def get_hostname(self, flags: int) -> Answer[str]:
        _unsupported("virDomainGetHostname")

    def interface_addresses(self, source: int, flags: int) -> Answer[Sequence[InterfaceAddresses]]:
        _unsupported("virDomainInterfaceAddresses")

    def agent_command(self, cmd: str, timeout: int, flags: int) -> Answer[str | None]:
        _unsupported("virDomainQemuAgentCommand")

    def monitor_command(self, cmd: str, flags: int) -> Answer[str]:
        _unsupported("virDomainQemuMonitorCommand")

    def open_console(self, dev_name: str | None, flags: int) -> Answer[ConsoleStream]:
        _unsupported("virDomainOpenConsole")


class Driver:
    """One hypervisor. Opened as an async context manager; leaving it stops all it has started."""

    events: EventBus
    profile: Profile = NEWEST
    """The release of libvirt that this driver pretends to be."""

    # The node
    def check_path(self, scheme: str, path: str) -> None:
        """Raise a `DriverError` when a URI's path (`/default`, `/system`) is not ours."""

    def named_in(self, xml: str) -> tuple[str, bytes]:
        """The name and the UUID that a domain's document gives; empty where it gives none."""
        _unsupported("virDomainDefineXML")

    def get_type(self) -> Answer[str]:
        _unsupported("virConnectGetType")

    def get_version(self) -> Answer[int]:
        """The hypervisor's version: 1000000 x major + 1000 x minor + release."""
        _unsupported("virConnectGetVersion")

    def get_lib_version(self) -> Answer[int]:
        """The version of libvirt whose behaviour is offered, in the same form."""
        _unsupported("virConnectGetLibVersion")

    def get_hostname(self) -> Answer[str]:
        _unsupported("virConnectGetHostname")

    def get_capabilities(self) -> Answer[str]:
        _unsupported("virConnectGetCapabilities")

    def get_domain_capabilities(
        self,
        emulatorbin: str | None,
        arch: str | None,
        machine: str | None,
        virttype: str | None,
        flags: int,
    ) -> Answer[str]:
        _unsupported("virConnectGetDomainCapabilities")

    def get_max_vcpus(self, type: str | None) -> Answer[int]:
        _unsupported("virConnectGetMaxVcpus")

    def node_get_info(self) -> Answer[NodeInfo]:
        _unsupported("virNodeGetInfo")

    def node_get_free_memory(self) -> Answer[int]:
        """In bytes."""
        _unsupported("virNodeGetFreeMemory")

    def node_get_cpu_map(
        self, need_map: int, need_online: int, flags: int
    ) -> Answer[tuple[bytes, int, int]]:
        """A bit for each processor that is online, their number, and how many there are."""
        _unsupported("virNodeGetCPUMap")

    def node_get_cpu_stats(self, cpu_num: int, flags: int) -> Answer[Sequence[tuple[str, int]]]:
        """Nanoseconds by purpose, of one processor or of all (-1)."""
        _unsupported("virNodeGetCPUStats")

    def node_get_memory_stats(self, cell_num: int, flags: int) -> Answer[Sequence[tuple[str, int]]]:
        """KiB by purpose, of one cell or of all (-1)."""
        _unsupported("virNodeGetMemoryStats")

    def node_get_security_model(self) -> Answer[tuple[bytes, bytes]]:
        """Model and domain of interpretation."""
        return b"none", b"0"

    # Domains
    def list_all_domains(self, flags: int) -> Answer[Sequence[DomainRef]]:
        _unsupported("virConnectListAllDomains")

    def domain_by_uuid(self, uuid: bytes) -> Domain:
        """The object that every domain call works on; NoDomain when unknown. Never waits."""
        _unsupported("virDomainLookupByUUID")

    def domain_lookup_by_name(self, name: str) -> Answer[DomainRef]:
        _unsupported("virDomainLookupByName")

    def domain_lookup_by_uuid(self, uuid: bytes) -> Answer[DomainRef]:
        return self.domain_by_uuid(uuid).ref

    def domain_lookup_by_id(self, id: int) -> Answer[DomainRef]:
        _unsupported("virDomainLookupByID")

    def domain_define_xml(self, xml: str) -> Answer[DomainRef]:
        return self.domain_define_xml_flags(xml, 0)

    def domain_define_xml_flags(self, xml: str, flags: int) -> Answer[DomainRef]:
        _unsupported("virDomainDefineXMLFlags")

    def domain_create_xml(self, xml_desc: str, flags: int) -> Answer[DomainRef]:
        _unsupported("virDomainCreateXML")

    def get_all_domain_stats(
        self, domains: Sequence[bytes], stats: int, flags: int
    ) -> Answer[Sequence[DomainStatsRecord]]:
        """`domains` are UUIDs; empty means every domain that passes the filter bits of `flags`."""
        _unsupported("virConnectGetAllDomainStats")

    # Secrets
    def list_all_secrets(self, flags: int) -> Answer[Sequence[SecretRef]]:
        return []

    def secret_lookup_by_uuid(self, uuid: bytes) -> Answer[SecretRef]:
        raise NoSecret("this driver keeps no secrets")

    def secret_lookup_by_usage(self, usage_type: int, usage_id: str) -> Answer[SecretRef]:
        raise NoSecret("this driver keeps no secrets")

    def secret_define_xml(self, xml: str, flags: int) -> Answer[SecretRef]:
        _unsupported("virSecretDefineXML")

    def secret_get_xml_desc(self, uuid: bytes, flags: int) -> Answer[str]:
        raise NoSecret("this driver keeps no secrets")

    def secret_set_value(self, uuid: bytes, value: bytes, flags: int) -> Answer[None]:
        raise NoSecret("this driver keeps no secrets")

    def secret_get_value(self, uuid: bytes, flags: int) -> Answer[bytes]:
        raise NoSecret("this driver keeps no secrets")

    def secret_undefine(self, uuid: bytes) -> Answer[None]:
        raise NoSecret("this driver keeps no secrets")

    # The control channel, which arranges what no real hypervisor lets one arrange.
    def control_commands(self) -> Mapping[str, ControlDescription]:
        """Every control command by name; none by default."""
        return {}

    def control(self, domain_uuid: bytes | None, name: str, arguments: object) -> Answer[object]:
        """Run a control command; arguments and result are what JSON can say."""
        _unsupported(f"control command {name}")

    def figures(self) -> DriverFigures:
        """What is going on, for whoever watches the daemon; must not wait."""
        return DriverFigures()

    # Networks and storage pools: none of our drivers manages any, which is a legal answer.
    def list_all_networks(self, flags: int) -> Answer[Sequence[tuple[str, bytes]]]:
        """Name and UUID of each network."""
        return []

    def network_lookup(self, what: str) -> NoReturn:
        raise NoNetwork(f"there is no network {what}: this driver manages none")

    def list_all_storage_pools(self, flags: int) -> Answer[Sequence[tuple[str, bytes]]]:
        """Name and UUID of each pool."""
        return []

    def storage_pool_lookup(self, what: str) -> NoReturn:
        raise NoStoragePool(f"there is no storage pool {what}: this driver manages none")


@dataclass(frozen=True, slots=True)
class DriverOptions:
    """What the daemon tells a driver when it opens it."""

    state_dir: Path
    """Exists, private to the daemon; a driver keeps its files in a folder of its own below."""
    world: Path | None = None
    """A world file to start from, for drivers that can."""
    clock: Clock = field(default_factory=Clock)
    """The daemon's; what moves real machines uses real time whatever it says."""
    profile: Profile = NEWEST
    """The release to pretend to be, for drivers that can."""
    faults: Faults = field(default_factory=Faults)
    """What is to go wrong, for drivers that can."""
    advertise: str = ""
    """The name that reaches this machine from outside, for NBD servers; empty: none is told."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """What the configuration says to this driver alone; the driver checks it."""


DriverFactory: TypeAlias = Callable[[DriverOptions], AbstractAsyncContextManager[Driver]]

__all__ = [
    "Answer",
    "BlockInfo",
    "BlockJobInfo",
    "BlockStats",
    "ConsoleStream",
    "ControlDescription",
    "Domain",
    "DomainInfo",
    "DomainStatsRecord",
    "Driver",
    "DriverFactory",
    "DriverOptions",
    "FileSystemInfo",
    "InterfaceAddresses",
    "JobInfo",
    "JobStats",
    "NodeInfo",
    "VcpuInfo",
]
