"""What a command of QEMU's machine protocol is: a handler, its arguments, its way to fail.

Shared by the modules that hold the commands; knows none of them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from virtbackupd.drivers.definitions.disk import DiskDefinition
from virtbackupd.drivers.memory import block_nodes
from virtbackupd.drivers.memory.block_nodes import Json
from virtbackupd.drivers.memory.guest import Guest
from virtbackupd.drivers.memory.image import Image


class QmpError(Exception):
    """A command's failure; `kind` is QEMU's error class."""

    def __init__(self, description: str, kind: str = "GenericError") -> None:
        super().__init__(description)
        self.kind = kind


class Command(msgspec.Struct, frozen=True):
    """A handler with the types of its arguments; those in `optional` may be missing."""

    handler: Callable[[Guest, Json], Any]
    required: Mapping[str, type]
    optional: Mapping[str, type]


def find_drive(domain: Guest, name: str) -> tuple[DiskDefinition, Image]:
    """The disk and its image by any name; QEMU's own error when there is none."""
    disk = block_nodes.find_disk(domain, name)
    image = None if disk is None else domain.disk_image(disk.target)
    if disk is None or image is None:
        raise QmpError(f"Cannot find device='{name}' nor node-name='{name}'")
    return disk, image
