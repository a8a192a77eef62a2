"""Files that must survive: each write is atomic and on the disk before the call returns.

New text goes to a file of its own, which is flushed and then takes the old one's name; the folder
is flushed after it. Whoever crashes leaves the old text or the new one, and at worst a file with
the suffix `.new`, which nobody reads. What the texts mean is not known here.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import trio

from virtbackupd.drivers.errors import SystemFailure
from virtbackupd.drivers.steps import step

_NEW: Final = ".new"


class StoredFile(NamedTuple):
    """A file as it was found; `text` is None when it cannot be read."""

    path: Path
    text: str | None
    problem: str = ""


async def write(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Put `text` in place of what is there; SystemFailure names the file and the cause."""
    await trio.to_thread.run_sync(write_now, path, text, mode)


async def note(path: Path, text: str) -> None:
    """The same for what need only outlive this process, not the machine: nothing is flushed."""
    await trio.to_thread.run_sync(note_now, path, text)


async def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    await trio.to_thread.run_sync(remove_now, path)


async def move(old: Path, new: Path) -> None:
    """Give a file or a folder another name in place of what has that name."""
    await trio.to_thread.run_sync(move_now, old, new)


def write_now(path: Path, text: str, mode: int = 0o600) -> None:
    """As `write`, blocking."""
    write_pieces_now(path, (text.encode(),), mode)


def write_pieces_now(path: Path, pieces: Iterable[bytes], mode: int = 0o600) -> None:
    """The same for what is too large to be put together first."""
    new = path.with_name(path.name + _NEW)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_flushed(new, pieces, mode)
        step(f"write {path.name}: flushed")
        new.rename(path)
        step(f"write {path.name}: renamed")
        flush_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            new.unlink()
        raise SystemFailure(f"cannot write {path}: {error.strerror}") from None


def note_now(path: Path, text: str) -> None:
    """As `note`, blocking."""
    new = path.with_name(path.name + _NEW)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new.write_text(text)
        step(f"note {path.name}: written")
        new.rename(path)
        step(f"note {path.name}: renamed")
    except OSError as error:
        raise SystemFailure(f"cannot write {path}: {error.strerror}") from None


def remove_now(path: Path) -> None:
    """As `remove`, blocking."""
    try:
        step(f"remove {path.name}")
        path.unlink()
        step(f"remove {path.name}: removed")
        flush_folder(path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise SystemFailure(f"cannot remove {path}: {error.strerror}") from None


def move_now(old: Path, new: Path) -> None:
    """As `move`, blocking."""
    try:
        step(f"move {old.name}")
        old.rename(new)
        step(f"move {old.name}: moved")
        for folder in {old.parent, new.parent}:
            flush_folder(folder)
    except OSError as error:
        raise SystemFailure(f"cannot rename {old} to {new}: {error.strerror}") from None


def read_all(folder: Path, suffix: str = ".xml") -> Iterator[StoredFile]:
    """Every file with that suffix, by name; a folder that is not there is empty. Blocks."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.suffix == suffix and path.is_file():
            yield _read(path)


def flush_folder(folder: Path) -> None:
    """Make renames in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_flushed(path: Path, pieces: Iterable[bytes], mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
        file.writelines(pieces)
        file.flush()
        os.fsync(descriptor)


def _read(path: Path) -> StoredFile:
    try:
        return StoredFile(path, path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        return StoredFile(path, None, str(error))
