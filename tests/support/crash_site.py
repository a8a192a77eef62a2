"""A daemon with one QEMU domain, where either can be ended at any step.

The daemon is a real process that kills itself (`saboteur`); clients are stock libvirt-python. What
must agree after an end is `crash_look`'s.
"""

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Event

import libvirt
import saboteur
from binding import ensure_event_loop, wait_until
from crash_look import DISKS, Look
from daemon_process import STOP_DEADLINE, Daemon, _wait_ready
from libvirt_qemu import qemuMonitorCommand
from tools import run

MIB = 1024 * 1024
QUIET = 10
"""Looks at the list of steps that find nothing new."""
DOMAIN = """<domain type='qemu'><name>m</name><memory unit='MiB'>32</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>{disks}</devices></domain>"""
DISK = """<disk type='file'><driver name='qemu' type='qcow2'/><source file='{path}'/>
<target dev='{target}' bus='virtio'/></disk>"""


def checkpoint(name: str) -> str:
    return f"<domaincheckpoint><name>{name}</name></domaincheckpoint>"


@dataclass
class Site(Look):
    """`root` is the folder of the daemon, of the images and of all that backups write."""

    root: Path
    size: int = 16 * MIB
    impatient: bool = False
    """Whether the daemon waits for the answers of a stopped QEMU for less than a second."""
    pid: int = 0
    """Of QEMU."""
    _daemon: Daemon | None = None
    _connection: libvirt.virConnect | None = None
    _orders: Iterator[int] = field(default_factory=count)

    # The daemon and the domain
    def start_daemon(self) -> None:
        """Start it, the first time or again, and connect."""
        self.call_off()
        self._launch()
        _wait_ready(self.daemon.process, self.root / "daemon.log")
        self.connect()

    def start_in_vain(self, number: int) -> list[str]:
        """Start a daemon that is killed at a step of its start, or later when that is not reached.

        Returns the steps that it took.
        """
        self.order("daemon", number)
        self._launch()
        wait_until(lambda: self.dead or self._listens(), "the start")
        self.kill_daemon()
        return self.steps()

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.daemon.socket)) == 0

    def _launch(self) -> None:
        for folder in ("run", "state"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        with (self.root / "daemon.log").open("a") as log:
            process = subprocess.Popen(
                self._command(), stdout=subprocess.PIPE, stderr=log, text=True
            )
        self._daemon = Daemon(self.root, process)

    def _command(self) -> list[str]:
        script = str(Path(saboteur.__file__))
        folders = ("--socket-dir", str(self.root / "run"), "--state-dir", str(self.root / "state"))
        mood = ("impatient",) if self.impatient else ()
        arguments = (*mood, "serve", *folders, "--driver", "qemu=qemu", "--log-level", "warning")
        return [sys.executable, "-B", script, str(self.root), *arguments]

    @property
    def daemon(self) -> Daemon:
        assert self._daemon is not None
        return self._daemon

    @property
    def machine(self) -> libvirt.virDomain:
        return self.connection.lookupByName("m")

    @property
    def connection(self) -> libvirt.virConnect:
        assert self._connection is not None
        return self._connection

    def connect(self) -> None:
        ensure_event_loop()
        self.disconnect()
        self._connection = libvirt.open(self.daemon.qemu_uri)

    def disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def define(self) -> None:
        for disk in DISKS:
            run("qemu-img", "create", "-q", "-f", "qcow2", self.image(disk), self.size)
        disks = "".join(DISK.format(path=self.image(disk), target=disk) for disk in DISKS)
        self.connection.defineXML(DOMAIN.format(disks=disks))

    def start_machine(self) -> None:
        """Paused, because there is nothing to run in it."""
        self.machine.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        (file,) = self.root.glob("state/qemu/lib/*/qemu.pid")
        self.pid = int(file.read_text())

    def write(self, disk: str = "vda", where: str = "0 64k") -> None:
        qemuMonitorCommand(self.machine, f'qemu-io {disk} "write {where}"', 1)

    @contextmanager
    def slow_jobs(self) -> Iterator[None]:
        """Backups that begin meanwhile copy at a byte a second."""
        (self.root / saboteur.SLOW).touch()
        yield
        (self.root / saboteur.SLOW).unlink()

    def close(self) -> None:
        """End everything; a traceback in the log is the daemon's bug."""
        self.call_off()
        self.disconnect()
        if self.daemon.process.poll() is None:
            self.daemon.stop()
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._close_pipe()
        assert "Traceback" not in self.daemon.log, self.daemon.log

    def _close_pipe(self) -> None:
        if self.daemon.process.stdout is not None:
            self.daemon.process.stdout.close()

    def go_on(self) -> None:
        """Let a QEMU that has been stopped answer again."""
        os.kill(self.pid, signal.SIGCONT)

    # Orders
    def order(self, victim: str, number: int) -> None:
        """From now on count steps, and end the victim at that one; 0 is none."""
        (self.root / saboteur.TRACE).unlink(missing_ok=True)
        text = f"{victim} {number} {next(self._orders)}"
        new = self.root / "order.new"
        new.write_text(text)
        new.rename(self.root / saboteur.ORDER)

    def call_off(self) -> None:
        with saboteur.locked(self.root):
            (self.root / saboteur.ORDER).unlink(missing_ok=True)

    def carried_out(self, number: int) -> bool:
        """Call the order off, and say whether its step had been taken before."""
        self.call_off()
        return len(self.steps()) >= number

    def steps(self) -> list[str]:
        """The steps since the last order."""
        try:
            return (self.root / saboteur.TRACE).read_text().splitlines()
        except FileNotFoundError:
            return []

    def all_steps(self) -> list[str]:
        """The same, when nothing is under way any more."""
        seen, still = self.steps(), 0
        while still < QUIET:
            Event().wait(0.02)
            now = self.steps()
            seen, still = now, still + 1 if now == seen else 0
        return seen

    @property
    def dead(self) -> bool:
        """Whether the daemon has ended."""
        return self.daemon.process.poll() is not None

    def kill_daemon(self) -> None:
        """While it does nothing in particular."""
        self.daemon.process.kill()
        self.await_death()

    def await_death(self) -> None:
        """Of the daemon, which somebody has killed."""
        self.daemon.process.wait()
        self._close_pipe()

    def kill_machine(self) -> None:
        """Returns when it is dead, so that a daemon that starts next cannot meet it alive."""
        saboteur.kill(self.pid)

    def limit_files(self, size: int | None, pid: int | None = None) -> None:
        """Let a process, QEMU unless another is named, write no further than that: a full disk."""
        limits = (resource.RLIM_INFINITY if size is None else size, resource.RLIM_INFINITY)
        resource.prlimit(pid or self.pid, resource.RLIMIT_FSIZE, limits)

    def again(self) -> None:
        """Start the daemon in place of one that has been killed."""
        assert self.daemon.process.wait(STOP_DEADLINE) == -signal.SIGKILL, self.daemon.log
        self._close_pipe()
        self.start_daemon()

    def recover(self) -> None:
        """Whatever a failed test has left: go on as if nothing had happened."""
        self.call_off()
        if self.dead:
            self.again()
        self.connect()
        if not self.machine.isActive():
            self.start_machine()
        if self.busy:
            self.machine.abortJob()
            self.await_end()
        self.drop_checkpoints()
        wait_until(self.agrees, "the completion of what was interrupted")
        self.clear()

    def drop_checkpoints(self) -> None:
        """Get rid of all, whatever their bitmaps are like."""
        for found in self.machine.listAllCheckpoints():
            try:
                found.delete()
            except libvirt.libvirtError:
                found.delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
        self.remove_bitmaps()

    # Backups
    def await_end(self) -> None:
        """Wait for the end of the backup, or of the daemon."""
        wait_until(lambda: self.dead or not self._busy_or_dying(), "the end of the backup")

    def _busy_or_dying(self) -> bool:
        try:
            return self.busy
        except libvirt.libvirtError as error:
            stopped = error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID
            return not stopped and not self.dead

    def await_stop(self) -> None:
        """Wait until the end of QEMU has been noticed."""
        wait_until(lambda: not self.machine.isActive(), "the end of the domain")

    def remove_bitmaps(self) -> None:
        """What an administrator does with bitmaps that no checkpoint is left of."""
        nodes = self.query("query-named-block-nodes", flat=True)
        for node in nodes:
            for bitmap in node.get("dirty-bitmaps", ()) if node["drv"] == "qcow2" else ():
                if name := bitmap.get("name"):
                    self.query("block-dirty-bitmap-remove", node=node["node-name"], name=name)

    def pull_xml(self, since: str | None = None) -> str:
        disks = "".join(
            f"<disk name='{disk}' type='file'><scratch file='{self.root}/backup-{disk}'/></disk>"
            for disk in DISKS
        )
        server = f"<server transport='unix' socket='{self.root}/nbd'/>"
        body = f"{_since(since)}{server}<disks>{disks}</disks>"
        return f"<domainbackup mode='pull'>{body}</domainbackup>"

    def push_xml(self, since: str | None = None) -> str:
        disks = "".join(
            f"<disk name='{disk}' type='file'><target file='{self.root}/backup-{disk}'/>"
            "<driver type='qcow2'/></disk>"
            for disk in DISKS
        )
        return f"<domainbackup>{_since(since)}<disks>{disks}</disks></domainbackup>"

    def clear(self) -> None:
        """End what runs, and take away all backups, checkpoints and results."""
        if self.busy:
            self.machine.abortJob()
            self.await_end()
        self.machine.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
        for path in self.root.glob("backup-*"):
            path.unlink()
        for found in self.machine.listAllCheckpoints():
            found.delete(0)
        self.check()


def _since(name: str | None) -> str:
    return "" if name is None else f"<incremental>{name}</incremental>"


Act = Callable[[Site], object]


def attempt(site: Site, act: Act) -> bool:
    """Whether the call succeeded as far as its client can tell."""
    try:
        act(site)
    except libvirt.libvirtError:
        return False
    return True


@contextmanager
def site(root: Path, *, impatient: bool = False) -> Iterator[Site]:
    """A running daemon with a started domain."""
    made = Site(root, impatient=impatient)
    made.start_daemon()
    try:
        made.define()
        made.start_machine()
        yield made
    finally:
        made.close()
