"""What a server costs in a test suite: its start, one whole test, and a thousand backups in a row.

Measured in a process of its own, because the first start and the memory depend on what was there
before. `python tests/benchmarks/harness.py` prints the figures alone.
"""

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import footprint
import libvirt
from measuring import Row, absolute, milliseconds, repeated, table
from small_backup import back_up

STARTED = time.perf_counter()

from virtbackupd.testing import Server, serve  # noqa: E402 - loading it is part of the first start

DISKS = ("vda", "vdb", "vdc")
MIB = 1024 * 1024
SIZE = 64 * MIB
SEED = {"offset": MIB, "length": 4 * MIB, "seed": 7}
WORLD = {
    "domains": [
        {
            "name": "test",
            "disks": [{"target": disk, "size": SIZE, "written": [SEED]} for disk in DISKS],
        }
    ]
}
BACKUPS = 1000
SETTLED = 200
"""Backups after which memory is looked at first: buffers and caches have their size by then."""
GROWTH = 2.0
"""MiB that memory may grow after that and still be called flat."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds and MiB."""

    first_start: float
    further_start: float
    whole_test: float
    backups: float
    settled_memory: float
    last_memory: float


def start_once() -> float:
    begun = time.perf_counter()
    with serve():
        return time.perf_counter() - begun


def one_test() -> float:
    """Server up, full and incremental backup of three disks, both compared, server down."""
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="vb-") as folder, serve(world=WORLD) as server:
        connection = libvirt.open(server.uri)
        domain, guest = connection.lookupByName("test"), server.domain("test")
        back_up(domain, Path(folder), DISKS, "full")
        for disk in DISKS:
            guest.write(disk, 5 * MIB, b"changed" * 1000)
        back_up(domain, Path(folder), DISKS, "incremental", since="full")
        for disk in DISKS:
            require_identical(server, disk, Path(folder) / f"{disk}.raw")
        connection.close()
    return time.perf_counter() - begun


def require_identical(server: Server, disk: str, image: Path) -> None:
    if not (found := server.domain("test").compare(disk, image)):
        raise RuntimeError(f"{image} differs from {disk} at {found.differences[:5]}")


def many_backups() -> tuple[float, float, float]:
    """Seconds for all, and the memory after some and after all of them.

    Each leaves a checkpoint; that of the last but one is deleted, as backup programs do.
    """
    memory = 0.0
    with tempfile.TemporaryDirectory(prefix="vb-") as folder, serve(world=WORLD) as server:
        connection = libvirt.open(server.uri)
        domain, guest = connection.lookupByName("test"), server.domain("test")
        begun = time.perf_counter()
        back_up(domain, Path(folder), DISKS, "c0")
        for index in range(1, BACKUPS):
            guest.write("vda", MIB + index % 16 * 65_536, index.to_bytes(8, "big"))
            back_up(domain, Path(folder), DISKS, f"c{index}", since=f"c{index - 1}")
            domain.checkpointLookupByName(f"c{index - 1}").delete()
            if index == SETTLED:
                memory = resident()
        taken = time.perf_counter() - begun
        last = resident()
        require_identical(server, "vda", Path(folder) / "vda.raw")
        connection.close()
    return taken, memory, last


def resident() -> float:
    gc.collect()
    return footprint.resident_kib(os.getpid()) / 1024


def figures() -> Figures:
    start_once()
    first = time.perf_counter() - STARTED
    further = repeated(start_once, 15)
    one_test()
    whole = statistics.median(one_test() for _ in range(9))
    return Figures(first, further, whole, *many_backups())


def rows(found: Figures) -> list[Row]:
    def under(what: str, seconds: float, limit: float, form: Callable[[float], str]) -> Row:
        return absolute(what, form(seconds), f"under {form(limit)}", met=seconds < limit)

    growth = found.last_memory - found.settled_memory
    return [
        under("in a test: first start, with all imports", found.first_start, 1.0, milliseconds),
        under("in a test: each further start", found.further_start, 0.05, milliseconds),
        under(
            "one test: server, 3 disks, full and incremental backup, compare",
            found.whole_test,
            0.15,
            milliseconds,
        ),
        under(f"{BACKUPS:,} backups of 3 disks in one run", found.backups, 60, "{:.1f} s".format),
        absolute(
            f"memory after {SETTLED} of them, and after all",
            f"{found.settled_memory:.1f} MiB, {found.last_memory:.1f} MiB",
            "flat",
            met=growth < GROWTH,
        ),
    ]


def measure() -> list[Row]:
    """In a fresh process."""
    command = [sys.executable, __file__, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    return rows(Figures(**json.loads(done.stdout)))


def main() -> None:
    found = figures()
    print(json.dumps(asdict(found)) if "--json" in sys.argv else table(rows(found)))


if __name__ == "__main__":
    main()
