"""The disks of a running guest as QEMU's monitor names and describes them.

Commands may name a disk by its target, its source path, its node or its device: scripts written
for either hypervisor find it. Builds plain dictionaries; formats nothing and changes nothing.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from virtbackupd.drivers.definitions.disk import DiskDefinition
from virtbackupd.drivers.disks import place_of
from virtbackupd.drivers.memory.bitmap import Bitmap
from virtbackupd.drivers.memory.clusters import CLUSTER
from virtbackupd.drivers.memory.guest import Guest
from virtbackupd.drivers.memory.image import Image

Json: TypeAlias = dict[str, Any]

_TARGET: Final = re.compile(r"(?:vd|sd|hd|xvd|fd|ubd)([a-z]+)")
_NO_LIMITS: Final[Mapping[str, int]] = dict.fromkeys(
    ("iops", "iops_rd", "iops_wr", "bps", "bps_rd", "bps_wr"), 0
)


def find_disk(domain: Guest, name: str) -> DiskDefinition | None:
    """The disk that any of its names means."""
    for index, disk in enumerate(domain.definition.disks):
        if name in _names(index, disk):
            return disk
    return None


def node_name(index: int) -> str:
    """The node of the disk at that place in the definition."""
    return f"libvirt-{index + 1}-format"


def device_alias(disk: DiskDefinition) -> str:
    """The alias that libvirt would give the device."""
    named = _TARGET.fullmatch(disk.target)
    if disk.bus == "virtio" and named is not None:
        return f"virtio-disk{place_of(named[1])}"
    return f"{disk.bus or 'disk'}-{disk.target}"


def device_path(disk: DiskDefinition) -> str:
    """Where the device stands in the machine's tree."""
    path = f"/machine/peripheral/{device_alias(disk)}"
    return f"{path}/virtio-backend" if disk.bus == "virtio" else path


def inserted(domain: Guest) -> Iterator[tuple[str, DiskDefinition, Image]]:
    """Node name, disk and image of each disk that has a medium."""
    for index, disk in enumerate(domain.definition.disks):
        image = domain.disk_image(disk.target)
        if image is not None:
            yield node_name(index), disk, image


def describe_node(domain: Guest, node: str, disk: DiskDefinition, image: Image) -> Json:
    """One element of `query-named-block-nodes`."""
    described: Json = {
        "node-name": node,
        "drv": image.format,
        "file": image.path,
        "ro": disk.read_only,
        "encrypted": False,
        "detect_zeroes": "off",
        "backing_file_depth": _depth(image),
        "write_threshold": domain.counters(disk.target).threshold,
        "cache": {"writeback": True, "direct": False, "no-flush": False},
        "image": describe_image(image),
        **_NO_LIMITS,
    }
    if image.backing is not None:
        described["backing_file"] = image.backing.path
    if len(image.bitmaps):
        described["dirty-bitmaps"] = [_describe_bitmap(bitmap) for bitmap in image.bitmaps]
    return described


def describe_image(image: Image) -> Json:
    """The image's file, as `qemu-img info` would see it."""
    described: Json = {
        "filename": image.path,
        "format": image.format,
        "virtual-size": image.capacity,
        "actual-size": image.allocation,
        "dirty-flag": False,
    }
    if image.format == "qcow2":
        described["cluster-size"] = CLUSTER
    if image.backing is not None:
        described["backing-filename"] = image.backing.path
        described["backing-image"] = describe_image(image.backing)
    return described


def describe_jobs(domain: Guest) -> list[Json]:
    """The answer of `query-block-jobs`."""
    return [
        {
            "type": "backup",
            "device": f"backup-{disk.target}-{node}",
            "offset": info.cur,
            "len": info.end,
            "speed": info.bandwidth,
            "status": "running",
            "busy": True,
            "paused": False,
            "ready": False,
            "io-status": "ok",
            "auto-finalize": True,
            "auto-dismiss": False,
        }
        for node, disk, _ in inserted(domain)
        if (info := domain.get_block_job_info(disk.target, 1)).found
    ]


def describe_figures(domain: Guest) -> list[Json]:
    """The answer of `query-blockstats`."""
    found: list[Json] = []
    for node, disk, image in inserted(domain):
        counters = domain.counters(disk.target)
        figures = {
            "rd_bytes": counters.read_bytes,
            "wr_bytes": counters.write_bytes,
            "rd_operations": counters.read_requests,
            "wr_operations": counters.write_requests,
            "flush_operations": counters.flush_requests,
            "wr_highest_offset": image.allocation,
        }
        found.append({"node-name": node, "qdev": device_path(disk), "stats": figures})
    return found


def _names(index: int, disk: DiskDefinition) -> Iterator[str]:
    yield disk.target
    if disk.source is not None:
        yield disk.source
    yield node_name(index)
    yield device_alias(disk)
    yield f"drive-{device_alias(disk)}"
    yield device_path(disk)


def _depth(image: Image) -> int:
    return 0 if image.backing is None else 1 + _depth(image.backing)


def _describe_bitmap(bitmap: Bitmap) -> Json:
    described: Json = {
        "name": bitmap.name,
        "recording": bitmap.recording,
        "persistent": bitmap.persistent,
        "busy": bitmap.busy,
        "granularity": bitmap.granularity,
        "count": bitmap.count,
    }
    if bitmap.inconsistent:
        described["inconsistent"] = True
    return described
