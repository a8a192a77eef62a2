"""The calls on one disk that change nothing in it: its sizes, and events on its growth."""

import re
from typing import TYPE_CHECKING, Any, Final

from virtbackupd.drivers.disks import require_disk
from virtbackupd.drivers.errors import InvalidArgument
from virtbackupd.drivers.events import DomainBlockThreshold
from virtbackupd.drivers.flags import check_none
from virtbackupd.drivers.interface import BlockInfo
from virtbackupd.drivers.qemu import disk_figures
from virtbackupd.drivers.qemu.image_info import virtual_size
from virtbackupd.drivers.qemu.live_xml import disk_aliases

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.disk import DiskDefinition
    from virtbackupd.drivers.qemu.domain import QemuDomain
    from virtbackupd.drivers.qemu.run import Run

_ERRORS: Final = {"failed": 1, "nospace": 2}
"""QEMU's states that virDomainDiskErrorCode has a number for."""
_INDEXED: Final = re.compile(r"(.+)\[(\d{1,9})\]")


async def get_block_info(domain: "QemuDomain", path: str, flags: int) -> BlockInfo:
    """Allocation and capacity, also of an inactive domain's disk."""
    check_none(flags, "virDomainGetBlockInfo")
    disk = require_disk(domain.definition, path)
    if disk.empty:
        raise InvalidArgument(f"drive {disk.target} of domain {domain.ref.name} has no medium")
    sizes = (await disk_figures.file_sizes([disk])).get(disk.local_path or "")
    if sizes is None:
        sizes = disk_figures.FileSizes()
    run = domain.run
    if run is None or disk.target not in run.capacities:
        capacity = await virtual_size(disk, domain.host.settings)
        return BlockInfo(sizes.allocation, capacity, sizes.physical)
    highest = await _highest(domain, disk)
    return BlockInfo(highest or sizes.allocation, run.capacities[disk.target], sizes.physical)


async def _highest(domain: "QemuDomain", disk: "DiskDefinition") -> int:
    """How far a block device has been written; a file tells that itself."""
    if disk.source_type == "file":
        return 0
    chain = (await disk_figures.query(domain)).get(disk.target)
    return chain[0].figures.highest if chain else 0


async def get_disk_errors(domain: "QemuDomain", flags: int) -> list[tuple[str, int]]:
    """The disks whose last failed request has stopped the guest, with the kind of failure."""
    check_none(flags, "virDomainGetDiskErrors")
    found = await domain.monitor.execute("query-block")
    failed = {
        _device_name(device): _ERRORS[device["io-status"]]
        for device in found
        if device.get("io-status") in _ERRORS
    }
    aliases = domain.definition.view(disk_aliases)
    return [(target, failed[alias]) for target, alias in aliases.items() if alias in failed]


def _device_name(device: dict[str, Any]) -> str:
    """QEMU gives some devices by their place among its objects."""
    return str(device.get("qdev", "")).removeprefix("/machine/peripheral/").partition("/")[0]


async def set_block_threshold(domain: "QemuDomain", dev: str, threshold: int, flags: int) -> None:
    """Ask for one event when a write ends beyond `threshold`, or none with 0."""
    check_none(flags, "virDomainSetBlockThreshold")
    run = domain.require_run()
    node = _storage_node(domain, dev)
    await run.monitor.execute(
        "block-set-write-threshold", {"node-name": node, "write-threshold": threshold}
    )
    if threshold:
        run.thresholds[node] = threshold
    else:
        run.thresholds.pop(node, None)
    (run.indexed_thresholds.add if _INDEXED.fullmatch(dev) else run.indexed_thresholds.discard)(
        node
    )


def _storage_node(domain: "QemuDomain", dev: str) -> str:
    indexed = _INDEXED.fullmatch(dev)
    target = require_disk(domain.definition, indexed[1] if indexed else dev).target
    if indexed is not None:
        return f"libvirt-{int(indexed[2])}-storage"
    nodes = domain.nodes.disks.get(target)
    if nodes is None or nodes.storage is None:
        raise InvalidArgument(f"drive {target} of domain {domain.ref.name} has no medium")
    return nodes.storage


def on_threshold(domain: "QemuDomain", run: "Run", data: dict[str, Any]) -> None:
    """Tell of a write beyond the limit that was set."""
    node = str(data.get("node-name"))
    run.thresholds.pop(node, None)
    found = _disk_of(domain, node)
    if found is None:
        return
    target, path = found
    limit, excess = int(data.get("write-threshold", 0)), int(data.get("amount-exceeded", 0))
    for name in _threshold_names(domain, run, target, node):
        domain.events.publish(DomainBlockThreshold(domain.ref, name, path, limit, excess))


def _threshold_names(domain: "QemuDomain", run: "Run", target: str, node: str) -> list[str]:
    """The active image is told of under the disk's name too, unless its number was asked for."""
    names = []
    nodes = domain.nodes.disks.get(target)
    if nodes is not None and nodes.storage == node and node not in run.indexed_thresholds:
        names.append(target)
    if node.count("-") > 1:
        names.append(f"{target}[{node.split('-')[1]}]")
    return names


def _disk_of(domain: "QemuDomain", node: str) -> tuple[str, str | None] | None:
    """Target and path: of a disk, or of the scratch image or target of its backup."""
    for disk in domain.definition.disks:
        if node in domain.disk_nodes(disk.target):
            return disk.target, disk.local_path
    for work in domain.backup.works if domain.backup is not None else ():
        if node in (work.layer.storage, work.layer.node):
            return work.entry.name, work.layer.image.path
    return None
