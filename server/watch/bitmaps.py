"""Whether the bitmaps behind a checkpoint can be used, as far as the server tells.

The size in a checkpoint's document tells of good ones. What is wrong with others only the monitor
knows, which libvirt lets a client ask but holds against the domain ever after.
"""

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import TypeAlias

from lxml import etree

from virtbackupd.server.remote import Refused, Remote
from virtbackupd.server.remote_host import (
    CheckpointDisk,
    CheckpointReport,
    DomainKey,
    parse_document,
)

Consistency: TypeAlias = Mapping[str, Mapping[str, bool]]
"""By target and name: the bitmaps of the active image, and whether each is consistent."""


class BitmapState(StrEnum):
    """What is known of a bitmap."""

    NONE = "none"
    """The checkpoint does not record this disk."""
    VALID = "valid"
    MISSING = "missing"
    INCONSISTENT = "inconsistent"
    UNUSABLE = "unusable"
    """Missing or inconsistent, here or further down the chain."""
    UNKNOWN = "unknown"
    """The domain is not running, or the server does not tell."""


def bitmap_state(
    checkpoint: CheckpointReport, disk: CheckpointDisk, consistent: Consistency | None
) -> BitmapState:
    """`consistent` is what the monitor told, if it was asked."""
    if not disk.bitmap:
        return BitmapState.NONE
    if disk.size is not None:
        return BitmapState.VALID
    if consistent is not None and disk.target in consistent:
        return _told(consistent[disk.target].get(disk.bitmap), sized=checkpoint.sized)
    return BitmapState.UNUSABLE if checkpoint.sized else BitmapState.UNKNOWN


def _told(consistent: bool | None, *, sized: bool) -> BitmapState:
    if consistent is None:
        return BitmapState.MISSING
    if not consistent:
        return BitmapState.INCONSISTENT
    return BitmapState.UNUSABLE if sized else BitmapState.VALID


async def ask_monitor(remote: Remote, domain: DomainKey) -> Consistency | None:
    """The bitmaps of a running domain's disks; None where the monitor may not be asked."""
    command = json.dumps({"execute": "query-block"})
    try:
        (answer,) = await remote.call("QEMU_DOMAIN_MONITOR_COMMAND", domain, command, 0)
        (xml,) = await remote.call("DOMAIN_GET_XML_DESC", domain, 0)
    except Refused:
        return None
    try:
        return dict(_by_target(json.loads(answer)["return"], parse_document(xml)))
    except (ValueError, KeyError, TypeError):
        return None


def _by_target(
    drives: list[dict[str, object]], domain: etree._Element
) -> Iterator[tuple[str, Mapping[str, bool]]]:
    for disk in domain.iterfind("devices/disk"):
        target = disk.find("target")
        for drive in drives:
            inserted = drive.get("inserted")
            if target is None or not isinstance(inserted, dict) or not _same(disk, drive, inserted):
                continue
            bitmaps = inserted.get("dirty-bitmaps", [])
            yield (
                target.get("dev", ""),
                {each["name"]: not each.get("inconsistent", False) for each in bitmaps
                 if "name" in each},
            )  # fmt: skip
            break


def _same(
    disk: etree._Element, drive: Mapping[str, object], inserted: Mapping[str, object]
) -> bool:
    """By the alias of the device, which is a step of its path in the machine, or by the file."""
    alias, source = disk.find("alias"), disk.find("source")
    if alias is not None and alias.get("name") in str(drive.get("qdev", "")).split("/"):
        return True
    return source is not None and inserted.get("file") in set(source.attrib.values())
