"""What an NBD server offers: exports with their metadata contexts, and the bounds of a connection.

No bytes of the protocol and no sockets.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import msgspec

from virtbackupd.drivers.memory.bitmap import DirtyMap
from virtbackupd.drivers.memory.clusters import View
from virtbackupd.drivers.memory.nbd_protocol import DIRTY, HOLE, ZERO

ALLOCATION = "base:allocation"
BITMAP_NAMESPACE = "qemu:dirty-bitmap:"

Status: TypeAlias = Callable[[int, int], Iterator[tuple[int, int]]]
"""From (offset, length) to the extents (length, flags) of one context."""


class NbdExport(msgspec.Struct, frozen=True, eq=False):
    """One disk to be read, with the dirty bitmaps a client may ask for by name."""

    name: str
    view: View
    bitmaps: Mapping[str, DirtyMap] = msgspec.field(default_factory=dict)
    description: str = ""

    def contexts(self) -> dict[str, Status]:
        """Every metadata context by its full name."""
        contexts: dict[str, Status] = {ALLOCATION: self._allocation}
        for name, dirty_map in self.bitmaps.items():
            contexts[BITMAP_NAMESPACE + name] = _dirty_status(dirty_map)
        return contexts

    def _allocation(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        for extent in self.view.extents(offset, length):
            yield extent.length, (0 if extent.allocated else HOLE) | (ZERO if extent.zero else 0)


Observer: TypeAlias = Callable[[NbdExport, int, int, int], None]
"""Told of each valid request that reads or maps: export, number of the command, offset, length."""


class NbdLimits(msgspec.Struct, frozen=True):
    """How much one server takes from its clients."""

    connections: int = 100
    """Clients served at once; one more is turned away."""
    negotiation_seconds: float = 10
    """Time a client has to choose an export."""
    option_bytes: int = 65536
    """The longest data of one option."""
    options: int = 1000
    """Options one client may send before it must choose."""
    extents: int = 16384
    """Extents per context in one reply; the client asks again for the rest."""


def _dirty_status(dirty_map: DirtyMap) -> Status:
    def status(offset: int, length: int) -> Iterator[tuple[int, int]]:
        for size, dirty in dirty_map.extents(offset, length):
            yield size, DIRTY if dirty else 0

    return status
