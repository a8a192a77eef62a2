"""What a driver has counted and what it is at, for whoever watches the daemon.

Plain numbers, filled in where things happen and read now and then. Knows no format.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class RunningBackup(NamedTuple):
    """A backup that has not ended; sizes are in bytes."""

    mode: str
    """`push` or `pull`."""
    state: str
    """`running`, `cancelling`, or `failing` when a disk is lost already."""
    total: int
    processed: int
    """Of a push what is copied, of a pull the scratch space in use."""


@dataclass(slots=True)
class NbdFigures:
    """Of all NBD servers of a driver together; only the clients ever become fewer."""

    clients: int = 0
    """Connected now."""
    accepted: int = 0
    refused: int = 0
    """Turned away, because a server had as many as it takes."""
    requests: Counter[int] = field(default_factory=Counter)
    """Valid ones that read or map, by the number of the command."""
    bytes_read: int = 0


class DriverFigures(NamedTuple):
    """The numbers of one driver at one moment."""

    active: int = 0
    """Domains that run."""
    inactive: int = 0
    backups: Sequence[RunningBackup] = ()
    nbd: NbdFigures | None = None
    """None where the hypervisor serves NBD itself, or nobody does."""
