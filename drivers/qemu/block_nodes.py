"""The block nodes of a running domain: their numbers, their names, and how QEMU is told of them.

Every image that is ever attached in a run gets a number of its own, and from that a storage node
and a format node named as libvirt names them. Builds plain dictionaries; sends nothing to QEMU.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import trio
from lxml import etree

from virtbackupd.drivers.definitions.secret import SecretName
from virtbackupd.drivers.qemu.image_chain import Image, read_chain
from virtbackupd.drivers.qemu.state_file import PARTS, Part

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.disk import DiskDefinition
    from virtbackupd.drivers.definitions.domain import DomainDefinition
    from virtbackupd.drivers.qemu.domain import QemuDomain

Json: TypeAlias = dict[str, Any]

_CACHE: Final[dict[str, tuple[bool, bool]]] = {
    "none": (True, False),
    "writeback": (False, False),
    "writethrough": (False, False),
    "directsync": (True, False),
    "unsafe": (False, True),
}
"""The flags `direct` and `no-flush` of each cache mode."""
WITH_BACKING: Final = frozenset({"qcow2", "qed", "qcow", "vmdk"})
"""The formats of which an image can stand on another."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a disk's `<driver>` says about all images of its chain."""

    cache: str | None = None
    io: str | None = None
    discard: str | None = None
    detect_zeroes: str | None = None
    read_only: bool = False
    shared: bool = False

    @staticmethod
    def of(disk: "DiskDefinition") -> "Options":
        return Options(
            cache=disk.driver_option("cache"),
            io=disk.driver_option("io"),
            discard=disk.driver_option("discard"),
            detect_zeroes=disk.driver_option("detect_zeroes"),
            read_only=disk.read_only,
            shared=disk.shareable,
        )


@dataclass(frozen=True, slots=True)
class Layer:
    """One image of a chain, with its number."""

    number: int
    image: Image

    @property
    def storage(self) -> str:
        """The node that reads and writes the file."""
        return f"libvirt-{self.number}-storage"

    @property
    def node(self) -> str:
        """The node that understands the format, and carries bitmaps."""
        return f"libvirt-{self.number}-format"

    @property
    def secret(self) -> str | None:
        """The name of the object that opens it, if it is encrypted."""
        return f"{self.node}-encryption-secret0" if self.image.secret is not None else None

    def storage_props(self, options: Options) -> Json:
        drivers = {"file": "file", "block": "host_device"}
        props: Json = {
            "driver": drivers[self.image.type],
            "filename": self.image.path,
            "node-name": self.storage,
            "auto-read-only": True,
            "discard": "unmap",
        }
        if options.io is not None:
            props["aio"] = options.io
        return props | _cache_props(options)

    def format_props(self, options: Options, backing: str | None, *, read_only: bool) -> Json:
        props: Json = {
            "node-name": self.node,
            "read-only": read_only,
            "driver": self.image.driver,
            "file": self.storage,
        }
        if self.image.driver == "luks":
            props["key-secret"] = self.secret
        elif self.secret is not None:
            props["encrypt"] = {"format": "luks", "key-secret": self.secret}
        if self.image.format in WITH_BACKING and not self.image.implicit_backing:
            props["backing"] = backing
        return props | _cache_props(options)


@dataclass(frozen=True, slots=True)
class DiskNodes:
    """The chain of one disk, from the active image down; empty for an empty drive."""

    target: str
    layers: tuple[Layer, ...] = ()
    options: Options = Options()

    @property
    def node(self) -> str | None:
        return self.layers[0].node if self.layers else None

    @property
    def storage(self) -> str | None:
        return self.layers[0].storage if self.layers else None

    def format_props(self, index: int, *, read_only: bool | None = None) -> Json:
        """Of the layer at `index`; below the active image all are read-only."""
        options = self.options
        if read_only is None:
            read_only = index > 0 or options.read_only
        backing = self.layers[index + 1].node if index + 1 < len(self.layers) else None
        props = self.layers[index].format_props(options, backing, read_only=read_only)
        if index == 0:
            props |= _top_props(options)
        return props

    def blockdevs(self) -> list[Json]:
        """What `-blockdev` or `blockdev-add` is given, in the order that QEMU needs."""
        props = []
        for index in reversed(range(len(self.layers))):
            props.append(self.layers[index].storage_props(self.options))
            props.append(self.format_props(index))
        return props

    def secrets(self) -> list[tuple[str, SecretName]]:
        """The objects that must be there before the nodes, with what they are made from."""
        return [
            (layer.secret, layer.image.secret)
            for layer in self.layers
            if layer.secret is not None and layer.image.secret is not None
        ]

    def node_names(self) -> list[str]:
        """All of them, in the order in which they can be removed."""
        return [name for layer in self.layers for name in (layer.node, layer.storage)]

    def from_layers(self, layers: Iterable[Layer]) -> "DiskNodes":
        """The same disk on another chain."""
        return replace(self, layers=tuple(layers))


def storage_of(node: str) -> str:
    """The storage node that belongs to a format node of ours."""
    return f"{node.removesuffix('-format')}-storage"


class ImageFacts(NamedTuple):
    """What QEMU said of an image and what stays as it is, except for a resize."""

    virtual_size: int
    cluster_size: int
    extended_l2: bool


@dataclass(slots=True)
class BlockNodes:
    """Those of one run."""

    last: int = 0
    """The highest number in use; numbers are never used again."""
    disks: dict[str, DiskNodes] = field(default_factory=dict)
    facts: dict[str, ImageFacts] = field(default_factory=dict)
    """By node, as far as known; whoever may have resized an image clears it."""

    def take_number(self) -> int:
        self.last += 1
        return self.last

    def number(self, disk: "DiskDefinition", chain: Iterable[Image]) -> DiskNodes:
        """Give numbers to the images of a disk; they are not entered in `disks` yet."""
        layers = tuple(Layer(self.take_number(), image) for image in chain)
        return DiskNodes(disk.target, layers, Options.of(disk))

    async def probe(self, disk: "DiskDefinition") -> DiskNodes:
        """The same, after a look at the images."""
        return self.number(disk, await trio.to_thread.run_sync(read_chain, disk))


async def find_nodes(definition: "DomainDefinition") -> BlockNodes:
    """Look at the images of all disks and number them as libvirt does: the last disk first."""

    def read() -> list[list[Image]]:
        return [read_chain(disk) for disk in definition.disks]

    chains = await trio.to_thread.run_sync(read)
    nodes = BlockNodes()
    pairs = list(zip(definition.disks, chains, strict=True))
    numbered = {disk.target: nodes.number(disk, chain) for disk, chain in reversed(pairs)}
    nodes.disks = {disk.target: numbered[disk.target] for disk in definition.disks}
    return nodes


def _cache_props(options: Options) -> Json:
    if options.cache not in _CACHE:
        return {}
    direct, no_flush = _CACHE[options.cache]
    return {"cache": {"direct": direct, "no-flush": no_flush}}


def _top_props(options: Options) -> Json:
    props: Json = {}
    if options.discard is not None:
        props["discard"] = options.discard
    if options.detect_zeroes is not None:
        props["detect-zeroes"] = options.detect_zeroes
    return props


# What the status file keeps of them.
def _write_part(domain: "QemuDomain") -> etree._Element:
    root = etree.Element("nodes", last=str(domain.nodes.last))
    for chain in domain.nodes.disks.values():
        element = etree.SubElement(root, "disk", target=chain.target)
        for layer in chain.layers:
            element.append(write_layer(layer))
    return root


def write_layer(layer: Layer) -> etree._Element:
    image = layer.image
    element = etree.Element(
        "image",
        number=str(layer.number),
        type=image.type,
        path=image.path,
        format=image.format,
        backing="implicit" if image.implicit_backing else "explicit",
    )
    if image.secret is not None:
        named = (("secret-uuid", image.secret.uuid), ("secret-usage", image.secret.usage))
        element.attrib.update({name: value for name, value in named if value is not None})
    return element


def read_layer(element: etree._Element) -> Layer:
    """Read what `write_layer` made."""
    secret = SecretName(element.get("secret-uuid"), element.get("secret-usage"))
    image = Image(
        element.get("type", "file"),
        element.get("path", ""),
        element.get("format", "raw"),
        element.get("backing") == "implicit",
        None if secret == SecretName() else secret,
    )
    return Layer(int(element.get("number", "0")), image)


def _read_part(domain: "QemuDomain", root: etree._Element) -> None:
    disks = {}
    for element in root.iterchildren("disk"):
        target = element.get("target", "")
        found = domain.definition.find_disk(target)
        layers = tuple(read_layer(image) for image in element.iterchildren("image"))
        options = Options() if found is None else Options.of(found)
        disks[target] = DiskNodes(target, layers, options)
    domain.nodes = BlockNodes(int(root.get("last", "0")), disks)


PARTS.append(Part("nodes", _write_part, _read_part))
