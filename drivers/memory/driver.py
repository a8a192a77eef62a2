"""The in-memory hypervisor: the calls on the node, and where its domains are found.

State lives as long as the driver is open, whoever connects or leaves. What a call on a domain does
is in `domain` and the modules behind it.
"""

import socket
from collections.abc import Callable, Sequence
from typing import Final

from virtbackupd.drivers import node
from virtbackupd.drivers.capabilities_xml import node_info
from virtbackupd.drivers.errors import ArgumentUnsupported, InternalError, InvalidArgument
from virtbackupd.drivers.events import DomainRef, SecretRef, TypedParameter
from virtbackupd.drivers.flags import FlagRules, check_none
from virtbackupd.drivers.interface import DomainStatsRecord, Driver, NodeInfo
from virtbackupd.drivers.listing import ALL_FILTERS, STATS_FILTERS, filtered
from virtbackupd.drivers.memory import backing_stats, capabilities, define, qmp, stats
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.host import Host
from virtbackupd.drivers.secret_store import SecretStore

PATHS: Final = ("/default", "/system", "/session")
"""What may stand in a URI; all mean the same hypervisor."""
HYPERVISOR_VERSION: Final = qmp.VERSION[0] * 1_000_000 + qmp.VERSION[1] * 1_000 + qmp.VERSION[2]
"""The QEMU whose monitor is imitated."""
LIBVIRT_VERSION: Final = 11_010_000
"""The libvirt whose behaviour is offered."""
MAX_VCPUS: Final = 255

_STATS_NOWAIT = 1 << 29
_STATS_BACKING = 1 << 30
_STATS_ENFORCE = 1 << 31
_LIST = FlagRules("virConnectListAllDomains", ALL_FILTERS)
_STATS = FlagRules(
    "virConnectGetAllDomainStats", STATS_FILTERS | _STATS_NOWAIT | _STATS_BACKING | _STATS_ENFORCE
)


class MemoryDriver(Driver):
    """One hypervisor with all its domains, images and secrets."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.events = host.events
        self._domains = host.domains
        self._secrets = SecretStore(host.events)

    # The node
    def check_path(self, scheme: str, path: str) -> None:
        if path not in PATHS:
            raise InternalError(
                f"{scheme}://{path} names nothing here, use {scheme}:// followed by one of "
                f"{', '.join(PATHS)}"
            )

    def get_type(self) -> str:
        return "QEMU"

    def get_version(self) -> int:
        return HYPERVISOR_VERSION

    def get_lib_version(self) -> int:
        return LIBVIRT_VERSION

    def get_hostname(self) -> str:
        return socket.gethostname()

    def get_capabilities(self) -> str:
        return capabilities.capabilities()

    def get_domain_capabilities(
        self,
        emulatorbin: str | None,
        arch: str | None,
        machine: str | None,
        virttype: str | None,
        flags: int,
    ) -> str:
        return capabilities.domain_capabilities(emulatorbin, arch, machine, virttype, flags)

    def get_max_vcpus(self, type: str | None) -> int:  # noqa: A002, ARG002 - the same for all
        return MAX_VCPUS

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

    # Domains
    def list_all_domains(self, flags: int) -> Sequence[DomainRef]:
        _LIST.check(flags)
        return [domain.ref for domain in filtered(self._domains, flags)]

    def domain_by_uuid(self, uuid: bytes) -> MemoryDomain:
        return self._domains.by_uuid(uuid)

    def domain_lookup_by_name(self, name: str) -> DomainRef:
        return self._domains.by_name(name).ref

    def domain_lookup_by_uuid(self, uuid: bytes) -> DomainRef:
        return self._domains.by_uuid(uuid).ref

    def domain_lookup_by_id(self, id: int) -> DomainRef:  # noqa: A002
        return self._domains.by_id(id).ref

    def domain_define_xml_flags(self, xml: str, flags: int) -> DomainRef:
        return define.define(self.host, xml, flags).ref

    async def domain_create_xml(self, xml_desc: str, flags: int) -> DomainRef:
        return (await define.create_transient(self.host, xml_desc, flags)).ref

    def get_all_domain_stats(
        self, domains: Sequence[bytes], stats: int, flags: int
    ) -> Sequence[DomainStatsRecord]:
        _STATS.check(flags)
        _require_groups(stats, enforce=bool(flags & _STATS_ENFORCE))
        asked = filtered(self._named(domains) if domains else self._domains, flags & STATS_FILTERS)
        collect = _collector(flags)
        return [DomainStatsRecord(domain.ref, collect(domain, stats)) for domain in asked]

    def _named(self, uuids: Sequence[bytes]) -> list[MemoryDomain]:
        """Those that still exist: one that vanished after it was listed is no error."""
        return [domain for domain in map(self._domains.maybe_by_uuid, uuids) if domain is not None]

    # Secrets
    def list_all_secrets(self, flags: int) -> Sequence[SecretRef]:
        return self._secrets.list_all_secrets(flags)

    def secret_lookup_by_uuid(self, uuid: bytes) -> SecretRef:
        return self._secrets.secret_lookup_by_uuid(uuid)

    def secret_lookup_by_usage(self, usage_type: int, usage_id: str) -> SecretRef:
        return self._secrets.secret_lookup_by_usage(usage_type, usage_id)

    def secret_define_xml(self, xml: str, flags: int) -> SecretRef:
        return self._secrets.secret_define_xml(xml, flags)

    def secret_get_xml_desc(self, uuid: bytes, flags: int) -> str:
        return self._secrets.secret_get_xml_desc(uuid, flags)

    def secret_set_value(self, uuid: bytes, value: bytes, flags: int) -> None:
        self._secrets.secret_set_value(uuid, value, flags)

    def secret_get_value(self, uuid: bytes, flags: int) -> bytes:
        return self._secrets.secret_get_value(uuid, flags)

    def secret_undefine(self, uuid: bytes) -> None:
        self._secrets.secret_undefine(uuid)

    # The end
    def close(self) -> None:
        """End every backup, so that no file of one remains."""
        for domain in self._domains:
            if domain.backup is not None:
                domain.backup.interrupt()


def _require_groups(groups: int, *, enforce: bool) -> None:
    if enforce and (unknown := groups & ~stats.SUPPORTED_GROUPS):
        raise ArgumentUnsupported(f"there are no statistics in the groups 0x{unknown:x}")


def _collector(flags: int) -> Callable[[MemoryDomain, int], Sequence[TypedParameter]]:
    return backing_stats.domain_stats if flags & _STATS_BACKING else stats.domain_stats
