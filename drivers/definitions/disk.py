"""The `<disk>` element of a domain: what it is, where its data lives, what backs it.

Whether a disk may be backed up is a driver's rule, not a property here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

from virtbackupd.drivers.definitions.secret import SecretName
from virtbackupd.drivers.definitions.tree import (
    attribute_pairs,
    child_attribute,
    child_text,
    has_child,
)
from virtbackupd.drivers.errors import XmlError

_LOCAL_TYPES = frozenset({"file", "block", "dir"})
_SOURCE_ATTRIBUTES = {
    "file": ("file",),
    "block": ("dev",),
    "dir": ("dir",),
    "network": ("protocol", "name"),
    "volume": ("pool", "volume"),
    "nvme": ("type", "namespace"),
    "vhostuser": ("type", "path"),
    "vhostvdpa": ("dev",),
}
_BUS_BY_PREFIX = (
    ("fd", "fdc"),
    ("hd", "ide"),
    ("sd", "scsi"),
    ("vd", "virtio"),
    ("xvd", "xen"),
    ("ubd", "uml"),
)
_DEVICES = frozenset({"disk", "cdrom", "floppy", "lun"})


@dataclass(frozen=True, slots=True)
class BackingStore:
    """One layer below the active image."""

    source_type: str
    source: str
    format: str
    secret: SecretName | None = None


@dataclass(frozen=True, slots=True)
class DiskDefinition:
    """One disk of a domain; `source` is a path, or `protocol/name`, or `pool/volume`."""

    target: str
    bus: str | None
    device: str
    source_type: str
    source: str | None
    format: str
    read_only: bool
    transient: bool
    shareable: bool
    serial: str | None
    secret: SecretName | None
    """What opens an encrypted image."""
    backing: tuple[BackingStore, ...]
    chain_is_closed: bool = False
    """Whether the document says where the chain ends; else the images tell."""
    driver: tuple[tuple[str, str], ...] = ()
    """The attributes of `<driver>`."""

    def driver_option(self, name: str) -> str | None:
        return dict(self.driver).get(name)

    @property
    def empty(self) -> bool:
        """A drive without media."""
        return self.source is None

    @property
    def local_path(self) -> str | None:
        """The path of a file or block device on this machine, None for anything else."""
        return self.source if self.source_type in _LOCAL_TYPES else None

    @property
    def removable(self) -> bool:
        return self.device in ("cdrom", "floppy")


def normalise_disk(element: etree._Element) -> str:
    """Write the defaults that clients read from the tree; return the target name."""
    target = element.find("target")
    name = None if target is None else target.get("dev")
    if target is None or not name:
        raise XmlError("a disk has no target device name: add <target dev='vda'/>")
    _require_known(element, name)
    for attribute, default in (("type", "file"), ("device", "disk")):
        element.set(attribute, element.get(attribute) or default)
    bus = target.get("bus") or _default_bus(name)
    if bus is not None:
        target.set("bus", bus)
    if element.get("device") == "cdrom" and not has_child(element, "readonly"):
        target.addnext(etree.Element("readonly"))
    return name


def read_disk(element: etree._Element) -> DiskDefinition:
    """Read a normalised element."""
    source_type = element.get("type", "file")
    target, driver = element.find("target"), element.find("driver")
    return DiskDefinition(
        target="" if target is None else target.get("dev", ""),
        bus=None if target is None else target.get("bus"),
        device=element.get("device", "disk"),
        source_type=source_type,
        source=_source(element, source_type),
        format=child_attribute(element, "driver", "type") or "raw",
        read_only=has_child(element, "readonly"),
        transient=has_child(element, "transient"),
        shareable=has_child(element, "shareable"),
        serial=child_text(element, "serial"),
        secret=_secret(element),
        backing=tuple(_backing_chain(element)),
        chain_is_closed=any(store.get("type") is None for store in element.iter("backingStore")),
        driver=() if driver is None else tuple(attribute_pairs(driver)),
    )


def _require_known(element: etree._Element, target: str) -> None:
    for attribute, known in (("type", _SOURCE_ATTRIBUTES), ("device", _DEVICES)):
        value = element.get(attribute)
        if value is not None and value not in known:
            raise XmlError(f"disk {target!r} has the unknown {attribute} {value!r}")


def _default_bus(target: str) -> str | None:
    name = target.removeprefix("ioemu:")
    return next((bus for prefix, bus in _BUS_BY_PREFIX if name.startswith(prefix)), None)


def _secret(element: etree._Element) -> SecretName | None:
    """Below the source, or below the disk as older documents have it."""
    for path in ("source/encryption/secret", "encryption/secret"):
        found = element.find(path)
        if found is not None:
            return SecretName(found.get("uuid"), found.get("usage"))
    return None


def _source(element: etree._Element, source_type: str) -> str | None:
    source = element.find("source")
    if source is None:
        return None
    parts = [source.get(name) for name in _SOURCE_ATTRIBUTES[source_type]]
    return "/".join(part for part in parts if part) or None


def _backing_chain(element: etree._Element) -> Iterator[BackingStore]:
    layer = element.find("backingStore")
    while layer is not None:
        source_type = layer.get("type", "file")
        known = source_type in _SOURCE_ATTRIBUTES
        source = _source(layer, source_type) if known else None
        if source is None:
            return
        format_ = child_attribute(layer, "format", "type") or "raw"
        yield BackingStore(source_type, source, format_, _secret(layer))
        layer = layer.find("backingStore")
