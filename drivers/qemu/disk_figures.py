"""What QEMU and the file system say about the disks of a run: requests, bytes and sizes.

One monitor command tells of all disks of a domain; the sizes of files are asked of the kernel in a
worker thread, because a dead server may make that wait.
"""

import os
import stat
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from virtbackupd.drivers.qcow2 import HEADER_V2, find_capacity
from virtbackupd.drivers.qemu.together import together

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.disk import DiskDefinition
    from virtbackupd.drivers.qemu.domain import QemuDomain
    from virtbackupd.drivers.qemu.run import Run


class DiskFigures(NamedTuple):
    """Of one disk, or of one layer of its chain; times in nanoseconds, sizes in bytes."""

    read_requests: int = 0
    read_bytes: int = 0
    read_times: int = 0
    write_requests: int = 0
    write_bytes: int = 0
    write_times: int = 0
    flush_requests: int = 0
    flush_times: int = 0
    highest: int = 0
    """Where the last byte ever written stands in the file."""


class FileSizes(NamedTuple):
    """Of a file or block device: bytes in use on the disk, and its length."""

    allocation: int = 0
    physical: int = 0


class LayerSizes(NamedTuple):
    """One image, in bytes."""

    allocation: int
    """Where the last byte written in this run stands; the space in use when there is no run."""
    capacity: int
    physical: int


class Layer(NamedTuple):
    """One node of a disk's chain, from the top; an empty drive has one without a name."""

    node: str
    figures: DiskFigures


async def query(domain: "QemuDomain") -> dict[str, list[Layer]]:
    """The chains of all disks by target."""
    run = domain.require_run()
    found = await run.monitor.execute("query-blockstats")
    by_node = dict(_unfiltered(device) for device in found)
    empty = {device.get("qdev"): device for device in found if "node-name" not in device}
    return {
        target: _chain(by_node.get(chain.node) if chain.node else empty.get(run.drives.get(target)))
        for target, chain in domain.nodes.disks.items()
    }


async def learn_capacities(domain: "QemuDomain", run: "Run") -> None:
    """Ask for the sizes that the guest sees; they stay until somebody resizes a disk."""
    found = await run.monitor.execute("query-block")
    inserted = [device["inserted"] for device in found if device.get("inserted")]
    # Above a disk in a backup is a filter of QEMU's, with the image's path but not its node.
    by_name = {image["file"]: image for image in inserted if image["node-name"].startswith("#")}
    by_name |= {image["node-name"]: image for image in inserted}
    for target, chain in domain.nodes.disks.items():
        names = (chain.node, chain.layers[0].image.path) if chain.layers else ()
        image = next((by_name[name] for name in names if name in by_name), None)
        if image is not None:
            run.capacities[target] = image["image"]["virtual-size"]


async def query_layers(domain: "QemuDomain") -> dict[str, LayerSizes]:
    """Of all images that QEMU has open, also below a disk and of a backup, by format node."""
    monitor = domain.monitor
    counted: list[dict[str, Any]] = []
    described: list[dict[str, Any]] = []

    async def count() -> None:
        counted.extend(await monitor.execute("query-blockstats", {"query-nodes": True}))

    async def describe() -> None:
        described.extend(await monitor.execute("query-named-block-nodes", {"flat": True}))

    await together((count, describe))
    highest = {device.get("node-name"): _highest(device) for device in counted}
    return {
        node["node-name"]: _layer_sizes(node["image"], highest.get(node["node-name"], 0))
        for node in described
    }


def _highest(device: dict[str, Any]) -> int:
    return int(device.get("parent", device)["stats"]["wr_highest_offset"])


def _layer_sizes(image: dict[str, Any], highest: int) -> LayerSizes:
    """What is not known to be sparse takes up all of its capacity."""
    capacity = int(image["virtual-size"])
    return LayerSizes(highest, capacity, int(image.get("actual-size", capacity)))


def _unfiltered(device: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The topmost node with a name of ours: during a backup a filter of QEMU's is above it.

    What the guest has done is counted above all filters.
    """
    top: dict[str, Any] | None = device
    while top is not None and str(top.get("node-name", "")).startswith("#"):
        top = top.get("backing") or top.get("parent")
    if top is None:
        return "", device
    return str(top.get("node-name", "")), {**top, "stats": device["stats"]}


def _chain(device: dict[str, Any] | None) -> list[Layer]:
    layers = []
    while device is not None:
        layers.append(Layer(device.get("node-name", ""), _figures(device)))
        device = device.get("backing")
    return layers


def _figures(device: dict[str, Any]) -> DiskFigures:
    stats = device["stats"]
    return DiskFigures(
        stats["rd_operations"],
        stats["rd_bytes"],
        stats["rd_total_time_ns"],
        stats["wr_operations"],
        stats["wr_bytes"],
        stats["wr_total_time_ns"],
        stats["flush_operations"],
        stats["flush_total_time_ns"],
        _highest(device),
    )


async def stored_sizes(disks: Iterable["DiskDefinition"]) -> dict[str, LayerSizes]:
    """By path, of images that no QEMU of ours has open, as far as they can be read here."""
    formats = {
        disk.local_path: disk.format
        for disk in disks
        # How long the header of an encrypted raw image is would have to be read from it.
        if disk.local_path is not None and (disk.format == "qcow2" or disk.secret is None)
    }

    def look() -> dict[str, LayerSizes]:
        found = _sizes(formats)
        capacities = {path: _capacity(path, formats[path], found[path]) for path in found}
        return {
            path: LayerSizes(found[path].allocation, capacity, found[path].physical)
            for path, capacity in capacities.items()
            if capacity is not None
        }

    return await trio.to_thread.run_sync(look, abandon_on_cancel=True) if formats else {}


def _capacity(path: str, image_format: str, sizes: FileSizes) -> int | None:
    if image_format != "qcow2":
        return sizes.physical
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return find_capacity(os.read(descriptor, HEADER_V2.size))
        finally:
            os.close(descriptor)
    except OSError:
        return None


async def file_sizes(disks: Iterable["DiskDefinition"]) -> dict[str, FileSizes]:
    """By path, of those that are on this machine and can be reached."""
    paths = {disk.local_path for disk in disks if disk.local_path is not None}
    return await trio.to_thread.run_sync(_sizes, paths, abandon_on_cancel=True) if paths else {}


def _sizes(paths: Iterable[str]) -> dict[str, FileSizes]:
    found = {}
    for path in paths:
        try:
            found[path] = size_of(path)
        except OSError:
            continue
    return found


def size_of(path: str) -> FileSizes:
    """Of one. Blocks; raises OSError."""
    about = os.stat(path)  # noqa: PTH116 - a thousand of them in one call
    if not stat.S_ISBLK(about.st_mode):
        return FileSizes(about.st_blocks * 512, about.st_size)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        length = os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)
    return FileSizes(length, length)
