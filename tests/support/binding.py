"""Working with stock libvirt-python: connections, its event loop, recorded events, error numbers.

The binding allows one event loop per process, registered before the connections that use it; here
it runs in one thread for the rest of the process. This module knows nothing of the daemon.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

import libvirt
from libvirt_qemu import VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP, qemuMonitorCommand

PATIENCE = 60.0
POLL_INTERVAL = 0.01
_HEARTBEAT = 50
"""Milliseconds."""


def _stay_quiet(_context: object, _error: object) -> None:
    """Errors arrive as exceptions; the binding's default also prints them."""


libvirt.registerErrorHandler(_stay_quiet, None)


_registering = threading.Lock()


def ensure_event_loop() -> threading.Thread:
    """Register libvirt's own event loop and run it in a thread, once per process."""
    # Threads may open their first connections together, and a cache alone lets both in.
    with _registering:
        return _event_loop()


@cache
def _event_loop() -> threading.Thread:
    libvirt.virEventRegisterDefaultImpl()
    # Now and then the client's loop is not woken for what another of its threads has read or wants
    # to send, and sleeps on with it: this gets it up. Nothing that a server left out comes of it.
    libvirt.virEventAddTimeout(_HEARTBEAT, lambda *_: None, None)  # type: ignore[operator]

    def run_for_ever() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    thread = threading.Thread(target=run_for_ever, name="libvirt-events", daemon=True)
    thread.start()
    return thread


@contextmanager
def connected(uri: str, *, read_only: bool = False) -> Iterator[libvirt.virConnect]:
    """An open connection with a working event loop; closed at the end of the block."""
    ensure_event_loop()
    connection = libvirt.openReadOnly(uri) if read_only else libvirt.open(uri)
    try:
        yield connection
    finally:
        connection.close()


def wait_until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Ask until the condition holds; fail the test, naming `what`, when it never does."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        pause.wait(POLL_INTERVAL)


def error_numbers(call: Callable[[], object]) -> tuple[int | None, int | None]:
    """Code and domain of the libvirt error that `call` must raise."""
    try:
        call()
    except libvirt.libvirtError as error:
        return error.get_error_code(), error.get_error_domain()
    raise AssertionError("the call was expected to fail, but it succeeded")


def error_code(call: Callable[[], object]) -> int | None:
    """Code of the libvirt error that `call` must raise."""
    return error_numbers(call)[0]


def guest(machine: libvirt.virDomain, disk: str, command: str) -> str:
    """Let the guest do I/O on one of its disks; the words of QEMU's I/O tester come back."""
    return monitor_line(machine, f'qemu-io {disk} "{command}"')


def hold_push(machine: libvirt.virDomain) -> None:
    """The next push of a machine in memory does not copy a byte before `release_push`."""
    _control(machine, "job-progress percent=0")


def release_push(machine: libvirt.virDomain) -> None:
    _control(machine, "job-complete")


def _control(machine: libvirt.virDomain, command: str) -> None:
    answer = json.loads(monitor_line(machine, f"x-virtbackupd {command}"))
    assert "disks" in answer, answer


def monitor_line(machine: libvirt.virDomain, line: str) -> str:
    """What QEMU's monitor answers to a line for humans."""
    return qemuMonitorCommand(machine, line, VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP)


@dataclass
class Recorder:
    """Collects what event callbacks are given, under a label, in order of arrival."""

    seen: list[tuple[object, ...]] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __call__(self, _connection: object, *details: object) -> None:
        """A callback for any event whose first detail is the domain and whose last a label."""
        domain, *values, label = details
        assert isinstance(domain, libvirt.virDomain)
        self.record(label, domain.name(), *values)

    def record(self, *values: object) -> None:
        with self._changed:
            self.seen.append(values)
            self._changed.notify_all()

    def wait(self, count: int, seconds: float = PATIENCE) -> list[tuple[object, ...]]:
        """What was recorded, as soon as there are `count` entries."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: len(self.seen) >= count, seconds)
            assert arrived, f"{count} events expected, got {self.seen}"
            return list(self.seen)

    def labels(self, count: int) -> list[object]:
        """The labels of the first `count` events."""
        return [entry[0] for entry in self.wait(count)[:count]]
