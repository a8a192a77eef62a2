"""Statistics of domains and disks, with libvirt's field names.

A running domain costs one monitor command, and all domains are asked at the same time. What
cannot be had, because a guest has just ended or a monitor does not answer, is left out.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import trio

from virtbackupd.drivers import disks
from virtbackupd.drivers.enums import DomainStats, TypedParameterType
from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.events import TypedParameter
from virtbackupd.drivers.interface import BlockStats, DomainStatsRecord
from virtbackupd.drivers.qemu import disk_figures
from virtbackupd.drivers.qemu.disk_figures import DiskFigures, FileSizes, Layer
from virtbackupd.drivers.qemu.process import cpu_times

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.disk import DiskDefinition
    from virtbackupd.drivers.qemu.domain import QemuDomain

_VCPU_RUNNING: Final = 1
_INT: Final = int(TypedParameterType.INT)
_UINT: Final = int(TypedParameterType.UINT)
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

Parameters: TypeAlias = list[TypedParameter]


class Inquiry(NamedTuple):
    """One domain and what has been found out about its disks."""

    domain: "QemuDomain"
    chains: dict[str, list[Layer]]
    sizes: dict[str, FileSizes]
    backing: bool
    """Whether every layer of a chain is wanted."""


async def collect(
    domains: Sequence["QemuDomain"], groups: int, *, backing: bool
) -> list[DomainStatsRecord]:
    """One record for each domain, in the same order."""
    chains: dict[bytes, dict[str, list[Layer]]] = {}
    wanted = [each for each in domains if each.run is not None] if _wants_disks(groups) else []
    async with trio.open_nursery() as nursery:
        for domain in wanted:
            nursery.start_soon(_ask, domain, chains, backing)
    sizes = await disk_figures.file_sizes(
        disk for domain in wanted if domain.live for disk in domain.live.disks
    )
    return [
        DomainStatsRecord(domain.ref, _params(Inquiry(domain, found, sizes, backing), groups))
        for domain in domains
        for found in (chains.get(domain.ref.uuid, {}),)
    ]


def _wants_disks(groups: int) -> bool:
    return not groups or bool(groups & DomainStats.BLOCK)


async def _ask(
    domain: "QemuDomain",
    chains: dict[bytes, dict[str, list[Layer]]],
    backing: bool,
) -> None:
    try:
        chains[domain.ref.uuid] = await disk_figures.query(domain)
        if backing and domain.backup is not None:
            await domain.backup.refresh()
    except DriverError:
        # The domain has ended, or does not answer: the others are reported all the same.
        return


def _params(inquiry: Inquiry, groups: int) -> Parameters:
    params: Parameters = []
    for group, read in _GROUPS:
        if not groups or groups & group:
            params += read(inquiry)
    return params


def _state(inquiry: Inquiry) -> Parameters:
    domain = inquiry.domain
    return [
        TypedParameter("state.state", _INT, domain.state),
        TypedParameter("state.reason", _INT, domain.reason),
    ]


def _cpu(inquiry: Inquiry) -> Parameters:
    run = inquiry.domain.run
    if run is None:
        return []
    user, system = cpu_times(run.process.pid)
    figures = (("cpu.time", user + system), ("cpu.user", user), ("cpu.system", system))
    return [TypedParameter(name, _ULLONG, value) for name, value in figures]


def _balloon(inquiry: Inquiry) -> Parameters:
    definition, run = inquiry.domain.definition, inquiry.domain.run
    current = run.balloon if run is not None and run.balloon else definition.current_memory
    return [
        TypedParameter("balloon.current", _ULLONG, current),
        TypedParameter("balloon.maximum", _ULLONG, definition.memory),
    ]


def _vcpu(inquiry: Inquiry) -> Parameters:
    definition, run = inquiry.domain.definition, inquiry.domain.run
    params = [
        TypedParameter("vcpu.current", _UINT, definition.vcpus),
        TypedParameter("vcpu.maximum", _UINT, definition.max_vcpus),
    ]
    for index, thread in enumerate(() if run is None else run.cpu_threads):
        time = sum(cpu_times(run.process.pid, thread)) if run is not None else 0
        params.append(TypedParameter(f"vcpu.{index}.state", _INT, _VCPU_RUNNING))
        params.append(TypedParameter(f"vcpu.{index}.time", _ULLONG, time))
    return params


def _interface(inquiry: Inquiry) -> Parameters:
    """A card without a device on the host has no figures, as in libvirt."""
    if inquiry.domain.run is None:
        return []
    interfaces = inquiry.domain.definition.interfaces
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


def _block(inquiry: Inquiry) -> Parameters:
    params: Parameters = []
    count = 0
    for disk in inquiry.domain.definition.disks:
        for record in _disk_records(inquiry, disk):
            params += (
                TypedParameter(f"block.{count}.{name}", kind, value) for name, kind, value in record
            )
            count += 1
    return [TypedParameter("block.count", _UINT, count), *params]


def _disk_records(inquiry: Inquiry, disk: "DiskDefinition") -> Iterable[Parameters]:
    """The disk, and each layer below when that is wanted."""
    chain = inquiry.chains.get(disk.target, [])
    first = [TypedParameter("name", _STRING, disk.target)]
    if disk.source is not None:
        first.append(TypedParameter("path", _STRING, disk.source))
    if chain:
        first += _layer_params(chain[0]) + _size_params(inquiry, disk, chain[0].figures)
    yield first
    if inquiry.backing:
        for layer, below in zip(chain[1:], disk.backing, strict=False):
            names = [("name", disk.target), ("path", below.source)]
            yield [TypedParameter(*_string(name)) for name in names] + _layer_params(layer)
        yield from _backup_records(inquiry.domain, disk.target)


def _backup_records(domain: "QemuDomain", target: str) -> Iterable[Parameters]:
    """The scratch image or target that a backup writes for a disk."""
    work = domain.backup.work_of(target) if domain.backup is not None else None
    if work is not None:
        sizes = {"allocation": work.job.current, "capacity": work.job.total}
        yield [
            TypedParameter("name", _STRING, target),
            TypedParameter("path", _STRING, work.layer.image.path),
            TypedParameter("backingIndex", _UINT, work.layer.number),
            *(TypedParameter(name, _ULLONG, size) for name, size in sizes.items()),
        ]


def _string(pair: tuple[str, str]) -> tuple[str, int, str]:
    return pair[0], _STRING, pair[1]


def _layer_params(layer: Layer) -> Parameters:
    params = []
    # The number in libvirt-N-format, by which clients name a layer, as in vda[3].
    number = layer.node.split("-")[1:2]
    if number and number[0].isdigit():
        params.append(TypedParameter("backingIndex", _UINT, int(number[0])))
    values = layer.figures[: len(disks.REQUEST_FIELDS)]
    params += [
        TypedParameter(name, _ULLONG, value)
        for name, value in zip(disks.REQUEST_FIELDS, values, strict=True)
    ]
    return params


def _size_params(inquiry: Inquiry, disk: "DiskDefinition", figures: DiskFigures) -> Parameters:
    run = inquiry.domain.run
    params = [TypedParameter("allocation", _ULLONG, figures.highest)]
    if run is not None and disk.target in run.capacities:
        params.append(TypedParameter("capacity", _ULLONG, run.capacities[disk.target]))
    sizes = inquiry.sizes.get(disk.local_path or "")
    if sizes is not None:
        params.append(TypedParameter("physical", _ULLONG, sizes.physical))
    if figures.threshold:
        params.append(TypedParameter("threshold", _ULLONG, figures.threshold))
    return params


_Reader: TypeAlias = Callable[[Inquiry], Parameters]
_GROUPS: Final[tuple[tuple[DomainStats, _Reader], ...]] = (
    (DomainStats.STATE, _state),
    (DomainStats.CPU_TOTAL, _cpu),
    (DomainStats.BALLOON, _balloon),
    (DomainStats.VCPU, _vcpu),
    (DomainStats.INTERFACE, _interface),
    (DomainStats.BLOCK, _block),
)
SUPPORTED_GROUPS: Final = sum(int(group) for group, _ in _GROUPS)
"""For callers that enforce their choice."""


async def block_stats(domain: "QemuDomain", name: str) -> BlockStats:
    """The counters of a disk, of all disks together when `name` is empty."""
    return disks.block_stats(await _total(domain, name))


async def block_stats_params(domain: "QemuDomain", name: str) -> Parameters:
    """The same figures as typed parameters."""
    total = await _total(domain, name)
    return disks.block_stats_params(
        total,
        read_times=total.read_times,
        write_times=total.write_times,
        flush_times=total.flush_times,
    )


async def _total(domain: "QemuDomain", name: str) -> DiskFigures:
    domain.require_run()
    only = disks.require_disk(domain.definition, name).target if name else None
    chains = await disk_figures.query(domain)
    tops = [
        chain[0].figures for target, chain in chains.items() if chain and only in (None, target)
    ]
    return DiskFigures(*map(sum, zip(*tops, strict=True)))
