"""Domains of a world that differ in a number: made from the first of them, at little cost each.

A copy shares with the first whatever does not change: the contents of disks until somebody writes,
and all of the definition but name, UUID and paths. Its XML is put together when somebody asks.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec

from virtbackupd.drivers.definitions.checkpoint import CheckpointDefinition
from virtbackupd.drivers.definitions.disk import DiskDefinition
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.definitions.writer import attributes, element_line
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.media import chain
from virtbackupd.drivers.memory.numbering import Numbered, numbered
from virtbackupd.drivers.memory.world_disks import DiskLoader, WorldDisk
from virtbackupd.drivers.memory.world_file import (
    BackingEntry,
    DataStoreEntry,
    DiskEntry,
    DomainEntry,
    KeyPath,
    WorldFile,
)

if TYPE_CHECKING:
    from virtbackupd.drivers.memory.world import WorldDomain

_UUID: Final = "@uuid@"
"""Stands for the UUID in the text that is left open."""


def numbered_entry(entry: DomainEntry, number: int) -> DomainEntry:
    """The entry of one domain of several."""
    return msgspec.structs.replace(
        entry,
        name=Numbered(entry.name).at(number),
        count=None,
        uuid=numbered(entry.uuid, number),
        xml=numbered(entry.xml, number),
        disks=[_numbered_disk(disk, number) for disk in entry.disks],
    )


def _numbered_disk(disk: DiskEntry, number: int) -> DiskEntry:
    store = disk.data_store
    return msgspec.structs.replace(
        disk,
        path=numbered(disk.path, number),
        backing=_numbered_backing(disk.backing, number),
        data_store=store and DataStoreEntry(numbered(store.path, number)),
    )


def _numbered_backing(entry: BackingEntry | None, number: int) -> BackingEntry | None:
    if entry is None:
        return None
    return msgspec.structs.replace(
        entry,
        path=numbered(entry.path, number),
        backing=_numbered_backing(entry.backing, number),
    )


def reads_files(entry: DomainEntry) -> bool:
    """Whether each domain may have to read files of its own, so that none is like another."""
    return entry.xml is not None or any(map(_reads_file, _layers(entry)))


def _reads_file(layer: DiskEntry | BackingEntry) -> bool:
    return layer.undescribed and layer.path is not None and Numbered(layer.path).changes


def _layers(entry: DomainEntry) -> Iterator[DiskEntry | BackingEntry]:
    for disk in entry.disks:
        yield disk
        below = disk.backing
        while below is not None:
            yield below
            below = below.backing


class Copier:
    """Makes the copies of one domain."""

    def __init__(
        self,
        file: WorldFile,
        disks: DiskLoader,
        entry: DomainEntry,
        first: "WorldDomain",
        where: KeyPath,
    ) -> None:
        self._file, self._disks, self._where = file, disks, where
        self._first = first
        self._name = Numbered(entry.name)
        paths = self._paths(entry)
        self._moving = {old: path for old, path in paths.items() if path.changes}
        self._states = {
            image.path: image.state()
            for disk in first.disks
            for image in chain(disk.image)
            if image.path in self._moving
        }
        self._text = Numbered(_template(first.definition, entry.name, paths))

    def name(self, number: int) -> str:
        return self._name.at(number)

    def copy(self, number: int, uuid: bytes) -> "WorldDomain":
        moved = {old: path.at(number) for old, path in self._moving.items()}
        made: dict[str, Image] = {}
        disks = tuple(self._disk(disk, moved, made) for disk in self._first.disks)
        for image in made.values():
            self._disks.share(image, self._where)
        text = partial(self._shown, number, str(UUID(bytes=uuid)))
        known = self._first.definition
        described = tuple(_moved_disk(disk, moved) for disk in known.disks)
        return self._first._replace(
            definition=known.copied(self.name(number), uuid, described, text),
            disks=disks,
            checkpoints=self._checkpoints(text),
        )

    def _shown(self, number: int, uuid: str) -> str:
        return self._text.at(number).replace(_UUID, uuid, 1)

    def _checkpoints(self, text: Callable[[], str]) -> tuple[CheckpointDefinition, ...]:
        if not self._first.checkpoints:
            return ()
        xml = text()
        return tuple(replace(known, domain_xml=xml) for known in self._first.checkpoints)

    def _disk(self, disk: WorldDisk, moved: dict[str, str], made: dict[str, Image]) -> WorldDisk:
        if disk.image is None or disk.path is None:
            return disk
        image = self._image(disk.image, moved, made)
        return WorldDisk(disk.target, image.path, image)

    def _image(self, known: Image, moved: dict[str, str], made: dict[str, Image]) -> Image:
        path = moved.get(known.path)
        if path is None:
            return known
        found = made.get(path)
        if found is None:
            found = made[path] = self._twin(known, path, moved, made)
        return found

    def _twin(
        self, known: Image, path: str, moved: dict[str, str], made: dict[str, Image]
    ) -> Image:
        below = None if known.backing is None else self._image(known.backing, moved, made)
        store = known.data_store
        if store is not None:
            store = moved.get(store, store)
            self._disks.claim_data_store(store, self._where)
        image = Image(
            known.capacity, path=path, format=known.format, backing=below, data_store=store
        )
        image.restore(self._states[known.path])
        return image

    def _paths(self, entry: DomainEntry) -> dict[str, Numbered]:
        """By the path in the first domain: that path for each of them."""
        texts: dict[str, str] = {}
        for text in self._disks.paths(entry):
            old = Numbered(text).at(1)
            if texts.setdefault(old, text) != text:
                self._file.fail(self._where, f"two disks name {old} in different ways")
        return {old: Numbered(text) for old, text in texts.items()}


def _template(definition: DomainDefinition, name: str, paths: dict[str, Numbered]) -> str:
    """The canonical XML of the first domain with what differs left open."""
    left_open = {
        element_line(1, "name", definition.name): element_line(1, "name", name),
        element_line(1, "uuid", definition.uuid_text): element_line(1, "uuid", _UUID),
    }
    left_open |= {_file_attribute(old): _file_attribute(path.text) for old, path in paths.items()}
    found = re.compile("|".join(map(re.escape, left_open)))
    return found.sub(lambda match: left_open[match[0]], definition.to_xml(inactive=True))


def _file_attribute(path: str) -> str:
    return attributes([("file", path)])


def _moved_disk(disk: DiskDefinition, moved: dict[str, str]) -> DiskDefinition:
    if disk.source is None or not (disk.source in moved or disk.backing):
        return disk
    backing = tuple(
        replace(layer, source=moved.get(layer.source, layer.source)) for layer in disk.backing
    )
    return replace(disk, source=moved.get(disk.source, disk.source), backing=backing)
