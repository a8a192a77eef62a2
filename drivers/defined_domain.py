"""What a domain with definitions says of itself, whichever hypervisor runs it.

The state that every driver keeps in the same form, and the calls that are answered from it alone.
Nothing here waits, and nothing reaches a running machine.
"""

from collections.abc import Sized
from typing import TYPE_CHECKING

from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.enums import DomainState, Lifecycle, XmlFlags
from virtbackupd.drivers.errors import OperationInvalid, Origin
from virtbackupd.drivers.events import DomainLifecycle, EventBus
from virtbackupd.drivers.flags import DOMAIN_XML, FlagRules, check_none
from virtbackupd.drivers.interface import Domain

if TYPE_CHECKING:
    from virtbackupd.drivers.jobs import JobSlot

_VCPUS = FlagRules("virDomainGetVcpusFlags", 1 | 2 | 4 | 8)
_VCPU_LIVE = 1
_VCPU_CONFIG = 2
_VCPU_MAXIMUM = 4


class DefinedDomain(Domain):
    """Base of the drivers' own domains, which set these attributes and keep them right."""

    events: EventBus
    persistent: DomainDefinition | None
    """What the next start uses; None for a transient domain."""
    live: DomainDefinition | None
    """What runs; None while inactive."""
    state: int
    reason: int
    autostart: bool
    checkpoints: Sized
    jobs: "JobSlot"
    saved: object | None
    """A managed save image, if there is one."""

    @property
    def active(self) -> bool:
        return self.live is not None

    @property
    def definition(self) -> DomainDefinition:
        """What runs, or else what would."""
        found = self.live or self.persistent
        if found is None:
            raise OperationInvalid(f"domain {self.ref.name} has been undefined")
        return found

    def require_active(self) -> None:
        """Refuse with 55, as most calls on a domain that does not run."""
        if self.live is None:
            raise OperationInvalid(f"domain {self.ref.name} is not running", origin=Origin.DOMAIN)

    def enter(self, state: DomainState, reason: int) -> None:
        self.state, self.reason = int(state), int(reason)

    def publish(self, event: Lifecycle, detail: int) -> None:
        """Tell the world about a change of state."""
        self.events.publish(DomainLifecycle(self.ref, event, detail))

    def get_xml_desc(self, flags: int) -> str:
        DOMAIN_XML.check(flags)
        inactive = bool(flags & XmlFlags.INACTIVE) or not self.active
        definition = self.persistent if inactive and self.persistent else self.definition
        return definition.to_xml(
            id=None if inactive else self.ref.id,
            secure=bool(flags & XmlFlags.SECURE),
            inactive=inactive,
        )

    def get_state(self, flags: int) -> tuple[int, int]:
        check_none(flags, "virDomainGetState")
        return self.state, self.reason

    def get_os_type(self) -> str:
        return self.definition.os_type

    def get_max_memory(self) -> int:
        return self.definition.memory

    def get_max_vcpus(self) -> int:
        return self.get_vcpus_flags(_VCPU_LIVE | _VCPU_MAXIMUM)

    def get_vcpus_flags(self, flags: int) -> int:
        _VCPUS.check(flags)
        if flags & _VCPU_LIVE:
            self.require_active()
        stored = self.persistent if flags & _VCPU_CONFIG else None
        about = stored or self.definition
        return about.max_vcpus if flags & _VCPU_MAXIMUM else about.vcpus

    def is_active(self) -> int:
        return int(self.active)

    def is_persistent(self) -> int:
        return int(self.persistent is not None)

    def is_updated(self) -> int:
        return 0

    def get_autostart(self) -> int:
        return int(self.autostart)
