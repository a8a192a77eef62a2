"""What the monitor, the agent, the console and the statistics see of a domain, and disk counters.

`MemoryDomain` satisfies `Guest`; tests use a small stand-in. It lets those modules be read and
tested without the domain's life cycle, and keeps imports going one way. No behaviour lives here
except the counting of guest requests.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from virtbackupd.drivers.clock import Clock
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.errors import OperationInvalid, Origin
from virtbackupd.drivers.events import DomainRef, EventBus
from virtbackupd.drivers.interface import Answer, BlockJobInfo
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.profiles import Profile

if TYPE_CHECKING:
    from virtbackupd.drivers.memory.console import GuestConsole


@dataclass(slots=True)
class DiskCounters:
    """What a guest has done to one disk since its domain started."""

    read_requests: int = 0
    read_bytes: int = 0
    write_requests: int = 0
    write_bytes: int = 0
    flush_requests: int = 0
    threshold: int = 0
    """A write ending beyond this offset publishes DomainBlockThreshold and resets it; 0 is off."""

    def count_read(self, length: int) -> None:
        self.read_requests += 1
        self.read_bytes += length

    def count_write(self, length: int) -> None:
        self.write_requests += 1
        self.write_bytes += length


class Guest(Protocol):
    """A domain as its guest-side parts need it."""

    frozen: set[str]
    """Mount points that the agent has frozen; the domain empties it when it starts and stops."""

    consoles: "dict[int, GuestConsole]"
    """The open sessions by port; the domain calls `console.hang_up` when it stops."""

    @property
    def ref(self) -> DomainRef: ...

    @property
    def definition(self) -> DomainDefinition:
        """The live definition while active, else the persistent one."""

    @property
    def active(self) -> bool: ...

    @property
    def state(self) -> int:
        """A `DomainState` value."""

    @property
    def reason(self) -> int: ...

    @property
    def events(self) -> EventBus: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def profile(self) -> Profile:
        """The release that is pretended, with the version of QEMU that goes with it."""

    def disk_image(self, target_or_path: str) -> Image | None:
        """The image in a disk, found by target or by source path; None without disk or medium."""

    def counters(self, target: str) -> DiskCounters:
        """The counters of a disk of the definition; the same object until the domain stops."""

    def get_block_job_info(self, path: str, flags: int) -> BlockJobInfo:
        """As the driver's call: `found` is 0 when no job is on the disk."""

    def control(self, name: str, arguments: object) -> Answer[object]:
        """Run a control command on the domain."""

    def suspend(self) -> None:
        """Pause the processors, with state and event."""

    def resume(self) -> None: ...

    def shutdown(self) -> None: ...

    def reset(self, flags: int) -> None: ...

    def destroy(self) -> None: ...


def require_active(domain: Guest) -> None:
    """Refuse with VIR_ERR_OPERATION_INVALID unless the domain runs or is paused."""
    if not domain.active:
        raise OperationInvalid(
            f"domain {domain.ref.name} is not running: start it first", origin=Origin.DOMAIN
        )
