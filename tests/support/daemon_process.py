"""A virtbackupd of the test's own, as a real process, and the URIs that reach it.

Used by every test that talks to the daemon from outside; it knows nothing of its inside.
"""

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

READY_DEADLINE = 20.0
STOP_DEADLINE = 10.0


@dataclass
class Daemon:
    """A running daemon; `root` is its private folder with sockets, state and log."""

    root: Path
    process: subprocess.Popen[str]
    banner: list[str] = field(default_factory=list)
    driver: str = "memory"

    @property
    def socket(self) -> Path:
        return self.root / "run" / "libvirt-sock"

    @property
    def uri(self) -> str:
        return self.qemu_uri if self.driver == "qemu" else self.test_uri

    @property
    def test_uri(self) -> str:
        return f"test+unix:///default?socket={self.socket}"

    @property
    def read_only_uri(self) -> str:
        return f"{self.uri}-ro"

    @property
    def qemu_uri(self) -> str:
        return f"qemu+unix:///system?socket={self.socket}"

    def network_uri(self, transport: str) -> str:
        """The announced one of the first scheme for `tcp` or `tls`, whose port may be any."""
        stream = self.process.stdout
        while stream is not None and not self.banner[-1].startswith("try:"):
            self.banner.append(stream.readline().rstrip("\n"))
        found = (line.split() for line in self.banner)
        return next(words[1] for words in found if words[0] == transport)

    @property
    def log(self) -> str:
        return (self.root / "daemon.log").read_text(errors="replace")

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """Signal the daemon and return its exit code; kills and fails when it does not end."""
        self.process.send_signal(signal_number)
        try:
            return self.process.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@contextmanager
def running_qemu_daemon(root: Path, *options: str) -> Iterator[Daemon]:
    """The same with QEMU behind `qemu:` URIs; machines that are left over end with the block."""
    try:
        with running_daemon(root, "--driver", "qemu=qemu", *options) as daemon:
            daemon.driver = "qemu"
            yield daemon
    finally:
        _end_machines(root / "state" / "qemu" / "lib")


def _end_machines(folder: Path) -> None:
    for pidfile in folder.glob("*/qemu.pid"):
        with suppress(ProcessLookupError, ValueError):
            os.kill(int(pidfile.read_text()), signal.SIGKILL)


def serve_command(root: Path, options: Sequence[str]) -> list[str]:
    """The command line of a daemon below `root` that also answers `qemu:` URIs from memory."""
    return [
        str(Path(sys.executable).with_name("virtbackupd")),
        "serve",
        "--socket-dir",
        str(root / "run"),
        "--state-dir",
        str(root / "state"),
        "--driver",
        "test=memory",
        "--driver",
        "qemu=memory",
        *options,
    ]


def _wait_ready(process: subprocess.Popen[str]) -> list[str]:
    """The banner's lines up to `ready`, read without waiting longer than the deadline."""
    if process.stdout is None:
        raise RuntimeError("the daemon was started without a pipe for its output")
    deadline = time.monotonic() + READY_DEADLINE
    lines: list[str] = []
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            line = process.stdout.readline()
            lines.append(line.rstrip("\n"))
            if line.startswith("ready") or not line:
                break
    if not lines or not lines[-1].startswith("ready"):
        process.kill()
        raise RuntimeError(f"the daemon did not get ready: {lines}")
    return lines


@contextmanager
def running_daemon(root: Path, *options: str) -> Iterator[Daemon]:
    """Run a daemon until the block ends; its standard error goes to `root/daemon.log`.

    A traceback in the log is a bug of the daemon and fails the test that met it.
    """
    for folder in ("run", "state"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    with (root / "daemon.log").open("w") as log:
        process = subprocess.Popen(
            serve_command(root, options),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    with process:
        try:
            daemon = Daemon(root, process)
            daemon.banner = _wait_ready(process)
            yield daemon
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_DEADLINE)
                except subprocess.TimeoutExpired:
                    process.kill()
    assert "Traceback" not in daemon.log, daemon.log
