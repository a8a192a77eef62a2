"""A daemon that soon gives up on a QEMU that has been stopped, and on no other.

Its own deadlines are long, and would be tripped on a slow host if they were made short. So they
are left alone until QEMU has been seen stopped for a while, and are over then. Knows no test.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import trio

from virtbackupd.drivers.qemu import qmp

IMPATIENCE = 0.5
"""Seconds for which QEMU has to stand still."""
_LOOKS = 10


def _is_stopped(pidfile: Path) -> bool:
    """Not, of course, while the process has not written its file, or once it has ended."""
    try:
        about = Path(f"/proc/{int(pidfile.read_text())}/stat").read_text()
    except (OSError, ValueError):
        return False
    return about.rpartition(") ")[2].startswith("T")


class _Impatient(ModuleType):
    """Trio as the monitor's module sees it, with deadlines that can be brought forward."""

    def __init__(self, root: Path) -> None:
        super().__init__("trio")
        self._root = root
        self._waiting: set[trio.CancelScope] = set()
        self._watched = False

    def __getattr__(self, name: str) -> object:
        return getattr(trio, name)

    @contextmanager
    def fail_after(self, seconds: float) -> Iterator[trio.CancelScope]:
        if not self._watched:
            self._watched = True
            trio.lowlevel.spawn_system_task(self._watch)
        with trio.fail_after(seconds) as scope:
            self._waiting.add(scope)
            try:
                yield scope
            finally:
                self._waiting.discard(scope)

    async def _watch(self) -> None:
        looks = 0
        while True:
            await trio.sleep(IMPATIENCE / _LOOKS)
            looks = looks + 1 if self._stopped() else 0
            if looks >= _LOOKS:
                for scope in self._waiting:
                    scope.deadline = trio.current_time()

    def _stopped(self) -> bool:
        return any(_is_stopped(file) for file in self._root.glob("state/qemu/lib/*/qemu.pid"))


def be_impatient(root: Path) -> None:
    """For QEMUs of the daemon whose folder this is."""
    setattr(qmp, "trio", _Impatient(root))  # noqa: B010 - the daemon has no such switch
