"""Measure every number of the in-memory hypervisor beside its peer and print one table.

Run by `make bench`, as root (libvirtd needs it). `--write` also puts the table into
docs/benchmarks.md. Both servers run at the same time and are measured in turns.
"""

import argparse
import contextlib
import functools
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import binding_calls
import footprint
import harness
import load
import nbd_copying
import raw_calls
import worlds
from daemon_process import Daemon, running_daemon
from libvirtd_peer import Peer, running_libvirtd
from measuring import (
    Row,
    absolute,
    compared,
    gibibytes,
    interleaved,
    microseconds,
    milliseconds,
    per_second,
    repeated,
    table,
)

WORLD = """\
[[domains]]
name = "bench"
state = "running"

[[domains.disks]]
target = "vda"
size = "2 GiB"

[[domains]]
name = "copy"
state = "running"

[[domains.disks]]
target = "vda"
size = "1 GiB"
written = [{ offset = "0", length = "1 GiB", seed = 7 }]
"""
SERIAL_CALLS = 3000
PARALLEL_SECONDS = 1.5
CHECKPOINTS = 1000
PEER_CHECKPOINTS = 200
CYCLES = 40
IDLE_CLIENTS = 1000


@dataclass(frozen=True, slots=True)
class Pair:
    """Both servers, up and listening."""

    ours: Daemon
    peer: Peer


@contextlib.contextmanager
def both(root: Path) -> Iterator[Pair]:
    world = root / "world.toml"
    world.write_text(WORLD)
    with (
        running_daemon(root / "ours", "--world", str(world)) as ours,
        running_libvirtd(root / "peer") as peer,
    ):
        yield Pair(ours, peer)


def small_calls(pair: Pair) -> list[Row]:
    def median(path: Path) -> float:
        return statistics.median(raw_calls.serial_latencies(path, SERIAL_CALLS))

    def rate(path: Path) -> float:
        return raw_calls.parallel_rate(path, 16, PARALLEL_SECONDS)

    latency = interleaved(lambda: median(pair.ours.socket), lambda: median(pair.peer.socket))
    throughput = interleaved(lambda: rate(pair.ours.socket), lambda: rate(pair.peer.socket))
    return [
        compared(
            "one connection, small call, median",
            latency,
            microseconds,
            "0.8 x or less",
            lambda ratio: ratio <= 0.8,
        ),
        compared(
            "16 connections, small calls",
            throughput,
            per_second,
            "1.5 x or more",
            lambda ratio: ratio >= 1.5,
        ),
    ]


def many_domains(pair: Pair) -> list[Row]:
    with (
        binding_calls.opened(pair.ours.uri) as ours,
        binding_calls.opened(pair.peer.uri) as peer,
    ):
        binding_calls.create_domains(ours)
        binding_calls.create_domains(peer)
        listed = interleaved(
            lambda: binding_calls.list_seconds(ours), lambda: binding_calls.list_seconds(peer), 15
        )
        stats = interleaved(
            lambda: binding_calls.stats_seconds(ours),
            lambda: binding_calls.stats_seconds(peer),
            15,
        )
        for domain in ours.listAllDomains(0):
            if domain.name().startswith("bench-"):
                domain.destroy()
    goal = ("1 x or less", lambda ratio: ratio <= 1.0)
    return [
        compared("list of 1,000 domains", listed, milliseconds, *goal),
        compared("state statistics of 1,000 domains", stats, milliseconds, *goal),
    ]


def checkpoints(pair: Pair) -> list[Row]:
    with (
        binding_calls.opened(pair.ours.uri) as ours,
        binding_calls.opened(pair.peer.uri) as peer,
    ):
        domain = ours.lookupByName("bench")
        mine = binding_calls.checkpoint_seconds(domain, CHECKPOINTS)
        theirs = binding_calls.checkpoint_seconds(peer.lookupByName("test"), PEER_CHECKPOINTS)
        fresh = ours.lookupByName("copy")
        first, last = interleaved(
            lambda: binding_calls.one_more_seconds(fresh),
            lambda: binding_calls.one_more_seconds(domain),
            100,
        )
        for checkpoint in domain.listAllCheckpoints(0):
            checkpoint.delete(0)
    rates = (CHECKPOINTS / sum(mine), PEER_CHECKPOINTS / sum(theirs))
    return [
        compared(
            f"checkpoint create ({CHECKPOINTS} in a row, the peer {PEER_CHECKPOINTS})",
            rates,
            per_second,
            "10 x or more",
            lambda ratio: ratio >= 10,
        ),
        absolute(
            f"checkpoint create beside none and beside {CHECKPOINTS}",
            f"{milliseconds(first)}, {milliseconds(last)}",
            "the 1,000th as fast as the first",
            met=last <= first * 1.25,
        ),
    ]


def pull_cycle(pair: Pair) -> list[Row]:
    with binding_calls.opened(pair.ours.uri) as ours:
        domain = ours.lookupByName("bench")
        taken = [
            binding_calls.pull_cycle_seconds(domain, pair.ours.root, f"cycle-{index}")
            for index in range(CYCLES)
        ]
    median = statistics.median(taken)
    return [
        absolute(
            "begin pull with checkpoint, block status, abort; 2 GiB disk",
            milliseconds(median),
            "3 ms or less",
            met=median <= 0.003,
        )
    ]


def nbd_copy(pair: Pair) -> list[Row]:
    image = Path("/dev/shm") / f"virtbackupd-bench-{os.getpid()}.raw"
    address = pair.ours.root / "copy.sock"
    scratch = pair.ours.root / "copy.scratch"
    with binding_calls.opened(pair.ours.uri) as ours:
        domain = ours.lookupByName("copy")
        domain.backupBegin(binding_calls.PULL_XML.format(socket=address, scratch=scratch), None)
        uri = f"nbd+unix:///vda?socket={address}"
        try:
            nbd_copying.copy_to_file(uri, image)
            with nbd_copying.qemu_nbd(image, pair.ours.root / "qemu-nbd.sock") as peer_uri:
                rates = interleaved(
                    lambda: nbd_copying.copy_rate(uri), lambda: nbd_copying.copy_rate(peer_uri), 7
                )
        finally:
            image.unlink(missing_ok=True)
            domain.abortJob()
    return [
        compared(
            "nbdcopy of 1 GiB (peer: qemu-nbd, file in memory)",
            rates,
            gibibytes,
            "1 x or more",
            lambda ratio: ratio >= 1.0,
        )
    ]


def start_and_memory(root: Path) -> list[Row]:
    # Compiling belongs to the installation: the first round leaves its work to the others.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

    def seconds_to_ready() -> float:
        folder = root / f"start-{time.monotonic_ns()}"
        start = time.perf_counter()
        with running_daemon(folder):
            return time.perf_counter() - start

    ready = repeated(seconds_to_ready)
    with running_daemon(root / "idle") as daemon, running_libvirtd(root / "idle-peer") as peer:
        idle = footprint.resident_kib(daemon.process.pid) / 1024
        peer_idle = footprint.resident_kib(peer.process.pid) / 1024
        client, peer_client = (
            footprint.per_idle_client_kib(
                pid, functools.partial(raw_calls.opened, path), IDLE_CLIENTS
            )
            for pid, path in (
                (daemon.process.pid, daemon.socket),
                (peer.process.pid, peer.socket),
            )
        )
    return [
        absolute(
            "start to `ready`", f"{ready:.2f} s", "0.3 s or less", met=ready <= 0.3, peer="0.04 s"
        ),
        absolute(
            "idle memory",
            f"{idle:.1f} MiB",
            "under 50 MiB",
            met=idle < 50,
            peer=f"{peer_idle:.1f} MiB",
        ),
        absolute(
            f"an idle client ({IDLE_CLIENTS} of them)",
            f"{client:.1f} KiB",
            "under 20 KiB",
            met=client < 20,
            peer=f"{peer_client:.1f} KiB",
        ),
    ]


def measure(root: Path) -> list[Row]:
    rows = []
    with both(root) as pair:
        for part in (small_calls, many_domains, checkpoints, pull_cycle, nbd_copy):
            rows += part(pair)
    large = root / "worlds"
    large.mkdir()
    return rows + start_and_memory(root) + worlds.measure(large) + harness.measure()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="also rewrite docs/benchmarks.md")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="vb-bench-"))
    try:
        text = table(measure(root))
        (root / "load").mkdir()
        loaded = load.table(load.measure(root / "load"))
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(text)
    print(loaded)
    if options.write:
        write_page(text)


def write_page(text: str) -> None:
    """Put the table between the page's two marks."""
    page = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
    head, rest = page.read_text().split("<!-- table -->\n", 1)
    _, tail = rest.split("<!-- end -->\n", 1)
    where = f"Python {platform.python_version()}, {os.cpu_count()} processors.\n"
    page.write_text(f"{head}<!-- table -->\n{text}\n\n{where}<!-- end -->\n{tail}")


if __name__ == "__main__":
    main()
