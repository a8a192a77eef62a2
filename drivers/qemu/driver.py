"""The QEMU driver: the calls on the node, and where its domains are found.

What a call on a domain does is in `domain` and the modules behind it. Domains outlive the driver.
"""

import socket
from collections.abc import Sequence
from typing import Final

from virtbackupd.drivers.defined_driver import STATS_BACKING, DefinedDriver
from virtbackupd.drivers.errors import InvalidArgument
from virtbackupd.drivers.events import DomainRef, SecretRef
from virtbackupd.drivers.interface import DomainStatsRecord
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
from virtbackupd.drivers.qemu.stats import SUPPORTED_GROUPS

LIBVIRT_VERSION: Final = 11_010_000
"""The libvirt whose behaviour is offered."""


class QemuDriver(DefinedDriver[QemuDomain]):
    """The domains of one state directory."""

    paths = ("/system", "/session")

    def __init__(self, host: Host) -> None:
        self.host = host
        self.events = host.events
        self.domains = host.domains
        self._secrets = host.secrets
        self.secret_store = host.secrets.store

    # The node
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

    async def _capabilities(self, emulator: str | None = None) -> QemuCapabilities:
        return await self.host.capabilities.get(emulator or self.host.settings.emulator)

    # Domains
    async def domain_define_xml(self, xml: str) -> DomainRef:
        return await self.domain_define_xml_flags(xml, 0)

    async def domain_define_xml_flags(self, xml: str, flags: int) -> DomainRef:
        return (await define.define(self.host, xml, flags)).ref

    async def domain_create_xml(self, xml_desc: str, flags: int) -> DomainRef:
        return (await define.create_transient(self.host, xml_desc, flags)).ref

    async def get_all_domain_stats(
        self, domains: Sequence[bytes], stats: int, flags: int
    ) -> Sequence[DomainStatsRecord]:
        asked = self.asked_for_stats(domains, stats, SUPPORTED_GROUPS, flags)
        return await _collect(asked, stats, backing=bool(flags & STATS_BACKING))

    # Secrets
    async def secret_define_xml(self, xml: str, flags: int) -> SecretRef:
        return await self._secrets.define_xml(xml, flags)

    async def secret_set_value(self, uuid: bytes, value: bytes, flags: int) -> None:
        await self._secrets.set_value(uuid, value, flags)

    async def secret_undefine(self, uuid: bytes) -> None:
        await self._secrets.undefine(uuid)


_collect = stats.collect
