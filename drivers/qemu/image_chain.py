"""The images below a disk: what the definition says of them, or else their own headers. Blocks.

Only local files and devices are followed. A backing file that is reached in another way is left to
QEMU, which opens it by the name in the header. Nothing is opened for writing.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from virtbackupd.drivers.definitions.disk import BackingStore, DiskDefinition
from virtbackupd.drivers.definitions.secret import SecretName
from virtbackupd.drivers.errors import ConfigUnsupported, InternalError, Origin, SystemFailure
from virtbackupd.drivers.qcow2 import MAGIC, find_backing

MAX_CHAIN: Final = 200
_HEADER: Final = 65536
_TYPES: Final = ("file", "block")


class Image(NamedTuple):
    """One layer of a chain."""

    type: str
    path: str
    format: str
    implicit_backing: bool = False
    """Whether QEMU is to find by itself what is below."""
    secret: SecretName | None = None
    """What opens it, if it is encrypted."""

    @property
    def driver(self) -> str:
        """QEMU's name of the format: a raw image that is encrypted has one of its own."""
        return "luks" if self.format == "raw" and self.secret is not None else self.format


def read_chain(disk: DiskDefinition) -> list[Image]:
    """The images of a disk from the active one down; empty for an empty drive."""
    if disk.source is None:
        return []
    if disk.source_type not in _TYPES:
        raise ConfigUnsupported(
            f"disk {disk.target!r} has a source of type {disk.source_type!r}: only 'file' and"
            " 'block' are supported"
        )
    top = Image(disk.source_type, disk.source, disk.format, secret=disk.secret)
    explicit = disk.backing or disk.chain_is_closed
    chain = [top, *map(_image, disk.backing)] if explicit else list(_probed(disk.target, top))
    for image in chain:
        _require_present(image.path)
    return chain


def _image(store: BackingStore) -> Image:
    return Image(store.source_type, store.source, store.format, secret=store.secret)


def _probed(target: str, image: Image) -> Iterator[Image]:
    seen: set[str] = set()
    while True:
        if image.path in seen or len(seen) >= MAX_CHAIN:
            raise InternalError(f"the backing chain of disk {target!r} is a ring or too long")
        seen.add(image.path)
        below = _below(target, image)
        yield image._replace(implicit_backing=isinstance(below, str))
        if not isinstance(below, Image):
            return
        image = below


def _below(target: str, image: Image) -> Image | str | None:
    """The next image; the bare name of one that is not local; None at the end."""
    found = find_backing(_read_header(image.path)) if image.format == "qcow2" else None
    if found is None:
        return None
    name, format_ = found
    if name.startswith("json:") or "://" in name:
        return name
    path = str(Path(image.path).parent / name.removeprefix("file:"))
    kind = "block" if Path(path).is_block_device() else "file"
    return Image(kind, path, format_ or _guessed_raw(target, image.path, path))


def _guessed_raw(target: str, overlay: str, path: str) -> str:
    """A backing file of unknown format is taken when its contents can mean nothing but raw."""
    if _read_header(path).startswith(MAGIC):
        raise ConfigUnsupported(
            f"image {overlay} of disk {target!r} does not say what format its backing file {path}"
            " has: add it with qemu-img rebase -u -F"
        )
    return "raw"


def _require_present(path: str) -> None:
    """What is there but may not be opened is for QEMU to find, which may run as somebody else."""
    try:
        os.stat(path)  # noqa: PTH116 - its result is not wanted
    except OSError as error:
        raise _cannot_open(path, error) from None


def _cannot_open(path: str, error: OSError) -> SystemFailure:
    return SystemFailure(f"cannot open the image {path}: {error.strerror}", origin=Origin.SECURITY)


def _read_header(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, _HEADER)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _cannot_open(path, error) from None
