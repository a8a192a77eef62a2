"""What is on disk of a domain's checkpoints: one document each, and what was about to be done.

A new checkpoint is first put down as pending, so that a daemon that is killed between making the
bitmaps and telling the world can take them back. A deletion is put down before the first bitmap
goes, so that it can be completed. Neither mark need survive a power failure, because bitmaps made
since then do not either; documents are flushed. Bitmaps are not known here.
"""

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from virtbackupd.drivers import store
from virtbackupd.drivers.checkpoint_tree import Entry
from virtbackupd.drivers.definitions.checkpoint import (
    CheckpointDefinition,
    format_checkpoint,
    parse_checkpoint,
)
from virtbackupd.drivers.errors import DriverError, SystemFailure
from virtbackupd.drivers.steps import step

if TYPE_CHECKING:
    from virtbackupd.drivers.qemu.domain import QemuDomain

log = logging.getLogger(__name__)

# A checkpoint's name never begins with a dot.
_PENDING: Final = ".pending"
_DELETING: Final = ".deleting"
_WARNING: Final = "<!-- Written by virtbackupd. Change it with virsh checkpoint-create. -->\n"


class CheckpointFiles:
    """The files of one domain, whatever its name is at the moment."""

    def __init__(self, domain: "QemuDomain") -> None:
        self._domain = domain

    @property
    def folder(self) -> Path:
        return self._domain.host.settings.checkpoints(self._domain.ref.name)

    async def stage(self, definition: CheckpointDefinition) -> None:
        """Put a new checkpoint down as pending."""
        await store.note(self.folder / _PENDING, _text(definition))

    async def flush_pending(self) -> None:
        """Make the pending document last, so that `confirm` only has to rename it."""
        await trio.to_thread.run_sync(_flush, self.folder / _PENDING)

    async def confirm(self, name: str) -> None:
        """Make the pending checkpoint a real one; returns when that is on the disk."""
        await store.move(self.folder / _PENDING, self._path(name))

    async def drop_pending(self) -> None:
        await trio.to_thread.run_sync(_unlink, [self.folder / _PENDING])

    async def drop_deleting(self) -> None:
        await trio.to_thread.run_sync(_unlink, [self.folder / _DELETING])

    async def has_marks(self) -> bool:
        """Whether something was begun and neither completed nor undone."""
        marks = (self.folder / _PENDING, self.folder / _DELETING)
        return await trio.to_thread.run_sync(lambda: any(mark.exists() for mark in marks))

    async def drop_marks(self) -> None:
        if await self.has_marks():
            await self.drop_pending()
            await self.drop_deleting()

    async def write(self, name: str) -> None:
        """Write a checkpoint of the tree, with its parent of now."""
        tree = self._domain.checkpoints
        definition = replace(tree.get(name), parent=tree.parent(name))
        await store.write(self._path(name), _text(definition))

    async def mark_deleting(self, names: list[str]) -> None:
        await store.note(self.folder / _DELETING, "\n".join(names))

    async def remove(self, names: list[str]) -> None:
        """Remove the documents of deleted checkpoints; the mark stays."""
        await trio.to_thread.run_sync(_unlink, [self._path(name) for name in names])

    def load(self) -> None:
        """Fill the domain's tree. Blocks. What cannot be read is logged and passed over."""
        for orphan in self._domain.checkpoints.load(self._entries()):
            log.warning(
                "checkpoint %s of domain %s has lost its parent", orphan, self._domain.ref.name
            )

    def pending(self) -> CheckpointDefinition | None:
        """The checkpoint whose making was interrupted, if any. Blocks."""
        text = _read(self.folder / _PENDING)
        return None if text is None else self._parsed(self.folder / _PENDING, text)

    def deleting(self) -> list[str]:
        """The checkpoints whose deletion was interrupted. Blocks."""
        return (_read(self.folder / _DELETING) or "").splitlines()

    def _entries(self) -> Iterator[Entry[CheckpointDefinition]]:
        for path, text, problem in store.read_all(self.folder):
            if text is None:
                log.error("cannot read the checkpoint in %s: %s", path, problem)
                continue
            definition = self._parsed(path, text)
            if definition is not None:
                yield Entry(definition.name, definition.parent, definition)

    def _parsed(self, path: Path, text: str) -> CheckpointDefinition | None:
        try:
            return parse_checkpoint(text, redefine=True, now=0)
        except DriverError as error:
            log.error("passing over the checkpoint in %s: %s", path, error.message)
            return None

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.xml"


def _text(definition: CheckpointDefinition) -> str:
    text = format_checkpoint(definition, domain_xml=definition.domain_xml, secure=True)
    return _WARNING + text


def _flush(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SystemFailure(f"cannot write {path}: {error.strerror}") from None


def _unlink(paths: list[Path]) -> None:
    for path in paths:
        try:
            step(f"remove {path.name}")
            path.unlink(missing_ok=True)
        except OSError as error:
            log.error("cannot remove %s: %s", path, error.strerror)
    if paths and paths[0].parent.is_dir():
        store.flush_folder(paths[0].parent)


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None
