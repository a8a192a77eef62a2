"""The commands of QEMU's machine protocol on dirty bitmaps.

Which image has which bitmap is the image's to say; these only reach for it.
"""

from collections.abc import Mapping
from typing import Final

from virtbackupd.drivers.memory.bitmap import Bitmap, BitmapExists
from virtbackupd.drivers.memory.block_nodes import Json
from virtbackupd.drivers.memory.clusters import CLUSTER
from virtbackupd.drivers.memory.guest import Guest
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.qmp_command import Command, QmpError, find_drive


def _bitmap_add(domain: Guest, arguments: Json) -> Json:
    _, image = find_drive(domain, arguments["node"])
    if arguments.get("granularity", CLUSTER) != CLUSTER:
        raise QmpError(f"Parameter 'granularity' expects {CLUSTER}, the only one there is here")
    persistent, disabled = arguments.get("persistent", False), arguments.get("disabled", False)
    try:
        image.bitmaps.add(arguments["name"], persistent=persistent, recording=not disabled)
    except BitmapExists:
        raise QmpError(f"Bitmap already exists: {arguments['name']}") from None
    return {}


def _bitmap_remove(domain: Guest, arguments: Json) -> Json:
    image, bitmap = _bitmap(domain, arguments, "node", "name")
    _require_idle(bitmap)
    image.bitmaps.lose(bitmap.name)
    return {}


def _bitmap_enable(domain: Guest, arguments: Json) -> Json:
    _, bitmap = _bitmap(domain, arguments, "node", "name")
    _require_idle(bitmap)
    bitmap.enable()
    return {}


def _bitmap_disable(domain: Guest, arguments: Json) -> Json:
    _, bitmap = _bitmap(domain, arguments, "node", "name")
    _require_idle(bitmap)
    bitmap.disable()
    return {}


def _bitmap_merge(domain: Guest, arguments: Json) -> Json:
    _, target = _bitmap(domain, arguments, "node", "target")
    _require_idle(target)
    sources = [_source_bitmap(domain, arguments["node"], one) for one in arguments["bitmaps"]]
    target.merge(sources)
    return {}


def _source_bitmap(domain: Guest, node: str, given: object) -> Bitmap:
    """A bitmap to merge: a name, or an object with node and name."""
    if isinstance(given, str):
        given = {"node": node, "name": given}
    if not isinstance(given, dict) or not all(
        isinstance(given.get(key), str) for key in ("node", "name")
    ):
        raise QmpError("Parameter 'bitmaps' expects names, or objects with node and name")
    return _bitmap(domain, given, "node", "name")[1]


def _bitmap(domain: Guest, arguments: Json, where: str, which: str) -> tuple[Image, Bitmap]:
    _, image = find_drive(domain, arguments[where])
    bitmap = image.bitmaps.get(arguments[which])
    if bitmap is None:
        raise QmpError(f"Dirty bitmap '{arguments[which]}' not found")
    return image, bitmap


def _require_idle(bitmap: Bitmap) -> None:
    if bitmap.busy:
        raise QmpError(f"Bitmap '{bitmap.name}' is in use by another operation")


_NAMED: Final = {"node": str, "name": str}
COMMANDS: Final[Mapping[str, Command]] = {
    "block-dirty-bitmap-add": Command(
        _bitmap_add, _NAMED, {"granularity": int, "persistent": bool, "disabled": bool}
    ),
    "block-dirty-bitmap-disable": Command(_bitmap_disable, _NAMED, {}),
    "block-dirty-bitmap-enable": Command(_bitmap_enable, _NAMED, {}),
    "block-dirty-bitmap-merge": Command(
        _bitmap_merge, {"node": str, "target": str, "bitmaps": list}, {}
    ),
    "block-dirty-bitmap-remove": Command(_bitmap_remove, _NAMED, {}),
}
