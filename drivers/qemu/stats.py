"""Statistics of domains, with libvirt's field names and in its order.

All domains are asked at the same time. What cannot be had, because a guest has just ended or a
monitor does not answer, is left out. What QEMU is asked is in
`stats_answers`, and what is said of disks in `disk_stats`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import trio

from virtbackupd.drivers.enums import DomainStats, MemoryStat, TypedParameterType, VcpuState
from virtbackupd.drivers.events import TypedParameter
from virtbackupd.drivers.interface import DomainStatsRecord
from virtbackupd.drivers.qemu import disk_figures, disk_stats, guest_memory, kvm_figures
from virtbackupd.drivers.qemu.process import cpu_times, resident_size
from virtbackupd.drivers.qemu.processors import thread_times
from virtbackupd.drivers.qemu.stats_answers import Found, ask

if TYPE_CHECKING:
    from virtbackupd.drivers.qemu.domain import QemuDomain

_INT: Final = int(TypedParameterType.INT)
_UINT: Final = int(TypedParameterType.UINT)
_LLONG: Final = int(TypedParameterType.LLONG)
_ULLONG: Final = int(TypedParameterType.ULLONG)
_STRING: Final = int(TypedParameterType.STRING)

_NETWORK_FIELDS: Final = {
    "rx.bytes": "tx_bytes",
    "rx.pkts": "tx_packets",
    "rx.errs": "tx_errors",
    "rx.drop": "tx_dropped",
    "tx.bytes": "rx_bytes",
    "tx.pkts": "rx_packets",
    "tx.errs": "rx_errors",
    "tx.drop": "rx_dropped",
}
"""What a host's device sends is what its guest receives."""

_POLLS: Final = ("success", "fail")
_CPU_FIELDS: Final = (
    "cpu.time",
    "cpu.user",
    "cpu.system",
    *(f"cpu.haltpoll.{how}.time" for how in _POLLS),
)
_THREAD_FIELDS: Final = ("time", "wait", "delay")
_IOTHREAD_FIELDS: Final = (("poll-max-ns", _ULLONG), ("poll-grow", _UINT), ("poll-shrink", _UINT))
_RATE_STATES: Final = ("unstarted", "measuring", "measured")
"""QEMU's words in the order of virDomainDirtyRateStatus."""
_MEMORY_FIELDS: Final = {
    tag: f"balloon.{tag.name.lower()}" for tag in MemoryStat if tag is not MemoryStat.LAST_UPDATE
} | {MemoryStat.LAST_UPDATE: "balloon.last-update"}

Parameters: TypeAlias = list[TypedParameter]


async def collect(
    domains: Sequence["QemuDomain"], groups: int, *, backing: bool
) -> list[DomainStatsRecord]:
    """One record for each domain, in the same order."""
    found = [Found(domain, backing) for domain in domains]
    async with trio.open_nursery() as nursery:
        for each in found:
            ask(each, groups, nursery)
        if not groups or groups & DomainStats.BLOCK:
            nursery.start_soon(_measure, found)
    return [DomainStatsRecord(each.domain.ref, _params(each, groups)) for each in found]


async def _measure(found: "Sequence[Found]") -> None:
    running = [each for each in found if each.domain.live is not None]
    sizes = await disk_figures.file_sizes(
        disk for each in running for disk in each.domain.definition.disks
    )
    stored = await disk_figures.stored_sizes(
        disk for each in found if each.domain.live is None for disk in each.domain.definition.disks
    )
    for each in found:
        each.sizes, each.stored = sizes, stored


def _params(found: Found, groups: int) -> Parameters:
    params: Parameters = []
    for group, read in _GROUPS:
        if not groups or groups & group:
            params += read(found)
    return params


def _state(found: Found) -> Parameters:
    domain = found.domain
    return [
        TypedParameter("state.state", _INT, domain.state),
        TypedParameter("state.reason", _INT, domain.reason),
    ]


def _cpu(found: Found) -> Parameters:
    run = found.domain.run
    if run is None:
        return []
    user, system = cpu_times(run.process.pid)
    polled = (kvm_figures.total(found.kvm_vcpus, f"halt_poll_{how}_ns.sum") for how in _POLLS)
    figures = (user + system, user, system, *polled)
    params = [
        TypedParameter(name, _ULLONG, value)
        for name, value in zip(_CPU_FIELDS, figures, strict=True)
    ]
    # Cache monitors of a domain are part of what it cannot be defined with.
    params.insert(3, TypedParameter("cpu.cache.monitor.count", _UINT, 0))
    return params


def _balloon(found: Found) -> Parameters:
    domain = found.domain
    params = [
        TypedParameter("balloon.current", _ULLONG, guest_memory.current(domain)),
        TypedParameter("balloon.maximum", _ULLONG, domain.definition.memory),
    ]
    if domain.run is None:
        return params
    told = [*found.memory, (MemoryStat.RSS, resident_size(domain.run.process.pid))]
    return params + [TypedParameter(_MEMORY_FIELDS[tag], _ULLONG, value) for tag, value in told]


def _vcpu(found: Found) -> Parameters:
    definition, run = found.domain.definition, found.domain.run
    params = [
        TypedParameter("vcpu.current", _UINT, definition.vcpus),
        TypedParameter("vcpu.maximum", _UINT, definition.max_vcpus),
    ]
    if run is None:
        return params
    for index, (thread, name) in enumerate(zip(run.cpu_threads, run.cpu_objects, strict=True)):
        prefix = f"vcpu.{index}."
        params.append(TypedParameter(f"{prefix}state", _INT, VcpuState.RUNNING))
        times = zip(_THREAD_FIELDS, thread_times(run.process.pid, thread), strict=True)
        params += [TypedParameter(prefix + name, _ULLONG, value) for name, value in times]
        params += _prefixed(prefix, found.kvm_vcpus.get(name, ()))
    return params


def _vm(found: Found) -> Parameters:
    return _prefixed("vm.", *found.kvm_vm.values())


def _prefixed(prefix: str, *parts: "Iterable[TypedParameter]") -> Parameters:
    return [TypedParameter(prefix + each.field, each.type, each.value) for part in parts
            for each in part]  # fmt: skip


def _iothread(found: Found) -> Parameters:
    """In the order of their numbers."""
    if not found.iothreads:
        return []
    params = [TypedParameter("iothread.count", _UINT, len(found.iothreads))]
    for number, thread in sorted(found.iothreads.items()):
        params += (
            TypedParameter(f"iothread.{number}.{name}", kind, thread[name])
            for name, kind in _IOTHREAD_FIELDS
        )
    return params


def _dirty_rate(found: Found) -> Parameters:
    rate = found.dirty_rate
    if rate is None:
        return []
    return [
        TypedParameter("dirtyrate.calc_status", _INT, _RATE_STATES.index(rate["status"])),
        TypedParameter("dirtyrate.calc_start_time", _LLONG, rate["start-time"]),
        TypedParameter("dirtyrate.calc_period", _INT, rate["calc-time"]),
        TypedParameter("dirtyrate.calc_mode", _STRING, rate["mode"]),
        *_measured_rates(rate),
    ]


def _measured_rates(rate: "Mapping[str, Any]") -> Parameters:
    params = []
    if "dirty-rate" in rate:
        params.append(TypedParameter("dirtyrate.megabytes_per_second", _LLONG, rate["dirty-rate"]))
    for each in rate.get("vcpu-dirty-rate", ()):
        name = f"dirtyrate.vcpu.{each['id']}.megabytes_per_second"
        params.append(TypedParameter(name, _ULLONG, each["dirty-rate"]))
    return params


def _nothing(found: Found) -> Parameters:
    """No event of the host's processors is counted, and no bandwidth is watched."""
    del found
    return []


def _interface(found: Found) -> Parameters:
    """A card without a device on the host has no figures, as in libvirt."""
    if found.domain.run is None:
        return []
    interfaces = found.domain.definition.interfaces
    params = [TypedParameter("net.count", _UINT, len(interfaces))]
    for index, interface in enumerate(interfaces):
        if interface.target is not None:
            params.append(TypedParameter(f"net.{index}.name", _STRING, interface.target))
            params += _network_params(f"net.{index}.", interface.target)
    return params


def _network_params(prefix: str, device: str) -> Parameters:
    folder = Path("/sys/class/net") / device / "statistics"
    try:
        return [
            TypedParameter(prefix + field, _ULLONG, int((folder / name).read_text()))
            for field, name in _NETWORK_FIELDS.items()
        ]
    except OSError:
        return []


_Reader: TypeAlias = Callable[[Found], Parameters]
_GROUPS: Final[tuple[tuple[DomainStats, _Reader], ...]] = (
    (DomainStats.STATE, _state),
    (DomainStats.CPU_TOTAL, _cpu),
    (DomainStats.BALLOON, _balloon),
    (DomainStats.VCPU, _vcpu),
    (DomainStats.INTERFACE, _interface),
    (DomainStats.BLOCK, disk_stats.block),
    (DomainStats.PERF, _nothing),
    (DomainStats.IOTHREAD, _iothread),
    (DomainStats.MEMORY, _nothing),
    (DomainStats.DIRTYRATE, _dirty_rate),
    (DomainStats.VM, _vm),
)
SUPPORTED_GROUPS: Final = sum(int(group) for group, _ in _GROUPS)
"""For callers that enforce their choice."""
