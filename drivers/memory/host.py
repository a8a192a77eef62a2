"""What the domains of one driver share: the bus, the registry, the images and the nursery.

Only a bundle; whatever happens on it is in the modules that use it.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from virtbackupd.drivers.events import EventBus
from virtbackupd.drivers.memory.images import ImageRegistry
from virtbackupd.drivers.registry import DomainRegistry

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
