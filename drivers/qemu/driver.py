"""The QEMU driver: the calls on the node, and where its domains are found.

What a call on a domain does is in `domain` and the modules behind it. Domains outlive the driver.
"""

import socket
from collections.abc import Sequence
from typing import Final

from virtbackupd.drivers.capabilities_xml import node_info
from virtbackupd.drivers.errors import ArgumentUnsupported, InternalError, InvalidArgument
from virtbackupd.drivers.events import DomainRef, SecretRef
from virtbackupd.drivers.flags import FlagRules
from virtbackupd.drivers.interface import DomainStatsRecord, Driver, NodeInfo
from virtbackupd.drivers.listing import ALL_FILTERS, STATS_FILTERS, filtered
from virtbackupd.drivers.qemu import define, stats
from virtbackupd.drivers.qemu.capabilities import QemuCapabilities
from virtbackupd.drivers.qemu.capabilities_documents import (
    capabilities_document,
    domain_capabilities_document,
    domain_types,
    max_vcpus,
)
from virtbackupd.drivers.qemu.domain import QemuDomain
from virtbackupd.drivers.qemu.host import Host

PATHS: Final = ("/system", "/session")
"""What may stand in a URI; which of the two it is depends on who runs the daemon."""
LIBVIRT_VERSION: Final = 11_010_000
"""The libvirt whose behaviour is offered."""

_STATS_NOWAIT = 1 << 29
_STATS_BACKING = 1 << 30
_STATS_ENFORCE = 1 << 31
_LIST = FlagRules("virConnectListAllDomains", ALL_FILTERS)
_STATS = FlagRules(
    "virConnectGetAllDomainStats", STATS_FILTERS | _STATS_NOWAIT | _STATS_BACKING | _STATS_ENFORCE
)


class QemuDriver(Driver):
    """The domains of one state directory."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.events = host.events
        self._domains = host.domains
        self._secrets = host.secrets

    # The node
    def check_path(self, scheme: str, path: str) -> None:
        if path not in PATHS:
            raise InternalError(
                f"{scheme}://{path} names nothing here, use {scheme}:// followed by one of "
                f"{', '.join(PATHS)}"
            )

    def get_type(self) -> str:
        return "QEMU"

    def get_lib_version(self) -> int:
        return LIBVIRT_VERSION

    def get_hostname(self) -> str:
        return socket.gethostname()

    async def get_version(self) -> int:
        return (await self._capabilities()).version_number

    async def get_max_vcpus(self, type: str | None) -> int:  # noqa: A002
        found = await self._capabilities()
        if type is not None and type.lower() not in domain_types(found):
            raise InvalidArgument(f"unknown virtualisation type {type!r}")
        return max_vcpus(found)

    async def get_capabilities(self) -> str:
        return capabilities_document(await self._capabilities())

    async def get_domain_capabilities(
        self,
        emulatorbin: str | None,
        arch: str | None,
        machine: str | None,
        virttype: str | None,
        flags: int,
    ) -> str:
        found = await self._capabilities(emulatorbin)
        return domain_capabilities_document(found, arch, machine, virttype, flags)

    def node_get_info(self) -> NodeInfo:
        return node_info()

    async def _capabilities(self, emulator: str | None = None) -> QemuCapabilities:
        return await self.host.capabilities.get(emulator or self.host.settings.emulator)

    # Domains
    def list_all_domains(self, flags: int) -> Sequence[DomainRef]:
        _LIST.check(flags)
        return [domain.ref for domain in filtered(self._domains, flags)]

    def domain_by_uuid(self, uuid: bytes) -> QemuDomain:
        return self._domains.by_uuid(uuid)

    def domain_lookup_by_name(self, name: str) -> DomainRef:
        return self._domains.by_name(name).ref

    def domain_lookup_by_uuid(self, uuid: bytes) -> DomainRef:
        return self._domains.by_uuid(uuid).ref

    def domain_lookup_by_id(self, id: int) -> DomainRef:  # noqa: A002
        return self._domains.by_id(id).ref

    async def domain_define_xml(self, xml: str) -> DomainRef:
        return await self.domain_define_xml_flags(xml, 0)

    async def domain_define_xml_flags(self, xml: str, flags: int) -> DomainRef:
        return (await define.define(self.host, xml, flags)).ref

    async def domain_create_xml(self, xml_desc: str, flags: int) -> DomainRef:
        return (await define.create_transient(self.host, xml_desc, flags)).ref

    async def get_all_domain_stats(
        self, domains: Sequence[bytes], stats: int, flags: int
    ) -> Sequence[DomainStatsRecord]:
        _STATS.check(flags)
        _require_groups(stats, enforce=bool(flags & _STATS_ENFORCE))
        asked = filtered(self._named(domains) if domains else self._domains, flags & STATS_FILTERS)
        return await _collect(asked, stats, backing=bool(flags & _STATS_BACKING))

    # Secrets
    def list_all_secrets(self, flags: int) -> Sequence[SecretRef]:
        return self._secrets.store.list_all_secrets(flags)

    def secret_lookup_by_uuid(self, uuid: bytes) -> SecretRef:
        return self._secrets.store.secret_lookup_by_uuid(uuid)

    def secret_lookup_by_usage(self, usage_type: int, usage_id: str) -> SecretRef:
        return self._secrets.store.secret_lookup_by_usage(usage_type, usage_id)

    async def secret_define_xml(self, xml: str, flags: int) -> SecretRef:
        return await self._secrets.define_xml(xml, flags)

    def secret_get_xml_desc(self, uuid: bytes, flags: int) -> str:
        return self._secrets.store.secret_get_xml_desc(uuid, flags)

    async def secret_set_value(self, uuid: bytes, value: bytes, flags: int) -> None:
        await self._secrets.set_value(uuid, value, flags)

    def secret_get_value(self, uuid: bytes, flags: int) -> bytes:
        return self._secrets.store.secret_get_value(uuid, flags)

    async def secret_undefine(self, uuid: bytes) -> None:
        await self._secrets.undefine(uuid)

    def _named(self, uuids: Sequence[bytes]) -> list[QemuDomain]:
        """Those that still exist: one that vanished after it was listed is no error."""
        return [domain for domain in map(self._domains.maybe_by_uuid, uuids) if domain is not None]


_collect = stats.collect


def _require_groups(groups: int, *, enforce: bool) -> None:
    if enforce and (unknown := groups & ~stats.SUPPORTED_GROUPS):
        raise ArgumentUnsupported(f"there are no statistics in the groups 0x{unknown:x}")
