"""What a driver has counted and what it is at, for whoever watches the daemon.

Plain numbers, filled in where things happen and read now and then. Knows no format.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

COMMANDS: Final = 8
"""How many NBD knows; they are numbered from 0."""


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
    requests: list[int] = field(default_factory=lambda: [0] * COMMANDS)
    """Valid ones that read or map, by the number of the command; a list, for it is in the way of
    every read.
    """
    bytes_read: int = 0


class DriverFigures(NamedTuple):
    """The numbers of one driver at one moment."""

    active: int = 0
    """Domains that run."""
    inactive: int = 0
    backups: Sequence[RunningBackup] = ()
    nbd: NbdFigures | None = None
    """None where the hypervisor serves NBD itself, or nobody does."""
