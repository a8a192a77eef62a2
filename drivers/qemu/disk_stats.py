"""The figures of a domain's disks, with libvirt's field names and in its order.

What QEMU and the file system were asked is in `stats_answers` and `disk_figures`.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, TypeAlias

from virtbackupd.drivers import disks
from virtbackupd.drivers.enums import TypedParameterType
from virtbackupd.drivers.events import TypedParameter
from virtbackupd.drivers.interface import BlockStats
from virtbackupd.drivers.qemu import disk_figures
from virtbackupd.drivers.qemu.block_nodes import storage_of
from virtbackupd.drivers.qemu.disk_figures import DiskFigures, Layer, LayerSizes
from virtbackupd.drivers.qemu.stats_answers import Found

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.disk import DiskDefinition
    from virtbackupd.drivers.qemu.domain import QemuDomain
    from virtbackupd.drivers.qemu.run import Run

_UINT: Final = int(TypedParameterType.UINT)
_ULLONG: Final = int(TypedParameterType.ULLONG)
_STRING: Final = int(TypedParameterType.STRING)

Parameters: TypeAlias = list[TypedParameter]


def block(found: Found) -> Parameters:
    """One record for each disk, and with `backing` for each image below it and of its backup."""
    params: Parameters = []
    count = 0
    for disk in found.domain.definition.disks:
        for record in _disk_records(found, disk):
            params += (
                TypedParameter(f"block.{count}.{name}", kind, value) for name, kind, value in record
            )
            count += 1
    return [TypedParameter("block.count", _UINT, count), *params]


def _disk_records(found: Found, disk: "DiskDefinition") -> Iterable[Parameters]:
    """The disk, and each layer below when that is wanted."""
    chain = found.chains.get(disk.target, [])
    first = _named(disk.target, disk.source)
    if chain:
        first += _number(chain[0].node) + _request_params(chain[0])
    if chain and disk.source is not None:
        first += _size_params(found, disk, chain[0])
    elif found.domain.live is None:
        first += _sizes(found.stored.get(disk.local_path or ""))
    yield first
    if found.backing:
        for layer, below in zip(chain[1:], disk.backing, strict=False):
            yield _named(disk.target, below.source) + _layer_params(found, layer.node)
        work = found.work_of(disk.target)
        if work is not None:
            store = work.layer
            yield _named(disk.target, store.image.path) + _layer_params(found, store.node)


def _named(target: str, path: str | None) -> Parameters:
    params = [TypedParameter("name", _STRING, target)]
    return params if path is None else [*params, TypedParameter("path", _STRING, path)]


def _number(node: str) -> Parameters:
    """The number in libvirt-N-format, by which clients name a layer, as in vda[3]."""
    number = node.split("-")[1:2]
    if not number or not number[0].isdigit():
        return []
    return [TypedParameter("backingIndex", _UINT, int(number[0]))]


def _request_params(layer: Layer) -> Parameters:
    values = layer.figures[: len(disks.REQUEST_FIELDS)]
    return [
        TypedParameter(name, _ULLONG, value)
        for name, value in zip(disks.REQUEST_FIELDS, values, strict=True)
    ]


def _size_params(found: Found, disk: "DiskDefinition", layer: Layer) -> Parameters:
    """A file takes up what it has been given by its file system, a device all of its length."""
    run = found.domain.run
    params = [TypedParameter("allocation", _ULLONG, layer.figures.highest)]
    if run is not None and disk.target in run.capacities:
        params.append(TypedParameter("capacity", _ULLONG, run.capacities[disk.target]))
    sizes = found.sizes.get(disk.local_path or "")
    if sizes is not None:
        physical = sizes.allocation or sizes.physical
        params.append(TypedParameter("physical", _ULLONG, physical))
    return params + _threshold(run, layer.node)


def _layer_params(found: Found, node: str) -> Parameters:
    sizes = _sizes(found.layers.get(node))
    return _number(node) + sizes + _threshold(found.domain.run, node)


def _sizes(sizes: LayerSizes | None) -> Parameters:
    named = () if sizes is None else sizes._asdict().items()
    return [TypedParameter(name, _ULLONG, value) for name, value in named]


def _threshold(run: "Run | None", node: str) -> Parameters:
    limit = run.thresholds.get(storage_of(node), 0) if run is not None else 0
    return [TypedParameter("threshold", _ULLONG, limit)] if limit else []


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
