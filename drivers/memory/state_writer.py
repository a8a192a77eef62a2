"""Turns the state of a world into the records of a file.

Whoever calls may do so in a thread: a state does not change. Opens no file.
"""

from dataclasses import replace
from itertools import chain
from typing import NamedTuple

from virtbackupd.drivers.definitions.checkpoint import CheckpointDefinition
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.definitions.secret import format_secret
from virtbackupd.drivers.faults.rule_records import record as saved_rule
from virtbackupd.drivers.memory.bitmap import BitmapsState, BitmapState
from virtbackupd.drivers.memory.clusters import Cluster
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.lifecycle import SavedState
from virtbackupd.drivers.memory.nbd_record import ReadsState
from virtbackupd.drivers.memory.state_contents import ContentsWriter, packed
from virtbackupd.drivers.memory.state_records import (
    SavedBitmap,
    SavedChanges,
    SavedCheckpoint,
    SavedDomain,
    SavedImage,
    SavedManagedSave,
    SavedReads,
    SavedSecret,
    SavedSurroundings,
    SavedTable,
    SavedWorld,
)
from virtbackupd.drivers.memory.surroundings import Surroundings
from virtbackupd.drivers.memory.world_state import DomainRecord, ImageRecord, WorldState
from virtbackupd.drivers.memory.written import WrittenState


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
        self._change_tables: list[SavedChanges] = []
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
            surroundings=_surroundings(state.surroundings),
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
            stamped=self._changes(bitmaps) if bitmaps.active else None,
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

    def _changes(self, known: BitmapsState) -> int:
        stamps = known.stamps
        number = self._change_numbers.get(id(stamps))
        if number is None:
            number = self._change_numbers[id(stamps)] = len(self._change_tables)
            self._change_tables.append(_saved_changes(stamps, known.written))
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
            reads={target: _reads(state) for target, state in record.reads.items()},
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


def _saved_changes(stamps: dict[int, int], written: WrittenState) -> SavedChanges:
    ranges = ((number, *each) for number, found in written.epochs for each in found)
    return SavedChanges(
        packed(stamps),
        packed(stamps.values()),
        written.exact_from,
        packed(chain.from_iterable(ranges)),
    )


def _bitmap(state: BitmapState) -> SavedBitmap:
    name, persistent, inconsistent, start, extra = state
    return SavedBitmap(name, persistent, inconsistent, start, packed(sorted(extra)))


def _reads(state: ReadsState) -> SavedReads:
    starts, ends = (packed(each[side] for each in state.merged) for side in (0, 1))
    changed = None if state.changed is None else packed(state.changed.clusters)
    return SavedReads(state.count, state.size, state.complete, starts, ends, state.since, changed)


def _surroundings(state: Surroundings | None) -> SavedSurroundings | None:
    if state is None:
        return None
    return SavedSurroundings(state.clock, [saved_rule(rule) for rule in state.faults])


def _trimmed(content: Cluster) -> bytes:
    return bytes(content).rstrip(b"\0")
