"""Disks that a domain may start without: what happens when their image is not there.

Edits the definition of one run only; the stored one keeps the disk for the next start.
"""

import logging
import os
from typing import TYPE_CHECKING, Final

from lxml import etree

from virtbackupd.drivers.definitions.disk import read_disk
from virtbackupd.drivers.definitions.domain_defaults import devices_of
from virtbackupd.drivers.definitions.tree import child_attribute

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.domain import DomainDefinition

log = logging.getLogger(__name__)

_AT_START: Final = ("optional",)
_AT_RESTORE: Final = ("optional", "requisite")


def without_missing(definition: "DomainDefinition", *, restored: bool) -> "DomainDefinition":
    """A drive is left empty, and any other disk left out, if its `startupPolicy` lets it. Blocks.

    With `requisite` a disk may be missing when a saved machine goes on, but not at its first start.
    """
    policies = _AT_RESTORE if restored else _AT_START
    missing = definition.view(lambda root: _missing(devices_of(root), policies))
    if not missing:
        return definition
    for target, path in missing.items():
        log.warning("domain %s starts without %s: no %s", definition.name, target, path)
    return definition.edited_devices(lambda devices: _leave_out(devices, missing))


def _missing(devices: etree._Element, policies: tuple[str, ...]) -> dict[str, str]:
    """Paths by target."""
    disks = [
        read_disk(disk)
        for disk in devices.iterchildren("disk")
        if child_attribute(disk, "source", "startupPolicy") in policies
    ]
    return {
        disk.target: disk.local_path
        for disk in disks
        if disk.local_path is not None and not os.access(disk.local_path, os.F_OK)
    }


def _leave_out(devices: etree._Element, missing: dict[str, str]) -> None:
    for disk in devices.findall("disk"):
        about = read_disk(disk)
        source = disk.find("source")
        if about.target not in missing or source is None:
            continue
        if about.removable:
            disk.remove(source)
        else:
            devices.remove(disk)
