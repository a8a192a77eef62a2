"""The snapshot document: what a caller asked for, and what is printed back.

Only external snapshots of disks are described. Which disks are covered in the end is decided by
`aligned`, from the domain's disks.
"""

from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Literal

from lxml import etree

from virtbackupd.drivers.definitions.disk import DiskDefinition
from virtbackupd.drivers.definitions.document import parse_document
from virtbackupd.drivers.definitions.domain import DomainDefinition, nested_domain
from virtbackupd.drivers.definitions.schema import SNAPSHOT_SCHEMA
from virtbackupd.drivers.definitions.tree import child_text, number
from virtbackupd.drivers.definitions.writer import attributes, element_line
from virtbackupd.drivers.errors import ConfigUnsupported, Origin

SnapshotMode = Literal["no", "external"]
_SOURCE_ATTRIBUTE = {"file": "file", "block": "dev"}


@dataclass(frozen=True, slots=True)
class SnapshotDisk:
    """`source` is the new active image."""

    name: str
    snapshot: SnapshotMode = "external"
    type: str = "file"
    source: str | None = None


@dataclass(frozen=True, slots=True)
class SnapshotDefinition:
    """`disks` is None when the document had no `<disks>`: all disks are then meant."""

    name: str
    creation_time: int
    description: str | None = None
    parent: str | None = None
    disks: tuple[SnapshotDisk, ...] | None = None
    domain_xml: str | None = None

    @property
    def selected(self) -> tuple[SnapshotDisk, ...]:
        return tuple(disk for disk in self.disks or () if disk.snapshot == "external")


def parse_snapshot(xml: str, now: int) -> SnapshotDefinition:
    """Read and check one document; `now` is in seconds."""
    root = parse_document(xml, "domainsnapshot", origin=Origin.DOMAIN, schema=SNAPSHOT_SCHEMA)
    return SnapshotDefinition(
        name=child_text(root, "name") or str(now),
        creation_time=now,
        description=child_text(root, "description"),
        disks=_read_disks(root),
    )


def restore_snapshot(xml: str) -> SnapshotDefinition:
    """Read what `format_snapshot` made."""
    root = parse_document(xml, "domainsnapshot")
    domain = root.find("domain")
    return SnapshotDefinition(
        name=child_text(root, "name") or "",
        creation_time=number(child_text(root, "creationTime") or "0", "<creationTime>"),
        description=child_text(root, "description"),
        parent=child_text(root, "parent/name"),
        disks=_read_disks(root),
        domain_xml=None if domain is None else etree.tostring(domain, encoding="unicode"),
    )


def format_snapshot(definition: SnapshotDefinition, *, secure: bool = False) -> str:
    pieces = ["<domainsnapshot>\n", element_line(1, "name", definition.name)]
    if definition.description:
        pieces.append(element_line(1, "description", definition.description))
    pieces.append(element_line(1, "state", "disk-snapshot"))
    if definition.parent:
        pieces += ["  <parent>\n", element_line(2, "name", definition.parent), "  </parent>\n"]
    pieces.append(element_line(1, "creationTime", str(definition.creation_time)))
    pieces.append("  <memory snapshot='no'/>\n")
    lines = [_disk_text(disk) for disk in definition.disks or ()]
    pieces += ["  <disks>\n", *lines, "  </disks>\n"] if lines else []
    if definition.domain_xml is not None:
        pieces.append(nested_domain(definition.domain_xml, secure=secure))
    pieces.append("</domainsnapshot>\n")
    return "".join(pieces)


def aligned(
    definition: SnapshotDefinition, domain: DomainDefinition, *, generate: bool
) -> SnapshotDefinition:
    """One entry for each disk of the domain; `generate` allows to make up names of files."""
    listed: dict[str, SnapshotDisk] = {}
    for entry in definition.disks or ():
        disk = domain.find_disk(entry.name)
        if disk is None:
            raise ConfigUnsupported(f"domain {domain.name!r} has no single disk {entry.name!r}")
        if disk.target in listed:
            raise ConfigUnsupported(f"disk {disk.target!r} is listed twice")
        listed[disk.target] = replace(entry, name=disk.target)
    disks = tuple(listed.get(disk.target) or _unlisted(disk) for disk in domain.disks)
    pairs = zip(disks, domain.disks, strict=True)
    named = tuple(_named(entry, disk, definition.name, generate) for entry, disk in pairs)
    return replace(definition, disks=named)


def _unlisted(disk: DiskDefinition) -> SnapshotDisk:
    mode: SnapshotMode = "no" if disk.empty or disk.read_only else "external"
    return SnapshotDisk(disk.target, mode)


def _named(
    entry: SnapshotDisk,
    disk: DiskDefinition,
    name: str,
    generate: bool,
) -> SnapshotDisk:
    if entry.snapshot == "no" or entry.source is not None:
        return entry
    if disk.source_type != "file" or disk.local_path is None or not generate:
        raise ConfigUnsupported(
            f"no file name can be made up for the snapshot of disk {disk.target!r}: name a source"
        )
    path = PurePosixPath(disk.local_path)
    return replace(entry, source=str(path.with_name(f"{path.stem}.{name}")))


def _read_disks(root: etree._Element) -> tuple[SnapshotDisk, ...] | None:
    disks = root.find("disks")
    return None if disks is None else tuple(_read_disk(disk) for disk in disks.iterchildren("disk"))


def _read_disk(element: etree._Element) -> SnapshotDisk:
    kind = element.get("type", "file")
    source = element.find("source")
    return SnapshotDisk(
        name=element.get("name", ""),
        snapshot="no" if element.get("snapshot") == "no" else "external",
        type=kind,
        source=None if source is None else source.get(_SOURCE_ATTRIBUTE[kind]),
    )


def _disk_text(disk: SnapshotDisk) -> str:
    start = f"    <disk{attributes((('name', disk.name), ('snapshot', disk.snapshot)))}"
    if disk.snapshot == "no":
        return f"{start}/>\n"
    source = attributes(((_SOURCE_ATTRIBUTE[disk.type], disk.source),))
    return (
        f"{start}{attributes((('type', disk.type),))}>\n      <driver type='qcow2'/>\n"
        f"      <source{source}/>\n    </disk>\n"
    )
