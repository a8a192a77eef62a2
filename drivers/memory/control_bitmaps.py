"""The control commands that damage a bitmap behind the back of every client."""

from virtbackupd.drivers.errors import InvalidArgument
from virtbackupd.drivers.memory.bitmap import BitmapSet
from virtbackupd.drivers.memory.control import CommandTable, ControlCommand, Target
from virtbackupd.drivers.memory.control_disks import (
    DiskArguments,
    Json,
    domain_of,
    require_disk,
)


class BitmapArguments(DiskArguments, frozen=True, kw_only=True):
    """A bitmap of a disk; that of a checkpoint has the checkpoint's name."""

    bitmap: str


def _lose(target: Target, given: BitmapArguments) -> Json:
    _holder(target, given).lose(given.bitmap)
    return {}


def _break(target: Target, given: BitmapArguments) -> Json:
    _holder(target, given).mark_inconsistent(given.bitmap)
    return {}


def _holder(target: Target, given: BitmapArguments) -> BitmapSet:
    disk, image = require_disk(domain_of(target), given.disk)
    if given.bitmap not in image.bitmaps:
        known = ", ".join(map(repr, image.bitmaps.names())) or "none"
        raise InvalidArgument(
            f"disk {disk.target} has no bitmap {given.bitmap!r}; its bitmaps are: {known}"
        )
    return image.bitmaps


COMMANDS: CommandTable = {
    "bitmap-inconsistent": ControlCommand(
        "Make a bitmap unusable, as a crash does.", _break, BitmapArguments, needs_domain=True
    ),
    "bitmap-remove": ControlCommand(
        "Lose a bitmap, as restoring an image does.", _lose, BitmapArguments, needs_domain=True
    ),
}
