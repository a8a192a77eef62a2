"""Turns the state of a world into the records of a file.

Whoever calls may do so in a thread: a state does not change. Opens no file.
"""

from dataclasses import replace
from typing import NamedTuple

from virtbackupd.drivers.definitions.checkpoint import CheckpointDefinition
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.definitions.secret import format_secret
from virtbackupd.drivers.memory.bitmap import BitmapState
from virtbackupd.drivers.memory.clusters import Cluster
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.lifecycle import SavedState
from virtbackupd.drivers.memory.state_contents import ContentsWriter, packed
from virtbackupd.drivers.memory.state_records import (
    SavedBitmap,
    SavedCheckpoint,
    SavedDomain,
    SavedImage,
    SavedManagedSave,
    SavedSecret,
    SavedTable,
    SavedWorld,
)
from virtbackupd.drivers.memory.world_state import DomainRecord, ImageRecord, WorldState


class Written(NamedTuple):
    """What goes into a file."""

    world: SavedWorld
    stored: list[bytes]
    """Clusters without their trailing zeroes."""


def write_state(state: WorldState, image_dir: str) -> Written:
    """All records of a state."""
    return _StateWriter(state).written(image_dir)


class _StateWriter:
    def __init__(self, state: WorldState) -> None:
        self._state = state
        self._contents = ContentsWriter()
        self._texts: dict[str, int] = {}
        self._tables: list[SavedTable] = []
        self._table_numbers: dict[int, int] = {}
        self._change_tables: list[SavedTable] = []
        self._change_numbers: dict[int, int] = {}
        self._images = {id(record.image): n for n, record in enumerate(state.images)}

    def written(self, image_dir: str) -> Written:
        state = self._state
        images = [self._image(record) for record in state.images]
        domains = [self._domain(record) for record in state.domains]
        stored = [_trimmed(content) for content in self._contents.stored]
        world = SavedWorld(
            image_dir=image_dir,
            texts=list(self._texts),
            domains=domains,
            last_id=state.last_id,
            tables=self._tables,
            changes=self._change_tables,
            images=images,
            registry={
                path: self._images[id(image)] for path, image in state.registry.images.items()
            },
            secrets=[SavedSecret(format_secret(each[0]), each[1]) for each in state.secrets],
            backup_rate=state.backup_rate,
            shown=state.shown,
            blobs=packed(map(len, stored), "I"),
        )
        return Written(world, stored)

    def _image(self, record: ImageRecord) -> SavedImage:
        image, state = record
        below, bitmaps = image.backing, state.bitmaps
        return SavedImage(
            path=image.path,
            format=image.format,
            capacity=state.capacity,
            backing=None if below is None else self._images[id(below)],
            data_store=image.data_store,
            table=self._table(state.clusters),
            epoch=bitmaps.epoch,
            stamped=self._changes(bitmaps.stamps) if bitmaps.active else None,
            bitmaps=[_bitmap(each) for each in bitmaps.bitmaps],
            shadows=[_bitmap(each) for each in bitmaps.shadows],
        )

    def _table(self, clusters: dict[int, Cluster]) -> int:
        number = self._table_numbers.get(id(clusters))
        if number is None:
            number = self._table_numbers[id(clusters)] = len(self._tables)
            numbers = self._contents.numbers(clusters.values())
            self._tables.append(SavedTable(packed(clusters), packed(numbers)))
        return number

    def _changes(self, stamps: dict[int, int]) -> int:
        number = self._change_numbers.get(id(stamps))
        if number is None:
            number = self._change_numbers[id(stamps)] = len(self._change_tables)
            self._change_tables.append(SavedTable(packed(stamps), packed(stamps.values())))
        return number

    def _domain(self, record: DomainRecord) -> SavedDomain:
        tree = record.checkpoints
        return SavedDomain(
            ref=record.ref,
            persistent=self._definition(record.persistent),
            live=self._definition(record.live),
            state=record.state,
            reason=record.reason,
            autostart=record.autostart,
            uptime=record.uptime,
            saved=self._managed_save(record.saved),
            frozen=sorted(record.frozen),
            power_button=record.power_button,
            nodes_used=record.nodes_used,
            media={target: self._number(image) for target, image in record.media.items()},
            checkpoints=[self._checkpoint(value) for _, value in tree.values],
            links=list(tree.links),
            current=tree.current,
            completed=record.completed,
            counted=record.counted,
        )

    def _number(self, image: Image | None) -> int | None:
        return None if image is None else self._images[id(image)]

    def _definition(self, definition: DomainDefinition | None) -> int | None:
        return None if definition is None else self._text(definition.to_xml())

    def _managed_save(self, saved: SavedState | None) -> SavedManagedSave | None:
        if saved is None:
            return None
        return SavedManagedSave(self._text(saved.definition.to_xml()), saved.paused)

    def _checkpoint(self, definition: CheckpointDefinition) -> SavedCheckpoint:
        domain = definition.domain_xml
        number = None if domain is None else self._text(domain)
        return SavedCheckpoint(replace(definition, domain_xml=None), number)

    def _text(self, xml: str) -> int:
        return self._texts.setdefault(xml, len(self._texts))


def _bitmap(state: BitmapState) -> SavedBitmap:
    name, persistent, inconsistent, start, extra = state
    return SavedBitmap(name, persistent, inconsistent, start, packed(sorted(extra)))


def _trimmed(content: Cluster) -> bytes:
    return bytes(content).rstrip(b"\0")
