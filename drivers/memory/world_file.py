"""World files: TOML text to typed entries, with file, line and key in every complaint.

The entries say what was written, nothing more; whether paths clash or checkpoints make sense is for
`world` to find out, with the complaint made here. The format is described in docs/world.md.
"""

from pathlib import Path
from typing import Literal

import msgspec

from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.toml_file import KeyPath, TomlFile, find_line, read_text


class WorldError(DriverError):
    """A world file cannot be used; the message is one line: FILE:LINE: KEY: what is wrong."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every table of the file has in common: no unknown key is passed over."""


class RangeEntry(Entry, frozen=True):
    """A stretch of a disk that holds one byte value or a pattern."""

    offset: str | int
    length: str | int
    byte: int | None = None
    seed: int | None = None


class BackingEntry(Entry, frozen=True):
    """The image below a disk's own."""

    path: str | None = None
    size: str | int | None = None
    format: Literal["qcow2", "raw"] = "qcow2"
    seed: int | None = None
    written: list[RangeEntry] = []
    backing: "BackingEntry | None" = None

    @property
    def undescribed(self) -> bool:
        """Whether nothing is said about size and contents."""
        return (self.size, self.seed, self.backing, self.written) == (None, None, None, [])


class DataStoreEntry(Entry, frozen=True):
    """The raw file that holds the data of a qcow2 image."""

    path: str | None = None


class DiskEntry(Entry, frozen=True):
    """One disk; without path and size a CD-ROM or floppy drive is empty."""

    target: str
    path: str | None = None
    size: str | int | None = None
    format: Literal["qcow2", "raw"] = "qcow2"
    device: Literal["disk", "cdrom", "floppy"] = "disk"
    bus: str | None = None
    read_only: bool = False
    seed: int | None = None
    written: list[RangeEntry] = []
    backing: BackingEntry | None = None
    data_store: DataStoreEntry | None = None

    @property
    def undescribed(self) -> bool:
        """Whether nothing is said about size and contents."""
        said = (self.size, self.seed, self.backing, self.data_store, self.written)
        return said == (None, None, None, None, [])


class WriteEntry(Entry, frozen=True):
    """What the guest wrote after a checkpoint."""

    disk: str
    offset: str | int
    length: str | int
    byte: int


class CheckpointEntry(Entry, frozen=True):
    """One checkpoint; the parent is the one before it unless named."""

    name: str
    parent: str | None = None
    description: str | None = None
    created: int | None = None
    disks: list[str] | None = None
    bitmaps: dict[str, Literal["valid", "missing", "inconsistent"]] = {}
    """By target; valid unless listed."""
    written: list[WriteEntry] = []
    xml: str | None = None
    """The whole document, in place of one that is made from the other keys."""


class DomainEntry(Entry, frozen=True):
    """One domain, or `count` of them that differ in a number.

    `xml` is the whole definition, otherwise one is made from the other keys.
    """

    name: str
    count: int | None = None
    uuid: str | None = None
    state: Literal["running", "paused", "shutoff"] = "running"
    autostart: bool = False
    memory: str | int | None = None
    vcpus: int | None = None
    agent: bool | None = None
    xml: str | None = None
    live_xml: str | None = None
    """What runs, where that is not what would be started."""
    persistent: bool = True
    disks: list[DiskEntry] = []
    checkpoints: list[CheckpointEntry] = []


class BackupEntry(Entry, frozen=True):
    """How backups behave."""

    rate: str | int = 0


class HostEntry(Entry, frozen=True):
    """What is shown of the host; that of the machine below where nothing is said."""

    hostname: str | None = None
    libvirt: str | None = None
    hypervisor: str | None = None
    capabilities: str | None = None
    domain_capabilities: list[str] = []


class SecretEntry(Entry, frozen=True):
    """The definition of a secret; its value is in no world file."""

    xml: str


class WorldEntry(Entry, frozen=True):
    """The whole file."""

    host: HostEntry = HostEntry()
    secrets: list[SecretEntry] = []
    seed: int | None = None
    domains: list[DomainEntry] = []
    backup: BackupEntry = BackupEntry()


class WorldFile(TomlFile[WorldEntry]):
    """The text of a world with its entries, and complaints about them."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name, text, WorldEntry, WorldError)


def read_world_file(path: Path) -> WorldFile:
    """Read and check a file; WorldError when that fails."""
    return WorldFile(str(path), read_text(path, "world file", WorldError))


__all__ = [
    "BackingEntry",
    "BackupEntry",
    "CheckpointEntry",
    "DataStoreEntry",
    "DiskEntry",
    "DomainEntry",
    "HostEntry",
    "KeyPath",
    "RangeEntry",
    "SecretEntry",
    "WorldEntry",
    "WorldError",
    "WorldFile",
    "WriteEntry",
    "find_line",
    "read_world_file",
]
