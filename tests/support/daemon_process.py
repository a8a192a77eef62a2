"""A virtbackupd of the test's own, as a real process, and the URIs that reach it.

Used by every test that talks to the daemon from outside; it knows nothing of its inside.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

READY_DEADLINE = 60.0
STOP_DEADLINE = 60.0
PROGRAM = (str(Path(sys.executable).with_name("virtbackupd")),)


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
def running_qemu_daemon(
    root: Path, *options: str, program: Sequence[str] = PROGRAM
) -> Iterator[Daemon]:
    """The same with QEMU behind `qemu:` URIs; machines that are left over end with the block."""
    try:
        with running_daemon(root, "--driver", "qemu=qemu", *options, program=program) as daemon:
            daemon.driver = "qemu"
            yield daemon
    finally:
        _end_machines(root / "state" / "qemu" / "lib")


def _end_machines(folder: Path) -> None:
    for pidfile in folder.glob("*/qemu.pid"):
        with suppress(OSError, ValueError):
            number = int(pidfile.read_text())
            # By now the number may be that of somebody else's process.
            if str(pidfile) in Path(f"/proc/{number}/cmdline").read_text():
                os.kill(number, signal.SIGKILL)


def serve_command(
    root: Path, options: Sequence[str], program: Sequence[str] = PROGRAM
) -> list[str]:
    """The command line of a daemon below `root` that also answers `qemu:` URIs from memory."""
    return [
        *program,
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


def _wait_ready(process: subprocess.Popen[str], log: Path) -> list[str]:
    """The banner's lines up to `ready`; a daemon that is late with it is killed."""
    if process.stdout is None:
        raise RuntimeError("the daemon was started without a pipe for its output")
    lines: list[str] = []
    late = threading.Timer(READY_DEADLINE, process.kill)
    late.start()
    try:
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if line.startswith("ready"):
                return lines
    finally:
        late.cancel()
    said = log.read_text(errors="replace")
    raise RuntimeError(f"the daemon did not get ready: {lines}, its log is: {said[-4000:]}")


@contextmanager
def running_daemon(root: Path, *options: str, program: Sequence[str] = PROGRAM) -> Iterator[Daemon]:
    """Run a daemon until the block ends; its standard error goes to `root/daemon.log`.

    A traceback in the log is a bug of the daemon and fails the test that met it.
    """
    for folder in ("run", "state"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    with (root / "daemon.log").open("w") as log:
        process = subprocess.Popen(
            serve_command(root, options, program),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    with process:
        try:
            daemon = Daemon(root, process)
            daemon.banner = _wait_ready(process, root / "daemon.log")
            yield daemon
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_DEADLINE)
                except subprocess.TimeoutExpired:
                    process.kill()
    assert "Traceback" not in daemon.log, daemon.log
