"""What the domains of one driver share: a bundle, and nothing happens here."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from virtbackupd.drivers.events import EventBus
from virtbackupd.drivers.qemu.capabilities import CapabilitiesCache
from virtbackupd.drivers.qemu.config import Settings
from virtbackupd.drivers.qemu.qmp import Bridge
from virtbackupd.drivers.qemu.secret_files import SecretFiles
from virtbackupd.drivers.registry import DomainRegistry

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.domain import DomainDefinition
    from virtbackupd.drivers.qemu.domain import QemuDomain


@dataclass(frozen=True, slots=True)
class Host:
    """Lives as long as the driver is open; the domains live longer."""

    nursery: trio.Nursery
    """For what outlives the call that began it: the watch over each running QEMU, backups."""
    bridge: Bridge
    settings: Settings
    events: EventBus = field(default_factory=EventBus)
    domains: "DomainRegistry[QemuDomain]" = field(default_factory=DomainRegistry)
    capabilities: CapabilitiesCache = field(default_factory=CapabilitiesCache)
    defining: trio.Lock = field(default_factory=trio.Lock)
    """Held while a name or UUID is being taken and written to the disk."""

    secrets: SecretFiles = field(init=False)

    def __post_init__(self) -> None:
        secrets = SecretFiles(self.settings.root / "secrets", self.events)
        object.__setattr__(self, "secrets", secrets)

    def add(self, definition: "DomainDefinition") -> "QemuDomain":
        """Take in a domain whose name and UUID are free; it is transient until it is saved."""
        # Late, because the domain's modules know this one.
        from virtbackupd.drivers.qemu.domain import QemuDomain  # noqa: PLC0415

        domain = QemuDomain(self, definition)
        self.domains.add(domain)
        return domain
