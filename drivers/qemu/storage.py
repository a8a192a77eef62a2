"""The files and devices that a backup writes: created, given to QEMU, and taken away again.

A plain image is laid out here without QEMU, in one worker thread for all disks; QEMU is asked for
every other format. Only files created here are ever removed. Which disk is copied how is not known.
"""

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from virtbackupd.drivers.backup_rules import file_exists, require_present
from virtbackupd.drivers.errors import OperationFailed, SystemFailure
from virtbackupd.drivers.qcow2 import CLUSTER_SIZE, ImageFormatError, empty_image
from virtbackupd.drivers.qemu import block_jobs
from virtbackupd.drivers.qemu.block_nodes import Layer, Options
from virtbackupd.drivers.qemu.labels import Owner
from virtbackupd.drivers.steps import step

if TYPE_CHECKING:
    from virtbackupd.drivers.qemu.block_nodes import Json
    from virtbackupd.drivers.qemu.domain import QemuDomain

log = logging.getLogger(__name__)

_MEASURING_FAILED: Final = "accurate CPU usage"
_MEASURING_TRIES: Final = 10
_NAMES_BACKING: Final = {
    "qcow2": ("backing-file", "backing-fmt"),
    "qed": ("backing-file", "backing-fmt"),
    "qcow": ("backing-file",),
    "vmdk": ("backing-file",),
}
"""Formats that can stand on another image, and what of it they note."""


@dataclass(slots=True)
class Store:
    """A scratch image or target."""

    layer: Layer
    capacity: int
    reuse: bool = False
    """Whether somebody has prepared it: it is used as it is, and never removed."""
    backing: Layer | None = None
    """The image of the domain that it stands on, in QEMU."""
    names_backing: bool = False
    """Whether its header names that image too."""
    opens_backing: bool = True
    """Whether the node stands on it from the beginning."""
    cluster_size: int = 0
    extended_l2: bool = False
    secret: str | None = None
    """The alias of what it is encrypted with."""
    owner: Owner = field(default_factory=Owner)
    made: bool = False
    """Whether its file has been created here."""

    @property
    def path(self) -> str:
        return self.layer.image.path

    @property
    def format(self) -> str:
        return self.layer.image.format

    @property
    def is_file(self) -> bool:
        return self.layer.image.type == "file"

    @property
    def created(self) -> bool:
        """Whether the file is ours to remove."""
        return self.is_file and not self.reuse

    @property
    def written_here(self) -> bool:
        """Whether it can be laid out without QEMU."""
        plain = self.cluster_size in (0, CLUSTER_SIZE) and not self.extended_l2
        simple = self.format == "raw" or (self.format == "qcow2" and plain)
        return self.created and simple and self.secret is None


def check(stores: list[Store]) -> None:
    """Refuse what is in the way, or not there. Blocks."""
    for store in stores:
        if store.created:
            if os.path.lexists(store.path):
                raise file_exists(store.path)
        else:
            require_present(store.path)


def create(stores: list[Store]) -> None:
    """Create the files and set their owners. Blocks; what was created stays after a failure."""
    for store in stores:
        try:
            if store.created:
                _create(store)
            else:
                store.owner.apply(store.path)
        except FileExistsError:
            raise file_exists(store.path) from None
        except (OSError, ImageFormatError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SystemFailure(f"cannot create {store.path}: {reason}") from None


def remove_files(paths: list[str]) -> None:
    """Remove files that were created here; those that stay are logged. Blocks."""
    for path in paths:
        step(f"remove {Path(path).name}")
        try:
            Path(path).unlink(missing_ok=True)
        except OSError as error:
            log.error("%s is not needed any more, but stays: %s", path, error.strerror)


async def attach(domain: "QemuDomain", store: Store) -> None:
    """Give a store to QEMU; a new one is laid out first where that has not been done."""
    if store.reuse or store.written_here or (store.format == "raw" and store.secret is None):
        props = _format_props(store)
        props["file"] = _storage_props(store)
        await domain.monitor.execute("blockdev-add", props)
        return
    await domain.monitor.execute("blockdev-add", _storage_props(store))
    await _lay_out(domain, store)
    await domain.monitor.execute("blockdev-add", _format_props(store))


async def _lay_out(domain: "QemuDomain", store: Store) -> None:
    """QEMU measures the processor for LUKS, which fails now and then on a busy host: try again."""
    job, options = f"create-{store.layer.node}", _creation_options(store)
    for _ in range(_MEASURING_TRIES - 1):
        try:
            return await block_jobs.create_image(domain, job, options)
        except OperationFailed as error:
            if store.secret is None or _MEASURING_FAILED not in error.message:
                raise
    return await block_jobs.create_image(domain, job, options)


async def detach(domain: "QemuDomain", layers: list[Layer]) -> None:
    """Take stores away from QEMU, as far as it has them."""
    # The storage node goes with its format node, unless each was added by itself.
    nodes = [node for layer in layers for node in (layer.node, layer.storage)]
    await domain.monitor.execute_each("blockdev-del", [{"node-name": node} for node in nodes])


def _create(store: Store) -> None:
    descriptor = os.open(store.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    store.made = True
    try:
        step(f"create {Path(store.path).name}: empty")
        store.owner.apply_open(descriptor)
        if store.format == "raw" and store.secret is None:
            os.ftruncate(descriptor, store.capacity)
        elif store.written_here:
            _write_empty(descriptor, store)
    finally:
        os.close(descriptor)


def _write_empty(descriptor: int, store: Store) -> None:
    backing = store.backing.image if store.backing and store.names_backing else None
    below = (backing.path, backing.driver) if backing is not None else (None, None)
    for offset, data in empty_image(store.capacity, *below):
        os.pwrite(descriptor, data, offset)


def _storage_props(store: Store) -> "Json":
    return store.layer.storage_props(Options())


def _format_props(store: Store) -> "Json":
    backing = store.backing.node if store.backing and store.opens_backing else None
    props = store.layer.format_props(Options(), backing, read_only=False)
    if store.secret is None:
        return props
    if store.format == "raw":
        return props | {"driver": "luks", "key-secret": store.secret}
    return props | {"encrypt": {"format": "luks", "key-secret": store.secret}}


def _creation_options(store: Store) -> "Json":
    kind = "luks" if store.format == "raw" else store.format
    options: Json = {"driver": kind, "file": store.layer.storage, "size": store.capacity}
    if kind == "qcow2" and store.cluster_size:
        options["cluster-size"] = store.cluster_size
        if store.extended_l2:
            options["extended-l2"] = True
    if store.backing is not None and store.names_backing:
        image = store.backing.image
        values = (image.path, image.driver)
        options |= dict(zip(_NAMES_BACKING[kind], values, strict=False))
    if store.secret is not None:
        options |= _encryption(kind, store.secret)
    return options


def _encryption(kind: str, secret: str) -> "Json":
    if kind == "luks":
        return {"key-secret": secret}
    return {"encrypt": {"format": "luks", "key-secret": secret}}


def stands_on_others(format_: str) -> bool:
    """Whether images of a format can have a backing file."""
    return format_ in _NAMES_BACKING


async def forget_files(paths: list[str]) -> None:
    """As `remove_files`, in a worker thread."""
    if paths:
        await trio.to_thread.run_sync(remove_files, paths)
