"""A domain of one test's own, driven through stock virsh, and a listener for its events.

Knows virsh's command line and its output; nothing of the daemon's inside.
"""

import selectors
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from documents import EMPTY_CDROM, disk_element, domain_xml

CLIENT_DEADLINE = 180.0
CONDITION_DEADLINE = 60.0
POLL_INTERVAL = 0.02

SERIAL_AND_AGENT = """
    <serial type='pty'/>
    <console type='pty'/>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"""


def run_virsh(
    uri: str,
    *arguments: str,
    status: int = 0,
    environment: dict[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> str:
    """Standard output and error of virsh, joined, without surrounding white space."""
    done = subprocess.run(
        [*prefix, "virsh", "-c", uri, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=CLIENT_DEADLINE,
        check=False,
        env=environment,
    )
    assert done.returncode == status, f"virsh {arguments}: {done.returncode}\n{done.stdout}"
    return done.stdout.strip()


def until(condition: Callable[[], bool], what: str) -> None:
    """Poll a condition of another process; fail when it does not hold by the deadline."""
    deadline = time.monotonic() + CONDITION_DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(POLL_INTERVAL)


@dataclass(frozen=True, slots=True)
class Guest:
    """One domain; `folder` holds its disks and whatever its test writes."""

    uri: str
    name: str
    folder: Path

    def virsh(
        self,
        command: str,
        *arguments: str,
        status: int = 0,
        environment: dict[str, str] | None = None,
    ) -> str:
        """Run `virsh COMMAND DOMAIN ARGUMENTS…`."""
        return run_virsh(
            self.uri, command, self.name, *arguments, status=status, environment=environment
        )

    @property
    def read_only(self) -> "Guest":
        """The same domain through the read-only socket."""
        return Guest(f"{self.uri}-ro", self.name, self.folder)

    def define(self, document: str) -> str:
        return run_virsh(self.uri, "define", self.file(document))

    def file(self, text: str, name: str = "input.xml") -> str:
        """Write `text` into a file of the guest's folder; returns the path."""
        path = self.folder / name
        path.write_text(text)
        return str(path)

    @property
    def domain_xml(self) -> str:
        """Two qcow2 disks, an empty CD-ROM, a console and the agent's channel."""
        disks = [disk_element(name, self.folder / f"{name}.qcow2") for name in ("vda", "vdb")]
        return domain_xml(self.name, "".join([*disks, EMPTY_CDROM, SERIAL_AND_AGENT]))

    def checkpoint(self, *names: str) -> None:
        """Create checkpoints, one after the other."""
        for name in names:
            self.virsh("checkpoint-create-as", name)

    def checkpoints(self, *options: str) -> list[str]:
        """Names that `checkpoint-list` shows."""
        return self.virsh("checkpoint-list", *options, "--name").split()

    def redefine(self, name: str, parent: str | None = None) -> None:
        """Add a checkpoint's metadata below any parent; the only way to get branches."""
        above = f"<parent><name>{parent}</name></parent>" if parent else ""
        xml = f"<domaincheckpoint><name>{name}</name>{above}<creationTime>1700000000</creationTime>"
        path = self.file(f"{xml}<disks><disk name='vda'/></disks></domaincheckpoint>")
        self.virsh("checkpoint-create", path, "--redefine")

    def monitor(self, command: str) -> str:
        """What the human monitor answers."""
        return self.virsh("qemu-monitor-command", "--hmp", command)

    def pull_xml(self, inside: str = "", *, disks: str = "") -> str:
        """A file with a pull backup on a socket in the guest's folder."""
        server = f"<server transport='unix' socket='{self.folder}/nbd.sock'/>"
        body = f"{inside}{server}{f'<disks>{disks}</disks>' if disks else ''}"
        return self.file(f"<domainbackup mode='pull'>{body}</domainbackup>", "pull.xml")

    def push_xml(self, disks: str, inside: str = "") -> str:
        """A file with a push backup of the given disks."""
        return self.file(f"<domainbackup>{inside}<disks>{disks}</disks></domainbackup>", "push.xml")

    def checkpoint_xml(self, name: str) -> str:
        """A file that asks for a checkpoint of that name."""
        text = f"<domaincheckpoint><name>{name}</name></domaincheckpoint>"
        return self.file(text, f"{name}.xml")

    def begin_pull(self, *options: str) -> None:
        self.virsh("backup-begin", self.pull_xml(), *options)

    def job_ended(self) -> bool:
        return self.virsh("domjobinfo").split() == ["Job", "type:", "None"]

    def wait_for_job_end(self) -> None:
        until(self.job_ended, f"end of the job of {self.name}")

    def completed_job(self) -> dict[str, str]:
        """The last job's record, once there is one, by the names of its typed parameters."""
        self.wait_for_job_end()
        text = self.virsh("domjobinfo", "--completed", "--keep-completed", "--rawstats")
        return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)


@dataclass(slots=True)
class EventWatch:
    """A running `virsh event`; reads what it prints up to a mark that the watch itself causes."""

    guest: Guest
    process: "subprocess.Popen[str]"
    lines: list[str] = field(default_factory=list)

    def mark(self, name: str) -> None:
        """Cause an event that nothing else causes: metadata under a URI of our own."""
        uri = f"http://mark.invalid/{name}"
        self.guest.virsh("metadata", uri, "--key", "m", "--set", "<m/>")

    def wait_until_registered(self) -> None:
        """Mark until the listener prints a mark: from then on it sees everything."""
        with selectors.DefaultSelector() as selector:
            selector.register(_pipe(self.process), selectors.EVENT_READ)
            until(lambda: self._answers(selector), "registration of virsh event")
        self.read_to("begin")

    def _answers(self, selector: selectors.BaseSelector) -> bool:
        self.mark("begin")
        return bool(selector.select(0.0))

    def read_to(self, mark: str) -> list[str]:
        """Lines before the mark, without any marks."""
        self.mark(f"{mark}-end")
        found: list[str] = []
        for line in _pipe(self.process):
            if f"/{mark}-end" in line:
                return found
            if "mark.invalid" not in line and line.strip():
                found.append(line.rstrip("\n"))
        raise AssertionError(f"virsh event ended early: {found}")

    def events(self) -> list[str]:
        """All since registration (or the last call), as `kind: text`, without the domain's name."""
        middle = f"' for domain '{self.guest.name}'"
        heads = [line for line in self.read_to("here") if line.startswith("event '")]
        return [line.removeprefix("event '").replace(middle, "", 1) for line in heads]

    def gather(self, count: int) -> list[str]:
        """Events since registration (or the last call), as soon as there are `count` of them."""
        found: list[str] = []

        def enough() -> bool:
            found.extend(self.events())
            return len(found) >= count

        until(enough, f"{count} events")
        return found


def _pipe(process: "subprocess.Popen[str]") -> IO[str]:
    assert process.stdout is not None
    return process.stdout


@contextmanager
def watching(guest: Guest, *options: str) -> Iterator[EventWatch]:
    """Listen until the block ends with `virsh event --loop`, to all events of the guest."""
    deadline = ["--timeout", str(int(CLIENT_DEADLINE))]
    own = ["--all", "--domain", guest.name]
    process = subprocess.Popen(
        ["virsh", "-c", guest.uri, "event", "--loop", *deadline, *(options or own)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            watch = EventWatch(guest, process)
            watch.wait_until_registered()
            yield watch
        finally:
            process.kill()
