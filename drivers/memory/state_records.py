"""The state of a world as it is written into a file: what stands in its index.

Contents of clusters are numbers here, see `state_contents`; definitions are numbers of texts. The
structures say what types a file must have, and nothing about what makes sense.
"""

import msgspec

from virtbackupd.drivers.clock import ClockState
from virtbackupd.drivers.definitions.checkpoint import CheckpointDefinition
from virtbackupd.drivers.events import DomainRef
from virtbackupd.drivers.faults.rule_records import SavedRule
from virtbackupd.drivers.interface import JobStats
from virtbackupd.drivers.memory.guest import DiskCounters
from virtbackupd.drivers.memory.shown_host import ShownHost


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all of them have in common."""


class SavedTable(Record, frozen=True):
    """A number for each of some clusters: two lists of 64-bit numbers of equal length."""

    clusters: bytes
    numbers: bytes


class SavedChanges(SavedTable, frozen=True):
    """The epochs of the last changes of clusters, in the order of the changes."""

    exact_from: int | None = None
    """Since version 2 of the format: the first epoch of which the written bytes are known."""
    written: bytes = b""
    """Epoch, start and end of each range."""


class SavedBitmap(Record, frozen=True):
    name: str
    persistent: bool
    inconsistent: bool
    start: int | None
    extra: bytes


class SavedImage(Record, frozen=True):
    path: str
    format: str
    capacity: int
    backing: int | None
    """The number of an image before this one."""
    data_store: str | None
    table: int
    """Images with the same contents share a table."""
    epoch: int
    stamped: int | None
    """Which of the changes are its own; None when nothing is recorded."""
    bitmaps: list[SavedBitmap]
    shadows: list[SavedBitmap]
    """What is known of bitmaps whatever became of them."""


class SavedCheckpoint(Record, frozen=True):
    definition: CheckpointDefinition
    """Without the domain's XML."""
    domain: int | None


class SavedManagedSave(Record, frozen=True):
    definition: int
    paused: bool


class SavedReads(Record, frozen=True):
    count: int
    size: int
    """Of all of them, in bytes."""
    complete: bool
    starts: bytes
    ends: bytes
    """Two lists of 64-bit numbers of equal length."""
    since: str | None
    changed: bytes | None
    """The numbers of clusters."""


class SavedSurroundings(Record, frozen=True):
    clock: ClockState
    faults: list[SavedRule]


class SavedDomain(Record, frozen=True):
    ref: DomainRef
    persistent: int | None
    live: int | None
    state: int
    reason: int
    autostart: bool
    uptime: float
    saved: SavedManagedSave | None
    frozen: list[str]
    power_button: bool
    nodes_used: int
    media: dict[str, int | None]
    checkpoints: list[SavedCheckpoint]
    links: list[tuple[str, str | None]]
    current: str | None
    completed: JobStats | None
    counted: dict[str, DiskCounters]
    reads: dict[str, SavedReads] = {}
    """Since version 2 of the format."""


class SavedSecret(Record, frozen=True):
    xml: str
    value: bytes | None


class SavedWorld(Record, frozen=True):
    """The index of a file."""

    image_dir: str
    """Where images without a path of their own seemed to lie."""
    texts: list[str]
    domains: list[SavedDomain]
    last_id: int
    tables: list[SavedTable]
    changes: list[SavedChanges]
    images: list[SavedImage]
    registry: dict[str, int]
    secrets: list[SavedSecret]
    backup_rate: int
    shown: ShownHost
    blobs: bytes
    """The lengths of the clusters behind the index, 32 bits each, without their trailing zeroes."""
    surroundings: SavedSurroundings | None = None
    """Since version 2 of the format."""
