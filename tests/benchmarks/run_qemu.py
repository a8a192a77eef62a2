"""Measure the QEMU driver beside Debian's libvirtd with the same QEMU and print one table.

Run by `make bench`. Both servers run at the same time, each with machines of its own that are
paused, and are measured in turns. libvirtd serves its session, unprivileged.
"""

import argparse
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import binding_calls
import libvirt
import nbd_copying
import qemu_machines
from daemon_process import running_daemon
from libvirtd_peer import running_libvirtd
from measuring import Row, absolute, compared, gibibytes, interleaved, milliseconds, table

MANY_DISKS = 8
MANY_CHECKPOINTS = 200
MANY_DOMAINS = 50
ROUNDS = 15
PAGE_MARKS = ("<!-- qemu -->\n", "<!-- end of qemu -->\n")


@dataclass(frozen=True, slots=True)
class Side:
    """One server with a connection and a folder for images and sockets."""

    connection: libvirt.virConnect
    folder: Path

    def machine(self, name: str, disks: int) -> libvirt.virDomain:
        domain = qemu_machines.defined(self.connection, self.folder, name, disks)
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        return domain


@dataclass(frozen=True, slots=True)
class Both:
    """The two servers side by side."""

    ours: Side
    peer: Side

    def measure(self, figure: Callable[[Side], float], rounds: int = ROUNDS) -> tuple[float, float]:
        return interleaved(lambda: figure(self.ours), lambda: figure(self.peer), rounds)


@contextlib.contextmanager
def servers(root: Path) -> Iterator[Both]:
    folders = [root / "ours-images", root / "peer-images"]
    for folder in folders:
        folder.mkdir()
        folder.chmod(0o777)
    with (
        running_daemon(root / "ours", "--driver", "qemu=qemu") as ours,
        running_libvirtd(root / "peer") as peer,
        binding_calls.opened(ours.qemu_uri) as mine,
        binding_calls.opened(f"qemu+unix:///session?socket={peer.socket}") as theirs,
    ):
        both = Both(Side(mine, folders[0]), Side(theirs, folders[1]))
        try:
            yield both
        finally:
            for side in (both.ours, both.peer):
                for domain in side.connection.listAllDomains(
                    libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE
                ):
                    domain.destroy()


def cycles(both: Both, disks: int, goal: float) -> Row:
    names = count()
    machines = {
        side.folder: side.machine(f"cycle-{disks}", disks) for side in (both.ours, both.peer)
    }

    def one(side: Side) -> float:
        name = f"c{next(names)}"
        return qemu_machines.cycle_seconds(machines[side.folder], side.folder, name, disks)

    return compared(
        f"begin pull with checkpoint, block status, abort; {disks} disk(s) of 2 GiB",
        both.measure(one),
        milliseconds,
        f"{goal} x or less",
        lambda ratio: ratio <= goal,
    )


def checkpoints(both: Both, disks: int) -> Row:
    names = count()
    machines = {
        side.folder: side.machine(f"point-{disks}", disks) for side in (both.ours, both.peer)
    }

    def one(side: Side) -> float:
        return qemu_machines.checkpoint_seconds(machines[side.folder], f"p{next(names)}")

    return compared(
        f"checkpoint create and delete, {disks} disk(s)",
        both.measure(one),
        milliseconds,
        "0.7 x or less",
        lambda ratio: ratio <= 0.7,
    )


def many_checkpoints(both: Both) -> Row:
    side = both.ours
    few, many = side.machine("few", 1), side.machine("many", 1)
    few.checkpointCreateXML("<domaincheckpoint><name>only</name></domaincheckpoint>", 0)
    for index in range(MANY_CHECKPOINTS):
        many.checkpointCreateXML(f"<domaincheckpoint><name>m{index}</name></domaincheckpoint>", 0)
    names = count()

    def begin(domain: libvirt.virDomain) -> float:
        return qemu_machines.begin_seconds(domain, side.folder, f"b{next(names)}")

    one, two_hundred = interleaved(lambda: begin(few), lambda: begin(many), ROUNDS)
    return absolute(
        f"begin with 1 and with {MANY_CHECKPOINTS} checkpoints",
        f"{milliseconds(one)}, {milliseconds(two_hundred)}",
        "no slower",
        met=two_hundred <= one * 1.1,
    )


def starts(both: Both) -> Row:
    machines = {
        side.folder: qemu_machines.defined(side.connection, side.folder, "start", 1)
        for side in (both.ours, both.peer)
    }

    def one(side: Side) -> float:
        taken = qemu_machines.start_seconds(machines[side.folder])
        machines[side.folder].destroy()
        return taken

    return compared(
        "start of a paused domain",
        both.measure(one, 7),
        milliseconds,
        "1 x or less",
        lambda ratio: ratio <= 1.0,
    )


def filled(side: Side) -> libvirt.virDomain:
    domain = qemu_machines.defined(side.connection, side.folder, "read", 1)
    qemu_machines.fill(side.folder / "read-vda.qcow2", nbd_copying.GIB)
    domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    return domain


def reading(both: Both) -> Row:
    machines = {side.folder: filled(side) for side in (both.ours, both.peer)}

    def one(side: Side) -> float:
        domain = machines[side.folder]
        address = side.folder / "read.sock"
        address.unlink(missing_ok=True)
        entry = qemu_machines.BACKUP_DISK.format(target="vda", scratch=side.folder / "read.scratch")
        domain.backupBegin(qemu_machines.BACKUP.format(socket=address, disks=entry), None)
        try:
            uri = f"nbd+unix:///vda?socket={address}"
            return nbd_copying.copy_rate(uri)
        finally:
            domain.abortJob()
            qemu_machines.wait_idle(domain)

    return compared(
        "pull read with nbdcopy, 1 GiB of data",
        both.measure(one),
        gibibytes,
        "1 x",
        lambda ratio: ratio >= 0.95,
    )


def statistics_of_many(both: Both) -> Row:
    for side in (both.ours, both.peer):
        running = side.connection.numOfDomains()
        for index in range(running, MANY_DOMAINS):
            side.machine(f"stats-{index}", 1)
    return compared(
        f"statistics of {MANY_DOMAINS} running domains",
        both.measure(lambda side: qemu_machines.stats_seconds(side.connection, MANY_DOMAINS), 7),
        milliseconds,
        "0.5 x or less",
        lambda ratio: ratio <= 0.5,
    )


def measure(root: Path) -> list[Row]:
    with servers(root) as both:
        return [
            cycles(both, 1, 0.7),
            cycles(both, MANY_DISKS, 0.4),
            checkpoints(both, 1),
            checkpoints(both, MANY_DISKS),
            many_checkpoints(both),
            starts(both),
            reading(both),
            statistics_of_many(both),
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="also rewrite docs/benchmarks.md")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="vb-bench-"))
    root.chmod(0o755)
    try:
        text = table(measure(root))
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(text)
    if options.write:
        page = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
        head, rest = page.read_text().split(PAGE_MARKS[0], 1)
        tail = rest.split(PAGE_MARKS[1], 1)[1]
        page.write_text(f"{head}{PAGE_MARKS[0]}{text}\n{PAGE_MARKS[1]}{tail}")


if __name__ == "__main__":
    main()
