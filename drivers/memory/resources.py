"""Memory and processors of a domain: what it uses, and setting how much it has.

What the guest uses is derived, not measured: a balloon that is as large as the definition says, and
processor time that follows from the work of its disks.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.enums import TypedParameterType
from virtbackupd.drivers.errors import InvalidArgument, OperationInvalid
from virtbackupd.drivers.events import TypedParameter
from virtbackupd.drivers.flags import FlagRules, check_none
from virtbackupd.drivers.interface import VcpuInfo
from virtbackupd.drivers.memory.stats import cpu_time
from virtbackupd.drivers.node import cpu_count, cpu_map

if TYPE_CHECKING:
    from virtbackupd.drivers.memory.domain import MemoryDomain

Edit = Callable[[DomainDefinition], DomainDefinition]

LIVE: Final = 1
CONFIG: Final = 2
MAXIMUM: Final = 4
_MEMORY: Final = FlagRules("virDomainSetMemoryFlags", LIVE | CONFIG | MAXIMUM)
_VCPUS: Final = FlagRules("virDomainSetVcpusFlags", LIVE | CONFIG | MAXIMUM | 16)
_ACTUAL_BALLOON: Final = 6
_RSS: Final = 7
_RUNNING: Final = 1
_CPU_FIELDS: Final = ("cpu_time", "user_time", "system_time")


def set_memory(domain: "MemoryDomain", memory: int, flags: int) -> None:
    """Set the balloon, or with the flag the most that it may grow to; `memory` counts KiB."""
    _MEMORY.check(flags)
    if not memory:
        raise InvalidArgument(f"domain {domain.ref.name} cannot do without memory")
    if flags & MAXIMUM:
        _require_off(domain, flags, "memory")
        _change(domain, flags, lambda old: old.with_memory(maximum=memory))
        return

    def edit(old: DomainDefinition) -> DomainDefinition:
        if memory > old.memory:
            raise InvalidArgument(
                f"{memory} KiB are more than the {old.memory} KiB that domain {old.name} may have"
            )
        return old.with_memory(current=memory)

    _change(domain, flags, edit)


def set_vcpus(domain: "MemoryDomain", count: int, flags: int) -> None:
    """Set the number of processors, or with the flag the most that there may be."""
    _VCPUS.check(flags)
    if not count:
        raise InvalidArgument(f"domain {domain.ref.name} cannot do without a processor")
    if flags & MAXIMUM:
        _require_off(domain, flags, "number of processors")
        _change(domain, flags, lambda old: old.with_vcpus(maximum=count))
        return

    def edit(old: DomainDefinition) -> DomainDefinition:
        if count > old.max_vcpus:
            raise InvalidArgument(
                f"{count} processors are more than the {old.max_vcpus} that domain {old.name} may"
                " have"
            )
        return old.with_vcpus(current=count)

    _change(domain, flags, edit)


def _require_off(domain: "MemoryDomain", flags: int, what: str) -> None:
    if flags & LIVE or (domain.active and not flags & CONFIG):
        raise OperationInvalid(
            f"the largest {what} of domain {domain.ref.name} cannot change while it runs: use the"
            " flag CONFIG"
        )


def _change(domain: "MemoryDomain", flags: int, edit: Edit) -> None:
    if not flags & (LIVE | CONFIG):
        flags |= LIVE if domain.active else CONFIG
    if flags & LIVE:
        domain.require_active()
    stored = domain.persistent
    if flags & CONFIG:
        if stored is None:
            raise OperationInvalid(f"domain {domain.ref.name} is transient: nothing is stored")
        stored = edit(stored)
    if flags & LIVE:
        domain.live = edit(domain.definition)
    domain.persistent = stored


def memory_stats(domain: "MemoryDomain", flags: int) -> list[tuple[int, int]]:
    """Pairs of a virDomainMemoryStatTags value and KiB."""
    check_none(flags, "virDomainMemoryStats")
    domain.require_active()
    current = domain.definition.current_memory
    return [(_ACTUAL_BALLOON, current), (_RSS, current)]


def get_vcpus(domain: "MemoryDomain") -> list[VcpuInfo]:
    """Each processor, spread over those of the host, pinned to none."""
    domain.require_active()
    count, cpus = domain.definition.vcpus, cpu_count()
    share = cpu_time(domain) // count
    return [
        VcpuInfo(number, _RUNNING, share, number % cpus, cpu_map(cpus)) for number in range(count)
    ]


def get_cpu_stats(domain: "MemoryDomain", start_cpu: int, flags: int) -> list[list[TypedParameter]]:
    """One list for all processors of the host together (-1), or one for each from `start_cpu`."""
    check_none(flags, "virDomainGetCPUStats")
    domain.require_active()
    used = cpu_time(domain)
    if start_cpu < 0:
        return [
            [_time(name, time) for name, time in zip(_CPU_FIELDS, (used, used, 0), strict=True)]
        ]
    if start_cpu >= cpu_count():
        raise InvalidArgument(f"there is no processor {start_cpu}, the host has {cpu_count()}")
    times = [used] + [0] * (cpu_count() - 1)
    return [[_time("cpu_time", time)] for time in times[start_cpu:]]


def _time(name: str, time: int) -> TypedParameter:
    return TypedParameter(name, TypedParameterType.ULLONG, time)
