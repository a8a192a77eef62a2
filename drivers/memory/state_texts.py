"""Definitions of domains from the texts of a file, where thousands differ in a few words.

The first of a kind is parsed; another that differs in its name, its UUID and the files of its disks
alone is made from it. Whatever is not plainly so is parsed too. Knows no image and no file.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple
from uuid import UUID

from lxml import etree

from virtbackupd.drivers.definitions.disk import DiskDefinition
from virtbackupd.drivers.definitions.domain import DomainDefinition

_VARIABLE: Final = re.compile(
    r"^  <name>(?P<name>[\w-][\w.-]*)</name>$"
    r"|^  <uuid>(?P<uuid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})</uuid>$"
    # Characters that stand for themselves in an attribute, however it is written.
    r"| file='(?P<file>[\w/.:+@-]+)'",
    re.ASCII | re.MULTILINE,
)
_FILE: Final = "file"
_OPEN: Final = "\0"
"""Stands for each of them in a shape; it is in no text that can be parsed."""


class _Parts(NamedTuple):
    """A text taken apart."""

    shape: str
    """What is left; the same for all of a kind."""
    names: list[str]
    uuids: list[str]
    files: list[str]


class _Kind(NamedTuple):
    """The first of its kind."""

    definition: DomainDefinition
    files: list[str]


class TextReader:
    """Reads one text after the other."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind | None] = {}
        """By shape; None for one that nothing can be made from."""

    def read(self, text: str) -> DomainDefinition:
        """The same as `DomainDefinition.parse`, with its text only in place of a tree."""
        if _OPEN in text:
            return DomainDefinition.parse(text)
        parts = _parts(text)
        kind = self._kinds.get(parts.shape)
        if kind is not None and (moved := _moves(kind.files, parts.files)) is not None:
            return _like(kind.definition, parts, moved, text)
        definition = _without_tree(read := DomainDefinition.parse(text))
        if parts.shape not in self._kinds:
            self._kinds[parts.shape] = _kind(read, definition, parts, text)
        return definition


def _parts(text: str) -> _Parts:
    found: dict[str, list[str]] = {"name": [], "uuid": [], _FILE: []}
    pieces, end = [], 0
    for match in _VARIABLE.finditer(text):
        group = match.lastgroup or ""
        found[group].append(match[group])
        pieces.append(text[end : match.start(group)])
        end = match.end(group)
    pieces.append(text[end:])
    return _Parts(_OPEN.join(pieces), *found.values())


def _kind(
    read: DomainDefinition, definition: DomainDefinition, parts: _Parts, text: str
) -> _Kind | None:
    """None unless each of the words is what it seems to be, and the text what a writer makes."""
    seen = (parts.names, parts.uuids, parts.files)
    meant = ([read.name], [read.uuid_text], list(read.view(_files)))
    return _Kind(definition, parts.files) if seen == meant and read.to_xml() == text else None


def _files(root: etree._Element) -> Iterator[str]:
    return filter(None, (element.get(_FILE) for element in root.iter()))


def _moves(old: Sequence[str], new: Sequence[str]) -> dict[str, str] | None:
    """What each file became; None when one became two."""
    moved = dict(zip(old, new, strict=True))
    return moved if [moved[path] for path in old] == new else None


def _like(
    known: DomainDefinition, parts: _Parts, moved: dict[str, str], text: str
) -> DomainDefinition:
    disks = tuple(_moved(disk, moved) for disk in known.disks)
    return known.copied(parts.names[0], UUID(parts.uuids[0]).bytes, disks, text.__str__)


def _moved(disk: DiskDefinition, moved: dict[str, str]) -> DiskDefinition:
    if disk.source_type != _FILE and not disk.backing:
        return disk
    backing = tuple(
        replace(layer, source=moved.get(layer.source, layer.source))
        if layer.source_type == _FILE
        else layer
        for layer in disk.backing
    )
    source = disk.source
    if source is not None and disk.source_type == _FILE:
        source = moved.get(source, source)
    return replace(disk, source=source, backing=backing)


def _without_tree(read: DomainDefinition) -> DomainDefinition:
    """The same with its text only, of which thousands take a tenth of the memory."""
    return read.copied(read.name, read.uuid, read.disks, read.to_xml().__str__)
