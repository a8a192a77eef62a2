"""Small calls of a good client beside thousands of others, good and bad, while a backup is read.

`python tests/benchmarks/load.py` prints a table; `make bench` runs it too. The bad clients live in
a process of their own (`load_crowd.py`), so that what they cost here is not counted.
"""

import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import binding_calls
import footprint
import nbd_copying
import raw_calls
from daemon_process import Daemon, running_daemon
from libvirt import virDomain

WORLD = """\
[[domains]]
name = "copy"
state = "running"

[[domains.disks]]
target = "vda"
size = "1 GiB"
written = [{ offset = "0", length = "1 GiB", seed = 7 }]
"""
CONFIG = "max_clients = 6000\n"
"""Room for the good client beside the crowds: with the default the last 2 of 5,000 would wait."""
CALLS = 500
"""At least; they go on until the backup has been read."""
PAUSE = 0.0005
"""Seconds between two small calls: a client that asks now and then, not one that only asks."""
CROWD = Path(__file__).with_name("load_crowd.py")


class Figures(NamedTuple):
    """Of one situation."""

    what: str
    median: float
    high: float
    """The 99th percentile."""
    rate: float
    """GiB per second of the backup that is read meanwhile."""
    memory: float
    """MiB that the daemon holds."""


def situation(what: str, daemon: Daemon, uri: str) -> Figures:
    """Small calls on a connection of their own while nbdcopy reads the whole disk."""
    rates: list[float] = []
    reader = threading.Thread(target=lambda: rates.append(nbd_copying.copy_rate(uri)))
    with raw_calls.opened(daemon.socket) as connection:
        reader.start()
        taken = [_one(connection) for _ in range(CALLS)]
        while reader.is_alive():
            taken.append(_one(connection))
    cuts = statistics.quantiles(taken, n=100)
    memory = footprint.resident_kib(daemon.process.pid) / 1024
    return Figures(what, cuts[49], cuts[98], rates[0], memory)


def _one(connection: socket.socket) -> float:
    message = raw_calls.frame(raw_calls.CONNECT_GET_LIB_VERSION, 1)
    time.sleep(PAUSE)
    start = time.perf_counter()
    raw_calls.call(connection, message)
    return time.perf_counter() - start


@contextmanager
def crowd(kind: str, address: Path, count: int) -> Iterator[None]:
    """So many clients of a kind, in a process of their own, until the block ends."""
    command = [sys.executable, str(CROWD), kind, str(address), str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if line.strip() != "ready":
                raise RuntimeError(f"the {kind} clients did not get ready: {line!r}")
            yield
        finally:
            process.kill()


@contextmanager
def backup(daemon: Daemon, domain: virDomain) -> Iterator[Path]:
    """A pull backup; yields its NBD socket."""
    address = daemon.root / "nbd.sock"
    xml = binding_calls.PULL_XML.format(socket=address, scratch=daemon.root / "scratch")
    domain.backupBegin(xml, None)
    yield address
    domain.abortJob()


def measure(root: Path) -> list[Figures]:
    world = root / "world.toml"
    world.write_text(WORLD)
    config = root / "load.conf"
    config.write_text(CONFIG)
    with (
        running_daemon(root, "--world", str(world), "--config", str(config)) as daemon,
        binding_calls.opened(daemon.uri) as connection,
        backup(daemon, connection.lookupByName("copy")) as nbd,
    ):
        uri = f"nbd+unix:///vda?socket={nbd}"
        nbd_copying.copy_rate(uri)
        found = [situation("before", daemon, uri)]
        with crowd("idle", daemon.socket, 5000):
            found.append(situation("5,000 idle clients", daemon, uri))
        with crowd("loris", daemon.socket, 500):
            found.append(situation("500 slow-lorises", daemon, uri))
        with crowd("flood", daemon.socket, 2):
            found.append(situation("two floods of connects", daemon, uri))
        with crowd("deaf", daemon.socket, 10):
            found.append(situation("10 subscribers that never read", daemon, uri))
        with crowd("nbd", nbd, 20):
            found.append(situation("20 NBD clients stuck in mid-reply", daemon, uri))
        found.append(situation("after", daemon, uri))
    return found


def table(found: list[Figures]) -> str:
    """A Markdown table."""
    head = (
        "| beside | small call, median | 99th percentile | backup read | memory |\n"
        "|---|--:|--:|--:|--:|"
    )
    lines = [
        f"| {each.what} | {each.median * 1e3:.2f} ms | {each.high * 1e3:.2f} ms"
        f" | {each.rate:.2f} GiB/s | {each.memory:.0f} MiB |"
        for each in found
    ]
    return "\n".join([head, *lines])


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="vb-load-") as name:
        print(table(measure(Path(name))))


if __name__ == "__main__":
    main()
