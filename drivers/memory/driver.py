"""The in-memory hypervisor: the calls on the node, and where its domains are found.

State lives as long as the driver is open, whoever connects or leaves. What a call on a domain does
is in `domain` and the modules behind it.
"""

import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from virtbackupd.drivers.defined_driver import STATS_BACKING, DefinedDriver
from virtbackupd.drivers.events import DomainRef, SecretRef, TypedParameter
from virtbackupd.drivers.figures import DriverFigures
from virtbackupd.drivers.flags import check_none
from virtbackupd.drivers.interface import (
    Answer,
    ControlDescription,
    DomainStatsRecord,
)
from virtbackupd.drivers.memory import (
    backing_stats,
    capabilities,
    control_commands,
    define,
    stats,
)
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.host import Host
from virtbackupd.drivers.memory.shown_host import ShownHost
from virtbackupd.drivers.memory.stats import SUPPORTED_GROUPS
from virtbackupd.drivers.profiles import NEWEST

MAX_VCPUS: Final = 255


class MemoryDriver(DefinedDriver[MemoryDomain]):
    """One hypervisor with all its domains, images and secrets."""

    paths = ("/default", "/system", "/session")

    def __init__(self, host: Host) -> None:
        self.host = host
        self.events = host.events
        self.profile = host.profile
        self._shown = host.shown if host.profile is NEWEST else ShownHost()
        """A profile that was chosen is shown in place of the world's host."""
        self.domains = host.domains
        self.secret_store = host.secrets

    # The node
    def get_version(self) -> int:
        return self._shown.hypervisor or self.profile.qemu.number

    def get_lib_version(self) -> int:
        return self._shown.libvirt or self.profile.libvirt.number

    def get_hostname(self) -> str:
        return self._shown.hostname or socket.gethostname()

    def get_capabilities(self) -> str:
        return self._shown.capabilities or capabilities.capabilities()

    def get_domain_capabilities(
        self,
        emulatorbin: str | None,
        arch: str | None,
        machine: str | None,
        virttype: str | None,
        flags: int,
    ) -> str:
        generated = capabilities.domain_capabilities
        check_none(flags, "virConnectGetDomainCapabilities")
        shown = self._shown.domain_capabilities(emulatorbin, arch, machine, virttype)
        return shown or generated(emulatorbin, arch, machine, virttype, flags, self.profile)

    def get_max_vcpus(self, type: str | None) -> int:  # noqa: A002, ARG002 - the same for all
        return MAX_VCPUS

    def figures(self) -> DriverFigures:
        return super().figures()._replace(nbd=self.host.nbd)

    # Domains
    def domain_define_xml_flags(self, xml: str, flags: int) -> DomainRef:
        return define.define(self.host, xml, flags).ref

    async def domain_create_xml(self, xml_desc: str, flags: int) -> DomainRef:
        return (await define.create_transient(self.host, xml_desc, flags)).ref

    def get_all_domain_stats(
        self, domains: Sequence[bytes], stats: int, flags: int
    ) -> Sequence[DomainStatsRecord]:
        asked = self.asked_for_stats(domains, stats, SUPPORTED_GROUPS, flags)
        collect = _collector(flags)
        return [DomainStatsRecord(domain.ref, collect(domain, stats)) for domain in asked]

    # Secrets
    def secret_define_xml(self, xml: str, flags: int) -> SecretRef:
        return self.secret_store.secret_define_xml(xml, flags)

    def secret_set_value(self, uuid: bytes, value: bytes, flags: int) -> None:
        self.secret_store.secret_set_value(uuid, value, flags)

    def secret_undefine(self, uuid: bytes) -> None:
        self.secret_store.secret_undefine(uuid)

    # The control channel
    def control_commands(self) -> Mapping[str, ControlDescription]:
        return control_commands.describe()

    def control(self, domain_uuid: bytes | None, name: str, arguments: object) -> Answer[object]:
        domain = None if domain_uuid is None else self.domains.by_uuid(domain_uuid)
        return control_commands.run(self.host, domain, name, arguments)

    # The end
    def close(self) -> None:
        """End every backup, so that no file of one remains."""
        for domain in self.domains:
            if domain.backup is not None:
                domain.backup.interrupt()


def _collector(flags: int) -> Callable[[MemoryDomain, int], Sequence[TypedParameter]]:
    return backing_stats.domain_stats if flags & STATS_BACKING else stats.domain_stats
