"""The checkpoints of a world's domain: entries to definitions, and their bitmaps into the images.

Knows one domain at a time; what is wrong is said by the file with its line.
"""

import re
from collections.abc import Container, Mapping
from dataclasses import replace
from typing import Final

from virtbackupd.drivers.definitions.alignment import align_redefined
from virtbackupd.drivers.definitions.checkpoint import CheckpointDefinition, parse_checkpoint
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.memory import world_xml
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.world_disks import DiskLoader
from virtbackupd.drivers.memory.world_file import CheckpointEntry, DomainEntry, KeyPath, WorldFile

FIRST_CREATION: Final = 1_700_000_000
"""When a domain's first checkpoint was made unless it says so; each later one a minute after."""
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")


class CheckpointLoader:
    """Makes the checkpoints of one domain."""

    def __init__(
        self,
        file: WorldFile,
        disks: DiskLoader,
        definition: DomainDefinition,
        images: Mapping[str, Image],
    ) -> None:
        self._file = file
        self._disks = disks
        self._definition = definition
        self._images = images
        """By target, those of drives with a medium."""
        self._made: list[CheckpointDefinition] = []

    def load(self, entry: DomainEntry, where: KeyPath) -> tuple[CheckpointDefinition, ...]:
        """All checkpoints, parents before their children."""
        for index, checkpoint in enumerate(entry.checkpoints):
            here = (*where, "checkpoints", index)
            parent = self._parent(checkpoint, here)
            if checkpoint.xml is not None:
                self._made.append(self._given(checkpoint, checkpoint.xml, parent, here))
                continue
            covered = self._covered(checkpoint, here)
            self._record(checkpoint, dict.fromkeys(covered, checkpoint.name), here)
            created = checkpoint.created or FIRST_CREATION + 60 * index
            domain = self._definition.to_xml(inactive=True)
            xml = world_xml.checkpoint_xml(checkpoint, parent, created, covered, domain)
            read = parse_checkpoint(xml, redefine=True, now=0)
            self._made.append(align_redefined(read, self._definition.uuid))
        return tuple(self._made)

    def _given(
        self, entry: CheckpointEntry, xml: str, parent: str | None, where: KeyPath
    ) -> CheckpointDefinition:
        """A checkpoint that brings its own document."""
        for key in ("description", "created", "disks"):
            if getattr(entry, key) is not None:
                self._file.fail((*where, key), "the checkpoint's XML says this, leave the key out")
        try:
            read = parse_checkpoint(xml, redefine=True, now=0)
            definition = align_redefined(read, self._definition.uuid)
        except DriverError as error:
            self._file.fail((*where, "xml"), error.message)
        if definition.name != entry.name:
            self._file.fail((*where, "name"), f"the checkpoint's XML names it {definition.name!r}")
        bitmaps = {disk.name: disk.bitmap or definition.name for disk in definition.bitmap_disks}
        self._check_bitmaps(entry, bitmaps, where)
        able = {target: name for target, name in bitmaps.items() if target in self._images}
        self._record(entry, able, where)
        return replace(definition, parent=parent)

    def _parent(self, entry: CheckpointEntry, where: KeyPath) -> str | None:
        names = [checkpoint.name for checkpoint in self._made]
        if not _NAME.fullmatch(entry.name):
            self._file.fail(
                (*where, "name"),
                f"{entry.name!r} cannot name a checkpoint: allowed are ASCII letters, digits, "
                "'_', '-' and '.', the first not a '.'",
            )
        if entry.name in names:
            self._file.fail((*where, "name"), f"there are two checkpoints {entry.name!r}")
        if entry.parent is None:
            return names[-1] if names else None
        if entry.parent not in names:
            self._file.fail((*where, "parent"), f"no earlier checkpoint is named {entry.parent!r}")
        return entry.parent

    def _covered(self, entry: CheckpointEntry, where: KeyPath) -> list[str]:
        """The targets that the checkpoint records: those named, or all that can have bitmaps."""
        able = [
            disk.target
            for disk in self._definition.disks
            if not disk.read_only and disk.format == "qcow2" and disk.target in self._images
        ]
        for target in entry.disks or ():
            if target not in able:
                self._file.fail((*where, "disks"), f"disk {target!r} cannot hold bitmaps")
        chosen = able if entry.disks is None else entry.disks
        if not chosen:
            self._file.fail(where, "no disk of the domain can hold bitmaps: one in qcow2 is needed")
        self._check_bitmaps(entry, chosen, where)
        return chosen

    def _check_bitmaps(
        self, entry: CheckpointEntry, chosen: Container[str], where: KeyPath
    ) -> None:
        for target in entry.bitmaps:
            if target not in chosen:
                self._file.fail(
                    (*where, "bitmaps", target), f"the checkpoint has no bitmap of disk {target!r}"
                )

    def _record(self, entry: CheckpointEntry, covered: Mapping[str, str], where: KeyPath) -> None:
        """`covered` names the bitmap of each target."""
        for target, name in covered.items():
            self._add_bitmap(entry, target, name)
        for index, write in enumerate(entry.written):
            here = (*where, "written", index)
            image = self._images.get(write.disk)
            if image is None:
                self._file.fail((*here, "disk"), f"the domain has no disk {write.disk!r} to write")
            offset, length = self._disks.byte_range(image, write.offset, write.length, here)
            image.fill(offset, length, self._disks.byte(write.byte, (*here, "byte")))

    def _add_bitmap(self, entry: CheckpointEntry, target: str, name: str) -> None:
        kind, bitmaps = entry.bitmaps.get(target, "valid"), self._images[target].bitmaps
        bitmaps.add(name)
        if kind == "missing":
            bitmaps.lose(name)
        if kind == "inconsistent":
            bitmaps.mark_inconsistent(name)
