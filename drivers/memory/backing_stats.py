"""Block statistics with every image below a disk, and the file that a backup writes for it.

What a caller gets who asks for the backing chain too. Knows the figures of running backups, and
nothing of how statistics of other groups are made.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from virtbackupd.drivers.enums import DomainStats, TypedParameterType
from virtbackupd.drivers.events import TypedParameter
from virtbackupd.drivers.memory import stats

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.disk import DiskDefinition
    from virtbackupd.drivers.memory.domain import MemoryDomain

_BLOCK: Final = DomainStats.BLOCK.value
_UINT: Final = int(TypedParameterType.UINT)
_ULLONG: Final = int(TypedParameterType.ULLONG)
_STRING: Final = int(TypedParameterType.STRING)


class _Layer(NamedTuple):
    """An image that is no disk of its own; `number` is its node's, None when it has none."""

    path: str
    number: int | None
    allocation: int
    capacity: int
    physical: int


def domain_stats(domain: "MemoryDomain", groups: int) -> Sequence[TypedParameter]:
    """As `stats.domain_stats`, with the longer block group at the end."""
    wanted = groups or stats.SUPPORTED_GROUPS
    others = wanted & ~_BLOCK
    params = stats.domain_stats(domain, others) if others else ()
    return [*params, *_block(domain)] if wanted & _BLOCK else params


def _block(domain: "MemoryDomain") -> list[TypedParameter]:
    params: list[TypedParameter] = []
    count = 0
    for disk in domain.definition.disks:
        figures = stats.disk_figures(domain, disk)
        params += stats.disk_params(count, disk.target, disk.source, figures)
        count += 1
        for layer in _layers(domain, disk):
            params += _layer_params(f"block.{count}.", disk.target, layer)
            count += 1
    return [TypedParameter("block.count", _UINT, count), *params]


def _layers(domain: "MemoryDomain", disk: "DiskDefinition") -> Iterator[_Layer]:
    """The backing images from the top down, then the scratch file or target of a backup."""
    image = domain.disk_image(disk.target)
    below = image.backing if image is not None else None
    while below is not None:
        yield _Layer(below.path, None, below.allocation, below.capacity, below.physical)
        below = below.backing
    if domain.backup is None or image is None:
        return
    for entry in domain.backup.definition.selected:
        if entry.name == disk.target and entry.store_path:
            written = domain.backup.job.disks[entry.name].current
            yield _Layer(entry.store_path, entry.index, written, image.capacity, written)


def _layer_params(prefix: str, target: str, layer: _Layer) -> list[TypedParameter]:
    params = [
        TypedParameter(prefix + "name", _STRING, target),
        TypedParameter(prefix + "path", _STRING, layer.path),
    ]
    if layer.number is not None:
        params.append(TypedParameter(prefix + "backingIndex", _UINT, layer.number))
    sizes = {"allocation": layer.allocation, "capacity": layer.capacity}
    sizes["physical"] = layer.physical
    return params + [TypedParameter(prefix + key, _ULLONG, size) for key, size in sizes.items()]
