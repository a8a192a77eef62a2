"""What the domains of one driver share: the bus, the registry, the images and the nursery.

Only a bundle; whatever happens on it is in the modules that use it.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from virtbackupd.drivers.clock import Clock
from virtbackupd.drivers.events import EventBus
from virtbackupd.drivers.faults.engine import Faults
from virtbackupd.drivers.figures import NbdFigures
from virtbackupd.drivers.memory.images import ImageRegistry
from virtbackupd.drivers.memory.nbd_tls import TlsFolder
from virtbackupd.drivers.memory.shown_host import ShownHost
from virtbackupd.drivers.memory.snapshots import Snapshots
from virtbackupd.drivers.memory.stand_ins import StandIns
from virtbackupd.drivers.profiles import NEWEST, Profile
from virtbackupd.drivers.registry import DomainRegistry
from virtbackupd.drivers.secret_store import SecretStore

if TYPE_CHECKING:
    from virtbackupd.drivers.memory.domain import MemoryDomain


@dataclass(frozen=True, slots=True)
class Host:
    """Lives as long as the driver is open."""

    nursery: trio.Nursery
    """For what a call starts and does not wait for: NBD servers and copies."""
    events: EventBus = field(default_factory=EventBus)
    domains: "DomainRegistry[MemoryDomain]" = field(default_factory=DomainRegistry)
    images: ImageRegistry = field(default_factory=ImageRegistry)
    copy_rate: int = 0
    """Bytes per second at which a push begins; 0 is no limit."""
    secrets: SecretStore = field(init=False)
    snapshots: Snapshots = field(default_factory=Snapshots)
    image_dir: Path = Path(os.devnull)
    """Where images without a path of their own seem to lie; nothing can be made in the default."""
    stand_ins: StandIns = field(default_factory=StandIns)
    clock: Clock = field(default_factory=Clock)
    shown: ShownHost = field(default_factory=ShownHost)
    profile: Profile = NEWEST
    faults: Faults = field(default_factory=Faults)
    advertise: str = ""
    """The name under which clients reach NBD servers that listen everywhere."""
    backup_tls: TlsFolder | None = None
    """Certificates for NBD servers that a backup wants TLS of."""
    nbd: NbdFigures = field(default_factory=NbdFigures)

    def __post_init__(self) -> None:
        object.__setattr__(self, "secrets", SecretStore(self.events))
