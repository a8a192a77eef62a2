"""Dirty bitmaps in QEMU: what there is, which ones together hold all changes, and how to ask for
new ones.

The answer to one query is kept as it came and looked into where needed: with hundreds of
checkpoints it is long, and most calls want a few of its entries. Decides nothing about checkpoints.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from virtbackupd.drivers.qemu.block_nodes import DiskNodes, ImageFacts, Json, Layer
from virtbackupd.drivers.qemu.qmp import Monitor

SIZE_BITMAP: Final = "libvirt-tmp-size-xml"


class Bitmap(NamedTuple):
    """One bitmap on one node."""

    node: str
    name: str
    granularity: int
    dirty: int
    """Bytes that have been written to since."""
    usable: bool
    """Recording, persistent and consistent."""


class Images:
    """The nodes of a domain at one moment."""

    def __init__(self, nodes: Iterable[Json]) -> None:
        self._nodes = {node["node-name"]: node for node in nodes}

    def __contains__(self, node: object) -> bool:
        return node in self._nodes

    def names(self) -> list[str]:
        return list(self._nodes)

    def facts(self, node: str) -> ImageFacts:
        """What is needed to lay out another image of the same kind."""
        image = self._image(node)
        data = image.get("format-specific", {}).get("data", {})
        return ImageFacts(
            int(image.get("virtual-size", 0)),
            int(image.get("cluster-size", 0)),
            bool(data.get("extended-l2")),
        )

    def read_only(self, node: str) -> bool:
        return bool(self._nodes.get(node, {}).get("ro"))

    def find(self, node: str, name: str) -> Bitmap | None:
        """The bitmap of that name; a running job's own ones have none."""
        for entry in self._entries(node):
            if entry.get("name") == name:
                return _bitmap(node, entry)
        return None

    def all(self, node: str) -> list[Bitmap]:
        return [_bitmap(node, entry) for entry in self._entries(node) if entry.get("name")]

    def _image(self, node: str) -> Json:
        found = self._nodes.get(node, {}).get("image")
        return found if isinstance(found, dict) else {}

    def _entries(self, node: str) -> Sequence[Json]:
        found = self._nodes.get(node, {}).get("dirty-bitmaps")
        return found if isinstance(found, list) else ()


async def query_images(monitor: Monitor) -> Images:
    """Ask QEMU once, for all nodes, without the images below repeated in each."""
    return Images(await monitor.execute("query-named-block-nodes", {"flat": True}))


def valid_chain(images: Images, disk: DiskNodes, name: str) -> list[Bitmap] | None:
    """The bitmaps that together hold all changes since the checkpoint, top first.

    They must be on the active image and on consecutive images below it; None if one is not usable.
    """
    found = [images.find(layer.node, name) for layer in disk.layers]
    chain = [bitmap for bitmap in found if bitmap is not None]
    consecutive = len(chain) > 0 and None not in found[: len(chain)]
    return chain if consecutive and all(bitmap.usable for bitmap in chain) else None


def layers_with(images: Images, disk: DiskNodes, name: str) -> list[Layer]:
    """Every image of the chain that has a bitmap of that name, whatever its state."""
    return [layer for layer in disk.layers if images.find(layer.node, name) is not None]


def add(
    node: str,
    name: str,
    *,
    persistent: bool,
    disabled: bool = False,
    granularity: int | None = None,
) -> Json:
    data: Json = {"node": node, "name": name, "persistent": persistent, "disabled": disabled}
    if granularity is not None:
        data["granularity"] = granularity
    return {"type": "block-dirty-bitmap-add", "data": data}


def merge(node: str, target: str, sources: Iterable[tuple[str, str]]) -> Json:
    """`sources` are pairs of node and bitmap."""
    bitmaps = [{"node": source, "name": name} for source, name in sources]
    data = {"node": node, "target": target, "bitmaps": bitmaps}
    return {"type": "block-dirty-bitmap-merge", "data": data}


def remove(node: str, name: str) -> Json:
    return {"type": "block-dirty-bitmap-remove", "data": {"node": node, "name": name}}


def merged_copy(node: str, target: str, chain: Sequence[Bitmap]) -> list[Json]:
    """A temporary bitmap on `node` with all that is dirty in a valid chain."""
    sources = [(bitmap.node, bitmap.name) for bitmap in chain]
    granularity = chain[0].granularity
    return [
        add(node, target, persistent=False, disabled=True, granularity=granularity),
        merge(node, target, sources),
    ]


async def transaction(monitor: Monitor, actions: Sequence[Json]) -> None:
    """All of the actions at one instant, or none."""
    if actions:
        await monitor.execute("transaction", {"actions": list(actions)})


def _bitmap(node: str, entry: dict[str, Any]) -> Bitmap:
    usable = entry.get("recording") and entry.get("persistent") and not entry.get("inconsistent")
    return Bitmap(
        node, str(entry["name"]), int(entry["granularity"]), int(entry["count"]), bool(usable)
    )
