"""Large worlds: start, memory and lists with 10,000 domains, and how quickly a world goes back.

Run by itself, or as a part of `run.py`. Needs no root and no peer: the smaller world is the peer of
the larger one.
"""

import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import binding_calls
import footprint
import libvirt
import libvirt_qemu
import raw_calls
from daemon_process import Daemon, running_daemon
from measuring import Row, absolute, interleaved, microseconds, milliseconds, repeated, table

FEW, MANY = 1_000, 10_000
LARGE = """\
seed = 1

[[domains]]
name = "vm{{n:05}}"
count = {count}

[[domains.disks]]
target = "vda"
size = "20 GiB"

[[domains.disks]]
target = "vdb"
size = "1 GiB"
seed = 2

[[domains.disks]]
target = "vdc"
size = "100 GiB"

[[domains.disks]]
target = "vdd"
size = "10 GiB"
format = "raw"
"""
FULL = """\
[[domains]]
name = "vm{n}"
count = 100

[[domains.disks]]
target = "vda"
size = "10 GiB"
seed = 1

[[domains.checkpoints]]
name = "first"
written = [{ disk = "vda", offset = 0, length = "1 GiB", byte = 1 }]
"""
CONNECT_LIST_ALL_DOMAINS = 273
ROUNDS = 9
_SAME = "no slower with the more"


@contextlib.contextmanager
def started(root: Path, text: str) -> Iterator[tuple[Daemon, float]]:
    """A daemon with that world, and the seconds until it was ready."""
    root.mkdir()
    world = root / "world.toml"
    world.write_text(text)
    begin = time.perf_counter()
    with running_daemon(root, "--world", str(world)) as daemon:
        yield daemon, time.perf_counter() - begin


def raw_list_seconds(daemon: Daemon) -> float:
    """One call for all domains, over a bare socket."""
    message = raw_calls.frame(CONNECT_LIST_ALL_DOMAINS, 1, b"\0\0\0\1" + bytes(4))
    with raw_calls.opened(daemon.socket) as connection:
        begin = time.perf_counter()
        raw_calls.call(connection, message)
        return time.perf_counter() - begin


def bound_list_seconds(daemon: Daemon) -> float:
    """The same with libvirt-python, which makes an object of each."""
    with binding_calls.opened(daemon.uri) as connection:
        return binding_calls.list_seconds(connection)


def stats_seconds(daemon: Daemon) -> float:
    """All statistics of all domains."""
    with binding_calls.opened(daemon.uri) as connection:
        begin = time.perf_counter()
        connection.getAllDomainStats(0, 0)
        return time.perf_counter() - begin


def lists(few: Daemon, many: Daemon) -> list[Row]:
    calls: tuple[tuple[str, Callable[[Daemon], float], str], ...] = (
        ("list of all domains", raw_list_seconds, _SAME),
        ("the same with libvirt-python", bound_list_seconds, _SAME),
        ("all statistics with libvirt-python", stats_seconds, "-"),
    )
    return [per_domain(what, seconds, goal, few, many) for what, seconds, goal in calls]


def per_domain(
    what: str, seconds: Callable[[Daemon], float], goal: str, few: Daemon, many: Daemon
) -> Row:
    large, small = interleaved(lambda: seconds(many) / MANY, lambda: seconds(few) / FEW, ROUNDS)
    figures = f"{microseconds(large)} with {MANY:,}, {microseconds(small)} with {FEW:,} domains"
    # As the figures are short, a noisy moment shows: a tenth is not a difference.
    met = goal != _SAME or large <= small * 1.1
    return absolute(f"{what}, per domain", figures, goal, met=met)


def large_worlds(root: Path) -> list[Row]:
    with (
        started(root / "few", LARGE.format(count=FEW)) as (few, _),
        started(root / "many", LARGE.format(count=MANY)) as (many, ready),
    ):
        rows = lists(few, many)
        resident = footprint.resident_kib(many.process.pid) / 1024
    return [
        absolute(
            f"start with {MANY:,} domains x 4 disks",
            f"{ready:.2f} s",
            "under 3 s",
            met=ready < 3,
        ),
        absolute("memory with them", f"{resident:.0f} MiB", "under 1024 MiB", met=resident < 1024),
        *rows,
    ]


def command(domain: libvirt.virDomain, name: str, /, **arguments: str) -> float:
    """Seconds that a control command takes, through the monitor."""
    text = json.dumps({"execute": f"x-virtbackupd-{name}", "arguments": arguments})
    begin = time.perf_counter()
    answer = json.loads(libvirt_qemu.qemuMonitorCommand(domain, text, 0))
    taken = time.perf_counter() - begin
    if "return" not in answer:
        raise RuntimeError(f"{name} was refused: {answer}")
    return taken


def going_back(root: Path) -> list[Row]:
    saved = root / "saved"
    with (
        started(root / "full", FULL) as (daemon, _),
        binding_calls.opened(daemon.qemu_uri) as connection,
    ):
        domain = connection.lookupByName("vm1")

        def there_and_back() -> float:
            taken = command(domain, "snapshot-take", name="a")
            for index in range(10):
                write = f'qemu-io drive-virtio-disk0 "write -P 9 {index}M 64k"'
                libvirt_qemu.qemuMonitorCommand(
                    domain, write, libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
                )
            taken += command(domain, "snapshot-restore", name="a")
            command(domain, "snapshot-drop", name="a")
            return taken

        back = repeated(there_and_back)
        save = repeated(lambda: command(domain, "world-save", path=str(saved)), 3)
        load = repeated(lambda: command(domain, "world-load", path=str(saved)), 3)
        size = saved.stat().st_size / 1024
    return [
        absolute(
            "snapshot and restore of 100 domains with 10 GiB of data each",
            milliseconds(back),
            "under 50 ms",
            met=back < 0.05,
        ),
        absolute(
            "save and load of the same",
            f"{save:.2f} s, {load:.2f} s, {size:.0f} KiB",
            "-",
            met=True,
        ),
    ]


def measure(root: Path) -> list[Row]:
    """All rows of this table."""
    return large_worlds(root) + going_back(root)


def main() -> None:
    root = Path(tempfile.mkdtemp(prefix="vb-worlds-"))
    try:
        print(table(measure(root)))
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
