"""What a driver of machines with definitions answers from its stores alone, whichever hypervisor
runs them.
"""

from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from virtbackupd.drivers import node
from virtbackupd.drivers.capabilities_xml import node_info
from virtbackupd.drivers.defined_domain import DefinedDomain
from virtbackupd.drivers.definitions import naming
from virtbackupd.drivers.errors import ArgumentUnsupported, InternalError, InvalidArgument, Origin
from virtbackupd.drivers.events import DomainRef, SecretRef
from virtbackupd.drivers.figures import DriverFigures
from virtbackupd.drivers.flags import FlagRules, check_none
from virtbackupd.drivers.interface import Driver, NodeInfo
from virtbackupd.drivers.listing import ALL_FILTERS, STATS_FILTERS, filtered
from virtbackupd.drivers.registry import DomainRegistry
from virtbackupd.drivers.secret_store import SecretStore

D = TypeVar("D", bound=DefinedDomain)

STATS_BACKING: Final = 1 << 30
_STATS_NOWAIT: Final = 1 << 29
_STATS_ENFORCE: Final = 1 << 31
_LIST: Final = FlagRules("virConnectListAllDomains", ALL_FILTERS)
_STATS: Final = FlagRules(
    "virConnectGetAllDomainStats", STATS_FILTERS | _STATS_NOWAIT | STATS_BACKING | _STATS_ENFORCE
)


class DefinedDriver(Driver, Generic[D]):
    """Base of our own drivers, which set these attributes."""

    paths: tuple[str, ...]
    """What may stand in a URI; all mean the same hypervisor."""
    domains: DomainRegistry[D]
    secret_store: SecretStore

    # The node
    def check_path(self, scheme: str, path: str) -> None:
        if path not in self.paths:
            raise InternalError(
                f"{scheme}://{path} names nothing here, use {scheme}:// followed by one of "
                f"{', '.join(self.paths)}",
                origin=Origin.NONE,
            )

    def get_type(self) -> str:
        return "QEMU"

    def node_get_info(self) -> NodeInfo:
        return node_info()

    def node_get_free_memory(self) -> int:
        return node.free_memory()

    def node_get_cpu_map(
        self, need_map: int, need_online: int, flags: int
    ) -> tuple[bytes, int, int]:
        check_none(flags, "virNodeGetCPUMap")
        count = node.cpu_count()
        return node.cpu_map(count) if need_map else b"", count if need_online else 0, count

    def node_get_cpu_stats(self, cpu_num: int, flags: int) -> Sequence[tuple[str, int]]:
        check_none(flags, "virNodeGetCPUStats")
        if not (times := node.cpu_times(cpu_num)):
            raise InvalidArgument(f"this host has no processor {cpu_num}")
        return times

    def node_get_memory_stats(self, cell_num: int, flags: int) -> Sequence[tuple[str, int]]:
        check_none(flags, "virNodeGetMemoryStats")
        if cell_num not in (-1, 0):
            raise InvalidArgument(f"there is no cell {cell_num}: the host is shown as one cell, 0")
        return node.memory_figures()

    def figures(self) -> DriverFigures:
        active = sum(domain.active for domain in self.domains)
        jobs = (domain.jobs.job for domain in self.domains)
        backups = [job.glance() for job in jobs if job is not None]
        return DriverFigures(active, len(self.domains) - active, backups)

    # Domains
    def named_in(self, xml: str) -> tuple[str, bytes]:
        return naming.named_in(xml)

    def list_all_domains(self, flags: int) -> Sequence[DomainRef]:
        _LIST.check(flags)
        return [domain.ref for domain in filtered(self.domains, flags)]

    def domain_by_uuid(self, uuid: bytes) -> D:
        return self.domains.by_uuid(uuid)

    def domain_lookup_by_name(self, name: str) -> DomainRef:
        return self.domains.by_name(name).ref

    def domain_lookup_by_uuid(self, uuid: bytes) -> DomainRef:
        return self.domains.by_uuid(uuid).ref

    def domain_lookup_by_id(self, id: int) -> DomainRef:  # noqa: A002
        return self.domains.by_id(id).ref

    def asked_for_stats(
        self, uuids: Sequence[bytes], groups: int, supported: int, flags: int
    ) -> list[D]:
        """Those named that exist, or all; one that vanished after it was listed is no error."""
        _STATS.check(flags)
        if flags & _STATS_ENFORCE and (unknown := groups & ~supported):
            raise ArgumentUnsupported(f"there are no statistics in the groups 0x{unknown:x}")
        named = [domain for domain in map(self.domains.maybe_by_uuid, uuids) if domain is not None]
        return list(filtered(named if uuids else self.domains, flags & STATS_FILTERS))

    # Secrets
    def list_all_secrets(self, flags: int) -> Sequence[SecretRef]:
        return self.secret_store.list_all_secrets(flags)

    def secret_lookup_by_uuid(self, uuid: bytes) -> SecretRef:
        return self.secret_store.secret_lookup_by_uuid(uuid)

    def secret_lookup_by_usage(self, usage_type: int, usage_id: str) -> SecretRef:
        return self.secret_store.secret_lookup_by_usage(usage_type, usage_id)

    def secret_get_xml_desc(self, uuid: bytes, flags: int) -> str:
        return self.secret_store.secret_get_xml_desc(uuid, flags)

    def secret_get_value(self, uuid: bytes, flags: int) -> bytes:
        return self.secret_store.secret_get_value(uuid, flags)
