"""Run as a program: the daemon, with somebody who ends it, or QEMU, at one of its steps.

The order is a file that a test writes while the daemon runs: the victim, the step's number counted
from then on, and a number of its own. Every step is put down, so that a test knows how many there
are. Knows nothing of what the daemon does.
"""

import fcntl
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Lock

from impatience import be_impatient
from slow_pushes import limited

from virtbackupd.drivers import steps
from virtbackupd.drivers.qemu.work import DiskWork
from virtbackupd.server.cli import main

ORDER = "order"
LOCK = "order.lock"
TRACE = "trace"
SLOW = "slow"
"""A file that makes block jobs slow while it is there."""


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keep the order as it is: one that is called off has either been carried out, or never is."""
    with (root / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def kill(pid: int) -> None:
    """Return when it is dead, with all its threads."""
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        select.select([descriptor], [], [])
    finally:
        os.close(descriptor)


def _stop(pid: int) -> None:
    """From now on it does not answer."""
    os.kill(pid, signal.SIGSTOP)


_VICTIMS = {"qemu": kill, "answers": _stop}


@dataclass
class Saboteur:
    """The hook of every step; `root` is the folder of the order and of the steps taken."""

    root: Path
    _order: str = ""
    _numbers: "count[int]" = field(default_factory=count)
    _lock: Lock = field(default_factory=Lock)

    def __call__(self, name: str) -> None:
        with self._lock, locked(self.root):
            order = self._read()
            if order:
                self._take(name, order)

    def _read(self) -> str:
        try:
            return (self.root / ORDER).read_text()
        except FileNotFoundError:
            return ""

    def _take(self, name: str, order: str) -> None:
        if order != self._order:
            self._order, self._numbers = order, count(1)
        victim, wanted, _ = order.split()
        with (self.root / TRACE).open("a") as trace:
            trace.write(f"{name}\n")
        if next(self._numbers) == int(wanted):
            self._end(victim)

    def _end(self, victim: str) -> None:
        if victim == "daemon":
            os.kill(os.getpid(), signal.SIGKILL)
        for file in self.root.glob("state/qemu/lib/*/qemu.pid"):
            _VICTIMS[victim](int(file.read_text()))


if __name__ == "__main__":
    folder = Path(sys.argv.pop(1))
    steps.hook = Saboteur(folder)
    slow = limited(1, (folder / SLOW).exists)
    setattr(DiskWork, "job_action", slow)  # noqa: B010 - the daemon has no such switch
    if sys.argv[1:2] == ["impatient"]:
        del sys.argv[1]
        be_impatient(folder)
    main()
