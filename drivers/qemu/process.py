"""QEMU as a process: started detached from us, watched, and ended. Knows no monitor command.

QEMU gets a session of its own and writes its standard error to the domain's log, so it outlives
the daemon whatever ends that. `-daemonize` is not used: it would send the standard error, and with
it the last words of a crash, to /dev/null. The monitor's socket listens before QEMU exists and is
handed over by descriptor, so that connecting to it needs no second try.
"""

import fcntl
import os
import shlex
import shutil
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

import trio

from virtbackupd.drivers.errors import InternalError, SystemFailure
from virtbackupd.drivers.qemu.config import DomainPaths, Settings

_STARTING: Final = ": starting "
"""Marks the command line, which we write into the log ourselves."""
TERMINATE_GRACE: Final = 15.0
"""Seconds between asking QEMU to flush its images and end, and killing it."""
KILL_GRACE: Final = 30.0
"""Seconds that a killed process may hang in the kernel, for example on a dead disk."""
MONITOR_FD: Final = 3
"""What the started program finds the listening socket of its monitor as."""
_SECRET_FD: Final = MONITOR_FD + 1
_START_TIME_FIELD: Final = 19
"""Of /proc/PID/stat, counted from the state, which follows the command's closing bracket."""
_RESIDENT_FIELD: Final = 21
"""Likewise, in pages."""
_PROCESSOR_FIELD: Final = 36
_ENVIRONMENT: Final = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "XDG_RUNTIME_DIR")


class Process:
    """A running QEMU; perhaps a child of ours, perhaps started by an earlier daemon."""

    def __init__(self, pid: int) -> None:
        """ProcessLookupError when there is none."""
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)
        self.start_time = read_start_time(pid)

    async def wait(self) -> str | None:
        """Wait for the end; says what ended it, when we were its parent."""
        await self._wait_for_end()
        return self._reap()

    def signal(self, number: signal.Signals) -> None:
        try:
            signal.pidfd_send_signal(self._descriptor, number)
        except ProcessLookupError:
            return

    async def end(self, *, graceful_only: bool = False) -> None:
        """Ask for the end, insist after a while; InternalError when the process stays."""
        self.signal(signal.SIGTERM)
        if await self.gone_within(TERMINATE_GRACE):
            return
        if not graceful_only:
            self.signal(signal.SIGKILL)
            if await self.gone_within(KILL_GRACE):
                return
        raise InternalError(f"process {self.pid} does not end: it may hang on a device or file")

    async def gone_within(self, seconds: float) -> bool:
        """Whether it has ended by then."""
        with trio.move_on_after(seconds) as scope:
            await self._wait_for_end()
        return not scope.cancelled_caught

    async def _wait_for_end(self) -> None:
        # Trio lets one task wait for a descriptor; here several may wait for the same end.
        own = os.dup(self._descriptor)
        try:
            await trio.lowlevel.wait_readable(own)
        finally:
            os.close(own)

    def close(self) -> None:
        """Let go of the descriptor; the process itself is left alone."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _reap(self) -> str | None:
        try:
            found = os.waitid(os.P_PIDFD, self._descriptor, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return None
        if found is None:
            return None
        if found.si_code == os.CLD_EXITED:
            return f"exit status {found.si_status}"
        return f"signal {signal.Signals(found.si_status).name}"


@dataclass(frozen=True, slots=True)
class Launch:
    """What is started and where its files are."""

    argv: Sequence[str]
    env: Mapping[str, str]
    paths: DomainPaths
    secrets: Sequence[bytes] = ()
    """Each is found at `secret_path`, and neither on a disk nor among the arguments."""


def start(launch: Launch, settings: Settings) -> Process:
    """Start QEMU; its monitor can be connected to at once. Blocks for some milliseconds."""
    _make_folder(launch.paths.folder, settings)
    argv = [*_as_user(settings), *launch.argv, *_own_arguments(launch.paths)]
    with (
        _listening(launch.paths.monitor) as monitor,
        _opened_log(launch, argv) as log,
        _in_memory(launch.secrets) as secrets,
    ):
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, log.fileno(), 1),
            (os.POSIX_SPAWN_DUP2, log.fileno(), 2),
            (os.POSIX_SPAWN_DUP2, monitor.fileno(), MONITOR_FD),
            *((os.POSIX_SPAWN_DUP2, found, _SECRET_FD + n) for n, found in enumerate(secrets)),
        ]
        try:
            pid = os.posix_spawn(
                argv[0], argv, _environment(launch.env), file_actions=actions, setsid=True
            )
        except OSError as error:
            raise SystemFailure(f"cannot run {argv[0]}: {error.strerror}") from None
    return Process(pid)


def secret_path(index: int) -> str:
    """Where the started program finds one of the launch's secrets."""
    return f"/proc/self/fd/{_SECRET_FD + index}"


@contextmanager
def _in_memory(values: Sequence[bytes]) -> Iterator[list[int]]:
    """Files without a name, with numbers beyond those that the program is to find them at."""
    found: list[int] = []
    try:
        for value in values:
            with os.fdopen(os.memfd_create("secret"), "wb") as file:
                file.write(value)
                file.flush()
                least = _SECRET_FD + len(values)
                found.append(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, least))
        yield found
    finally:
        for descriptor in found:
            os.close(descriptor)


def adopt(pid: int, start_time: int) -> Process | None:
    """The process that had that number, unless it has ended; the number may be another's now."""
    try:
        process = Process(pid)
    except ProcessLookupError:
        return None
    if process.start_time == start_time:
        return process
    process.close()
    return None


def read_start_time(pid: int) -> int:
    """When the process was started, in clock ticks since boot."""
    try:
        return int(_stat_fields(pid)[_START_TIME_FIELD])
    except OSError:
        raise ProcessLookupError(pid) from None


def cpu_times(pid: int, thread: int | None = None) -> tuple[int, int]:
    """User and system time in nanoseconds, of a process or one thread; zeros once it is gone."""
    try:
        fields = _stat_fields(pid, thread)
    except OSError:
        return 0, 0
    tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    return int(fields[11]) * tick, int(fields[12]) * tick


def last_cpu(pid: int, thread: int) -> int:
    """The host's processor that a thread ran on last; -1 once it is gone."""
    try:
        return int(_stat_fields(pid, thread)[_PROCESSOR_FIELD])
    except OSError:
        return -1


def resident_size(pid: int) -> int:
    """The memory that a process takes up on the host, in KiB; 0 once it is gone."""
    try:
        return int(_stat_fields(pid)[_RESIDENT_FIELD]) * os.sysconf("SC_PAGE_SIZE") // 1024
    except OSError:
        return 0


def last_words(log: Path, start: int) -> str:
    """What QEMU printed from `start` on, shortened to its last lines. Blocks."""
    try:
        with log.open("rb") as file:
            file.seek(start)
            text = file.read(1 << 20).decode(errors="replace")
    except OSError:
        return ""
    printed = [line for line in text.splitlines() if _STARTING not in line]
    lines = [line.partition("qemu-system-")[2] or line for line in printed]
    return "; ".join(line.partition(": ")[2] or line for line in lines[-3:])


def log_size(log: Path) -> int:
    """Where the next output will stand."""
    try:
        return log.stat().st_size
    except OSError:
        return 0


def _stat_fields(pid: int, thread: int | None = None) -> list[str]:
    where = f"/proc/{pid}/stat" if thread is None else f"/proc/{pid}/task/{thread}/stat"
    return Path(where).read_text().rpartition(") ")[2].split()


def _as_user(settings: Settings) -> list[str]:
    """The command that drops privileges before QEMU runs, where an administrator wants it."""
    if settings.user is None or os.geteuid() != 0:
        return []
    found = shutil.which("setpriv")
    if found is None:
        raise InternalError(f"setpriv is needed to run QEMU as {settings.user}: install util-linux")
    group = settings.group or settings.user
    return [found, f"--reuid={settings.user}", f"--regid={group}", "--init-groups", "--"]


def _own_arguments(paths: DomainPaths) -> list[str]:
    return [
        "-pidfile",
        str(paths.pidfile),
    ]


def _listening(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        listener.listen(1)
    except OSError:
        listener.close()
        raise
    return listener


@contextmanager
def _opened_log(launch: Launch, argv: Sequence[str]) -> Iterator[IO[bytes]]:
    path = launch.paths.log
    with open(path, "ab", opener=_private) as log:
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        log.write(f"{stamp}{_STARTING}{shlex.join(argv)}\n".encode())
        log.flush()
        yield log


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return {**kept, "LC_ALL": "C", **extra}


def _make_folder(folder: Path, settings: Settings) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if settings.user is not None and _as_user(settings):
        shutil.chown(folder, settings.user, settings.group or settings.user)
