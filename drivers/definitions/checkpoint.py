"""The checkpoint document: what a caller asked for, and what is printed back.

Which checkpoint becomes the parent and which disks are covered in the end is decided elsewhere
(`checkpoint_tree.py`, `alignment.py`).
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

from lxml import etree

from virtbackupd.drivers.definitions.document import parse_document
from virtbackupd.drivers.definitions.domain import nested_domain, read_domain
from virtbackupd.drivers.definitions.schema import CHECKPOINT_SCHEMA
from virtbackupd.drivers.definitions.tree import child_text, number
from virtbackupd.drivers.definitions.writer import attributes, element_line
from virtbackupd.drivers.errors import InternalError, NoName, Origin, XmlError, XmlInvalidSchema

CheckpointMode = Literal["no", "bitmap"]


@dataclass(frozen=True, slots=True)
class CheckpointDisk:
    """`bitmap` is set for every disk in mode `bitmap` once the definition is aligned."""

    name: str
    checkpoint: CheckpointMode = "bitmap"
    bitmap: str | None = None


@dataclass(frozen=True, slots=True)
class CheckpointDefinition:
    """`disks` is None when the document had no `<disks>`: the default set is then meant."""

    name: str
    creation_time: int
    description: str | None = None
    parent: str | None = None
    disks: tuple[CheckpointDisk, ...] | None = None
    domain_xml: str | None = None
    """The domain at that time: canonical, inactive form, with its secrets."""

    @property
    def bitmap_disks(self) -> tuple[CheckpointDisk, ...]:
        return tuple(disk for disk in self.disks or () if disk.checkpoint == "bitmap")

    def find_disk(self, target: str) -> CheckpointDisk | None:
        return next((disk for disk in self.disks or () if disk.name == target), None)


def parse_checkpoint(xml: str, *, redefine: bool, now: int) -> CheckpointDefinition:
    """Read and check one document; `now` is the creation time of a new checkpoint, in seconds."""
    root = parse_document(
        xml, "domaincheckpoint", origin=Origin.DOMAIN_CHECKPOINT, schema=CHECKPOINT_SCHEMA
    )
    return _read_redefined(root) if redefine else _read_new(root, now)


def format_checkpoint(
    definition: CheckpointDefinition,
    *,
    domain_xml: str | None = None,
    secure: bool = False,
    sizes: Mapping[str, int] | None = None,
) -> str:
    """`domain_xml` is printed when given, stripped of its secrets unless `secure`."""
    pieces = ["<domaincheckpoint>\n", element_line(1, "name", definition.name)]
    if definition.description:
        pieces.append(element_line(1, "description", definition.description))
    if definition.parent:
        pieces += ["  <parent>\n", element_line(2, "name", definition.parent), "  </parent>\n"]
    if definition.creation_time:
        pieces.append(element_line(1, "creationTime", str(definition.creation_time)))
    if definition.disks:
        lines = (_disk_line(disk, sizes or {}) for disk in definition.disks)
        pieces += ["  <disks>\n", *lines, "  </disks>\n"]
    if domain_xml is not None:
        pieces.append(nested_domain(domain_xml, secure=secure))
    pieces.append("</domaincheckpoint>\n")
    return "".join(pieces)


def _read_new(root: etree._Element, now: int) -> CheckpointDefinition:
    return CheckpointDefinition(
        name=child_text(root, "name") or str(now),
        creation_time=now,
        description=child_text(root, "description"),
        disks=_read_disks(root),
    )


def _read_redefined(root: etree._Element) -> CheckpointDefinition:
    name = child_text(root, "name")
    if name is None:
        raise XmlError(
            "a checkpoint without a <name> cannot be redefined", origin=Origin.DOMAIN_CHECKPOINT
        )
    return CheckpointDefinition(
        name=name,
        creation_time=_creation_time(root, name),
        description=child_text(root, "description"),
        parent=child_text(root, "parent/name"),
        disks=_read_disks(root),
        domain_xml=_embedded_domain(root),
    )


def _creation_time(root: etree._Element, name: str) -> int:
    text = child_text(root, "creationTime")
    if text is None:
        raise InternalError(
            f"checkpoint {name!r} cannot be redefined without its <creationTime>",
            origin=Origin.DOMAIN_CHECKPOINT,
        )
    return number(text, "<creationTime>", origin=Origin.DOMAIN_CHECKPOINT)


def _embedded_domain(root: etree._Element) -> str | None:
    element = root.find("domain")
    if element is None:
        return None
    try:
        return read_domain(deepcopy(element)).to_xml(inactive=True)
    except (NoName, XmlError) as error:
        # libvirt's schema looks into the domain too.
        raise XmlInvalidSchema(
            f"the <domain> of the checkpoint: {error.message}", origin=Origin.XML
        ) from None


def _read_disks(root: etree._Element) -> tuple[CheckpointDisk, ...] | None:
    disks = root.find("disks")
    return None if disks is None else tuple(_read_disk(disk) for disk in disks.iterchildren("disk"))


def _read_disk(element: etree._Element) -> CheckpointDisk:
    return CheckpointDisk(
        name=element.get("name", ""),
        checkpoint="no" if element.get("checkpoint") == "no" else "bitmap",
        bitmap=element.get("bitmap"),
    )


def _disk_line(disk: CheckpointDisk, sizes: Mapping[str, int]) -> str:
    has_bitmap = disk.checkpoint == "bitmap"
    size = sizes.get(disk.name) if has_bitmap else None
    pairs = attributes(
        (
            ("name", disk.name),
            ("checkpoint", disk.checkpoint),
            ("bitmap", disk.bitmap if has_bitmap else None),
            ("size", None if size is None else str(size)),
        )
    )
    return f"    <disk{pairs}/>\n"
