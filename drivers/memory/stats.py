"""Statistics of a domain and of its disks, with libvirt's field names.

Every figure comes from what the guest really did: requests and bytes are counted, and processor
time is derived from them, so that two equal runs give equal figures. The time that requests took is
always 0. The parameters of one disk or group are pure functions of its figures and cached as such:
asking a thousand idle domains again costs only the look-ups. Nothing here changes a domain.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Final, NamedTuple, TypeAlias

from virtbackupd.drivers import disks
from virtbackupd.drivers.definitions.disk import DiskDefinition
from virtbackupd.drivers.enums import DomainStats, TypedParameterType
from virtbackupd.drivers.events import TypedParameter
from virtbackupd.drivers.interface import BlockStats
from virtbackupd.drivers.memory.guest import DiskCounters, Guest, require_active

BOOT_TIME: Final = 1_000_000_000
"""Nanoseconds of processor time that starting a guest is taken to cost."""
REQUEST_TIME: Final = 10_000
"""Nanoseconds of processor time that one disk request is taken to cost."""

_VCPU_RUNNING: Final = 1
_INT: Final = int(TypedParameterType.INT)
_UINT: Final = int(TypedParameterType.UINT)
_ULLONG: Final = int(TypedParameterType.ULLONG)
_STRING: Final = int(TypedParameterType.STRING)
_CACHED: Final = 4096

Parameters: TypeAlias = tuple[TypedParameter, ...]


class DiskFigures(NamedTuple):
    """The figures of a disk in use, in the order in which they are reported."""

    read_requests: int
    read_bytes: int
    write_requests: int
    write_bytes: int
    flush_requests: int
    allocation: int
    capacity: int
    physical: int
    threshold: int


_NET_FIELDS: Final = tuple(
    f"{way}.{what}" for way in ("rx", "tx") for what in ("bytes", "pkts", "errs", "drop")
)
_CPU_FIELDS: Final = ("cpu.time", "cpu.user", "cpu.system")


def domain_stats(domain: Guest, groups: int) -> Sequence[TypedParameter]:
    """The groups named by `DomainStats` bits, all when 0; groups that do not apply are left out.

    One group alone is answered with the cached object, which servers need to convert only once.
    """
    chosen = _chosen(groups)
    if len(chosen) == 1:
        return chosen[0](domain)
    return list(chain.from_iterable([collect(domain) for collect in chosen]))


@lru_cache(maxsize=64)
def _chosen(groups: int) -> "tuple[_Collector, ...]":
    return tuple(collect for group, collect in _GROUPS if not groups or groups & group)


def cpu_time(domain: Guest) -> int:
    """Nanoseconds of processor time used since the domain was started."""
    if not domain.active:
        return 0
    requests = 0
    for disk in domain.definition.disks:
        counters = domain.counters(disk.target)
        requests += counters.read_requests + counters.write_requests
    return BOOT_TIME + REQUEST_TIME * requests


def block_stats(domain: Guest, disk: str) -> BlockStats:
    """The counters of a disk, of all disks together when `disk` is empty."""
    return disks.block_stats(_total(domain, disk))


def block_stats_params(domain: Guest, disk: str) -> list[TypedParameter]:
    """The same figures as typed parameters."""
    return disks.block_stats_params(_total(domain, disk))


def _total(domain: Guest, name: str) -> DiskCounters:
    require_active(domain)
    if name:
        return domain.counters(disks.require_disk(domain.definition, name).target)
    each = [domain.counters(disk.target) for disk in domain.definition.disks]
    return DiskCounters(
        read_requests=sum(counters.read_requests for counters in each),
        read_bytes=sum(counters.read_bytes for counters in each),
        write_requests=sum(counters.write_requests for counters in each),
        write_bytes=sum(counters.write_bytes for counters in each),
        flush_requests=sum(counters.flush_requests for counters in each),
    )


def _state(domain: Guest) -> Parameters:
    return _state_params(int(domain.state), int(domain.reason))


@lru_cache(maxsize=64)
def _state_params(state: int, reason: int) -> Parameters:
    return (
        TypedParameter("state.state", _INT, state),
        TypedParameter("state.reason", _INT, reason),
    )


def _cpu(domain: Guest) -> Parameters:
    return _cpu_params(cpu_time(domain)) if domain.active else ()


@lru_cache(maxsize=_CACHED)
def _cpu_params(time: int) -> Parameters:
    return tuple(
        TypedParameter(field, _ULLONG, value)
        for field, value in zip(_CPU_FIELDS, (time, time, 0), strict=True)
    )


def _balloon(domain: Guest) -> Parameters:
    definition = domain.definition
    return _balloon_params(definition.current_memory, definition.memory, domain.active)


@lru_cache(maxsize=_CACHED)
def _balloon_params(current: int, maximum: int, active: bool) -> Parameters:
    params = (
        TypedParameter("balloon.current", _ULLONG, current),
        TypedParameter("balloon.maximum", _ULLONG, maximum),
    )
    if not active:
        return params
    return (
        *params,
        TypedParameter("balloon.last-update", _ULLONG, 0),
        TypedParameter("balloon.rss", _ULLONG, current),
    )


def _vcpu(domain: Guest) -> Parameters:
    definition = domain.definition
    return _vcpu_params(definition.vcpus, definition.max_vcpus, cpu_time(domain), domain.active)


@lru_cache(maxsize=_CACHED)
def _vcpu_params(count: int, maximum: int, time: int, active: bool) -> Parameters:
    params = [
        TypedParameter("vcpu.current", _UINT, count),
        TypedParameter("vcpu.maximum", _UINT, maximum),
    ]
    for index in range(count if active else 0):
        params.append(TypedParameter(f"vcpu.{index}.state", _INT, _VCPU_RUNNING))
        times = (("time", time // count), ("wait", 0), ("delay", 0))
        params += [TypedParameter(f"vcpu.{index}.{key}", _ULLONG, value) for key, value in times]
    return tuple(params)


def _interface(domain: Guest) -> Parameters:
    if not domain.active:
        return ()
    names = tuple(interface.target for interface in domain.definition.interfaces)
    return _interface_params(names)


@lru_cache(maxsize=_CACHED)
def _interface_params(names: tuple[str | None, ...]) -> Parameters:
    """No packet ever passes; a card without a host device has no figures, as in libvirt."""
    params = [TypedParameter("net.count", _UINT, len(names))]
    for index, name in enumerate(names):
        if name is not None:
            params.append(TypedParameter(f"net.{index}.name", _STRING, name))
            params += [TypedParameter(f"net.{index}.{field}", _ULLONG, 0) for field in _NET_FIELDS]
    return tuple(params)


def _block(domain: Guest) -> list[TypedParameter]:
    definition = domain.definition
    params = [TypedParameter("block.count", _UINT, len(definition.disks))]
    for index, disk in enumerate(definition.disks):
        params += disk_params(index, disk.target, disk.source, disk_figures(domain, disk))
    return params


def disk_figures(domain: Guest, definition: DiskDefinition) -> DiskFigures | None:
    """What a disk of a running domain shows; None while it does not run."""
    if not domain.active:
        return None
    counters, image = domain.counters(definition.target), domain.disk_image(definition.target)
    return DiskFigures(
        counters.read_requests,
        counters.read_bytes,
        counters.write_requests,
        counters.write_bytes,
        counters.flush_requests,
        image.allocation if image is not None else 0,
        image.capacity if image is not None else 0,
        image.physical if image is not None else 0,
        counters.threshold,
    )


@lru_cache(maxsize=_CACHED)
def disk_params(
    index: int, target: str, path: str | None, figures: DiskFigures | None
) -> Parameters:
    """The record of a disk at that place of the list."""
    prefix = f"block.{index}."
    params = [TypedParameter(prefix + "name", _STRING, target)]
    if path is not None:
        params.append(TypedParameter(prefix + "path", _STRING, path))
    if figures is not None:
        if path is not None:
            params.append(TypedParameter(prefix + "backingIndex", _UINT, index + 1))
        params += [
            TypedParameter(prefix + field, _ULLONG, value) for field, value in _in_use(figures)
        ]
    return tuple(params)


def _in_use(figures: DiskFigures) -> list[tuple[str, int]]:
    requests = (
        figures.read_requests,
        figures.read_bytes,
        0,
        figures.write_requests,
        figures.write_bytes,
        0,
        figures.flush_requests,
        0,
    )
    rows = list(zip(disks.REQUEST_FIELDS, requests, strict=True))
    if figures.capacity:
        rows.append(("allocation", figures.allocation))
        rows.append(("capacity", figures.capacity))
        rows.append(("physical", figures.physical))
    if figures.threshold:
        rows.append(("threshold", figures.threshold))
    return rows


_Collector: TypeAlias = Callable[[Guest], Parameters | list[TypedParameter]]

# Plain numbers: testing a bit of an IntFlag takes longer than collecting a group.
_GROUPS: Final[tuple[tuple[int, _Collector], ...]] = (
    (DomainStats.STATE.value, _state),
    (DomainStats.CPU_TOTAL.value, _cpu),
    (DomainStats.BALLOON.value, _balloon),
    (DomainStats.VCPU.value, _vcpu),
    (DomainStats.INTERFACE.value, _interface),
    (DomainStats.BLOCK.value, _block),
)
SUPPORTED_GROUPS: Final = sum(group for group, _ in _GROUPS)
"""The bits that `domain_stats` answers; for callers that enforce their choice."""
