"""What QEMU and the file system say about the disks of a run: requests, bytes and sizes.

One monitor command tells of all disks of a domain; the sizes of files are asked of the kernel in a
worker thread, because a dead server may make that wait.
"""

import os
import stat
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.disk import DiskDefinition
    from virtbackupd.drivers.qemu.domain import QemuDomain


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
    threshold: int = 0


class FileSizes(NamedTuple):
    """Of a file or block device: bytes in use on the disk, and its length."""

    allocation: int = 0
    physical: int = 0


class Layer(NamedTuple):
    """One node of a disk's chain, from the top."""

    node: str
    figures: DiskFigures


async def query(domain: "QemuDomain") -> dict[str, list[Layer]]:
    """The chains of all disks by target; a drive without a medium has an empty one."""
    found = await domain.monitor.execute("query-blockstats")
    by_node = dict(_unfiltered(device) for device in found)
    return {
        target: _chain(by_node.get(chain.node)) if chain.node else []
        for target, chain in domain.nodes.disks.items()
    }


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
    storage = device.get("parent", device)["stats"]
    return DiskFigures(
        stats["rd_operations"],
        stats["rd_bytes"],
        stats["rd_total_time_ns"],
        stats["wr_operations"],
        stats["wr_bytes"],
        stats["wr_total_time_ns"],
        stats["flush_operations"],
        stats["flush_total_time_ns"],
        storage["wr_highest_offset"],
    )


async def file_sizes(disks: Iterable["DiskDefinition"]) -> dict[str, FileSizes]:
    """By path, of those that are on this machine and can be reached."""
    paths = {disk.local_path for disk in disks if disk.local_path is not None}
    return await trio.to_thread.run_sync(_sizes, paths, abandon_on_cancel=True) if paths else {}


def _sizes(paths: Iterable[str]) -> dict[str, FileSizes]:
    found = {}
    for path in paths:
        try:
            found[path] = _size(path)
        except OSError:
            continue
    return found


def _size(path: str) -> FileSizes:
    about = os.stat(path)  # noqa: PTH116 - a thousand of them in one call
    if not stat.S_ISBLK(about.st_mode):
        return FileSizes(about.st_blocks * 512, about.st_size)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        length = os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)
    return FileSizes(length, length)
