"""Writing disk contents to files, raw or qcow2, a batch of clusters at a time.

Blocking and meant for a worker thread. A qcow2 file becomes valid with its last write, the header.
A full disk, a missing folder or a file in the way surfaces as OSError; removing what was created is
the caller's business, who knows whether it was there before.
"""

import os
import stat
import sys
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from virtbackupd.drivers.memory.clusters import CLUSTER, ZERO_CLUSTER, Cluster
from virtbackupd.drivers.qcow2 import (
    COPIED,
    HEADER_V2,
    L2_ENTRIES,
    REFCOUNTS_PER_BLOCK,
    ZERO_FLAG,
    TableLayout,
    build_header,
    l1_entries,
    plan_tables,
)

Batch: TypeAlias = Sequence[tuple[int, Cluster | None]]
"""Clusters by number, rising; None for one that reads as zeroes."""

_IOV_MAX: Final = 1024


class Writer(ABC):
    """A file that takes the clusters of a disk in rising order."""

    needs_zeroes: bool
    """Whether clusters left out would show something else than zeroes."""

    def __init__(self, descriptor: int, capacity: int) -> None:
        self._descriptor = descriptor
        self._capacity = capacity
        self._open = True

    @abstractmethod
    def write_batch(self, batch: Batch) -> None:
        """Write some clusters, each at most once and behind those before."""

    @abstractmethod
    def finish(self) -> None:
        """Complete the file and close it."""

    def close(self) -> None:
        """Close the file as it is; may be called again."""
        if self._open:
            self._open = False
            os.close(self._descriptor)


class RawWriter(Writer):
    """A file with the disk's bytes at the disk's offsets."""

    def __init__(self, descriptor: int, capacity: int, *, fresh: bool = True) -> None:
        """`fresh` says that the file is new and empty, so that zeroes can be left out."""
        super().__init__(descriptor, capacity)
        self.needs_zeroes = not fresh
        if fresh:
            os.ftruncate(descriptor, capacity)

    def write_batch(self, batch: Batch) -> None:
        for index, content in batch:
            if content is not None or self.needs_zeroes:
                self._write(index * CLUSTER, content or ZERO_CLUSTER)

    def finish(self) -> None:
        self.close()

    def _write(self, offset: int, content: Cluster) -> None:
        room = self._capacity - offset
        piece = content if room >= CLUSTER else memoryview(content)[:room]
        write_all(self._descriptor, [piece], offset)


class Qcow2Writer(Writer):
    """A qcow2 version 3 file: header, data in the order of writing, then every table."""

    def __init__(
        self,
        descriptor: int,
        capacity: int,
        *,
        backing_file: str | None = None,
        backing_format: str | None = None,
        kept: Mapping[int, Cluster | None] | None = None,
    ) -> None:
        """Whatever the file holds is replaced; with a backing file, zeroes are recorded as such.

        `kept` are clusters to be in the file unless others are written in their place.
        """
        super().__init__(descriptor, capacity)
        self.needs_zeroes = backing_file is not None
        self._backing = (backing_file, backing_format)
        self._kept = dict(kept or {})
        self._next = 1
        self._l2_tables: dict[int, array[int]] = {}
        # Checks the backing file's name before anything is written.
        build_header(capacity, plan_tables(1, capacity), *self._backing)
        self._regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        if self._regular:
            os.ftruncate(descriptor, 0)
        write_all(descriptor, [bytes(HEADER_V2.size)], 0)

    def write_batch(self, batch: Batch) -> None:
        contents: list[Cluster] = []
        for index, content in batch:
            self._kept.pop(index, None)
            if content is None:
                self._map(index, ZERO_FLAG)
            else:
                self._map(index, (self._next + len(contents)) * CLUSTER | COPIED)
                contents.append(content)
        write_all(self._descriptor, contents, self._next * CLUSTER)
        self._next += len(contents)

    def finish(self) -> None:
        self.write_batch(list(self._kept.items()))
        l1 = self._write_l2_tables()
        layout = plan_tables(self._next, self._capacity)
        self._write_table(layout.l1, _big_endian(l1))
        self._write_refcounts(layout)
        header = build_header(self._capacity, layout, *self._backing)
        write_all(self._descriptor, [header], 0)
        self.close()

    def _map(self, index: int, entry: int) -> None:
        table, slot = divmod(index, L2_ENTRIES)
        if table not in self._l2_tables:
            self._l2_tables[table] = array("Q", bytes(CLUSTER))
        self._l2_tables[table][slot] = entry

    def _write_l2_tables(self) -> "array[int]":
        l1 = array("Q", bytes(8 * l1_entries(self._capacity)))
        for number, table in self._l2_tables.items():
            l1[number] = self._next * CLUSTER | COPIED
            write_all(self._descriptor, [_big_endian(table)], self._next * CLUSTER)
            self._next += 1
        return l1

    def _write_refcounts(self, layout: TableLayout) -> None:
        first = layout.refcount_blocks
        for number in range(layout.refcount_block_count):
            used = min(layout.end - number * REFCOUNTS_PER_BLOCK, REFCOUNTS_PER_BLOCK)
            self._write_table(first + number, b"\0\1" * used)
        blocks = array("Q", (block * CLUSTER for block in range(first, layout.refcount_table)))
        self._write_table(layout.refcount_table, _big_endian(blocks))
        if self._regular:
            os.ftruncate(self._descriptor, layout.end * CLUSTER)

    def _write_table(self, cluster: int, data: bytes) -> None:
        """A table; on a device, where old bytes may follow, to the end of its last cluster."""
        padding = b"" if self._regular else bytes(-len(data) % CLUSTER)
        write_all(self._descriptor, [data, padding], cluster * CLUSTER)


def write_all(descriptor: int, pieces: Iterable[Cluster], offset: int) -> None:
    """Write the pieces one behind the other, or raise OSError."""
    waiting = [memoryview(piece) for piece in pieces if len(piece)]
    start = 0
    while start < len(waiting):
        written = os.pwritev(descriptor, waiting[start : start + _IOV_MAX], offset)
        offset += written
        while written:
            size = len(waiting[start])
            if written < size:
                waiting[start] = waiting[start][written:]
                break
            written -= size
            start += 1


def _big_endian(table: "array[int]") -> bytes:
    if sys.byteorder == "little":
        table = table[:]
        table.byteswap()
    return table.tobytes()
