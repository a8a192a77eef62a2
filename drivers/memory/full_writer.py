"""A file on a device without enough room: it takes so many bytes and then no more.

Blocking like every writer. Only faults make use of it.
"""

import errno
import os
from typing import TYPE_CHECKING

from virtbackupd.drivers.memory.clusters import CLUSTER
from virtbackupd.drivers.memory.writers import Batch, Writer

if TYPE_CHECKING:
    from virtbackupd.drivers.faults.engine import Fired


class FullWriter(Writer):
    """Hands on to another writer as long as there is room."""

    def __init__(self, writer: Writer, room: int, fired: "Fired") -> None:
        self.needs_zeroes = writer.needs_zeroes
        self._writer = writer
        self._room = room
        self._fired = fired

    def write_batch(self, batch: Batch) -> None:
        fitting = min(len(batch), self._room // CLUSTER)
        self._writer.write_batch(batch[:fitting])
        self._room -= fitting * CLUSTER
        if fitting < len(batch):
            self._fired.done()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def finish(self) -> None:
        self._writer.finish()

    def close(self) -> None:
        self._writer.close()
        self._fired.missed()
