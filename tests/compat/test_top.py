"""`virtbackupd top` against a server: one look, many looks, and the live screen in a terminal."""

import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fcntl import ioctl
from pathlib import Path

import libvirt
import pytest
from binding import wait_until
from contract import push_xml
from daemon_process import Daemon, running_daemon
from watching import EXECUTABLE, tool

DEADLINE = 60.0
HEEDING = ("env", "--default-signal=INT")
"""What a shell has put into the background ignores SIGINT, and so do its children."""
SIZES = {"COLUMNS", "LINES", "NO_COLOR"}
"""What would make the program ignore its terminal."""
WORLD = """
[backup]
rate = "256 KiB"
[[domains]]
name = "test"
[[domains.disks]]
target = "vda"
size = "64 MiB"
seed = 7
"""
"""A push takes four minutes, and is slow from its first byte."""


@pytest.fixture
def daemon(short_dir: Path) -> Iterator[Daemon]:
    (short_dir / "world.toml").write_text(WORLD)
    with running_daemon(short_dir, "--world", str(short_dir / "world.toml")) as running:
        yield running


@pytest.fixture
def pushing(daemon: Daemon, domain: libvirt.virDomain) -> libvirt.virDomain:
    """A slow push backup runs."""
    domain.backupBegin(push_xml(daemon.root / "out.qcow2"), None)
    return domain


def abort(domain: libvirt.virDomain) -> None:
    domain.abortJob()
    wait_until(lambda: not domain.jobStats()["type"], "the job ends")


def test_one_look_shows_states_and_jobs(daemon: Daemon, pushing: libvirt.virDomain) -> None:
    text = tool("top", "--once", "-c", daemon.uri)
    assert re.search(r"^test +running$", text, re.MULTILINE)
    assert re.search(r"^test +backup +\d+%, .* of 64\.0 MiB +\S+ \S+/s ", text, re.MULTILINE)


def test_one_look_as_json(daemon: Daemon, pushing: libvirt.virDomain) -> None:
    told = json.loads(tool("top", "--once", "--json", "-c", daemon.uri))
    assert told["domains"] == [{"name": "test", "state": "running"}]
    (job,) = told["jobs"]
    assert (job["domain"], job["operation"], job["total"]) == ("test", "backup", 64 << 20)
    assert (told["problem"], told["ends"]) == (None, [])


def test_a_pull_shows_its_scratch_space(daemon: Daemon, domain: libvirt.virDomain) -> None:
    server = f"<server transport='unix' socket='{daemon.root}/nbd'/>"
    domain.backupBegin(f"<domainbackup mode='pull'>{server}</domainbackup>", None)
    (job,) = json.loads(tool("top", "--once", "--json", "-c", daemon.uri))["jobs"]
    assert (job["pull"], job["remaining"]) == (True, None)


def test_what_ended_before_is_shown_with_its_reason_and_stays(
    daemon: Daemon, pushing: libvirt.virDomain
) -> None:
    abort(pushing)
    for _ in range(2):
        (end,) = json.loads(tool("top", "--once", "--json", "-c", daemon.uri))["ends"]
        assert (end["outcome"], end["at"]) == ("cancelled", None)
        assert end["reason"] == "Operation canceled"


def test_a_read_only_client_may_look(daemon: Daemon) -> None:
    assert "running" in tool("top", "--once", "-r", "-c", daemon.test_uri + "-ro")


def test_looks_into_a_pipe_go_on_and_tell_of_ends(
    daemon: Daemon, pushing: libvirt.virDomain
) -> None:
    command = [*HEEDING, str(EXECUTABLE), "top", "--json", "--interval", "0.1", "-c", daemon.uri]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            looks = (json.loads(line) for line in process.stdout)
            assert next(looks)["jobs"]
            abort(pushing)
            end = next(look["ends"][0] for look in looks if look["ends"])
            assert (end["domain"], end["outcome"]) == ("test", "cancelled")
            assert abs(end["at"] - time.time()) < DEADLINE
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=DEADLINE)
    assert process.returncode == 130


@dataclass
class Screen:
    """What a program writes to its terminal."""

    process: subprocess.Popen[bytes]
    terminal: int
    seen: bytearray = field(default_factory=bytearray)

    def until(self, *words: str) -> str:
        """All words have appeared since the last call."""
        return self._until(lambda text: all(word in text for word in words), f"{words}")

    def until_back(self) -> None:
        """A whole picture has been drawn that does not complain of the server."""
        whole = re.compile(r"\(q quits\)(?:(?!server away).)*domains", re.DOTALL)
        self._until(lambda text: whole.search(text) is not None, "picture without complaint")

    def _until(self, condition: Callable[[str], bool], what: str) -> str:
        deadline = time.monotonic() + DEADLINE
        while not condition(self._text()):
            assert time.monotonic() < deadline, f"no {what} in {self._text()}"
            if select.select([self.terminal], [], [], 0.1)[0]:
                self.seen += os.read(self.terminal, 65536)
        text = self._text()
        self.seen.clear()
        return text

    def press(self, key: bytes) -> None:
        os.write(self.terminal, key)

    def ended(self) -> int:
        """The exit code; what is written until then is read, so that nothing blocks."""
        wait_until(self._gone, "the program ends")
        return self.process.wait()

    def _gone(self) -> bool:
        if select.select([self.terminal], [], [], 0)[0]:
            self.seen += os.read(self.terminal, 65536)
        return self.process.poll() is not None

    def _text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.seen.decode(errors="replace"))


@contextmanager
def screen(uri: str, rows: int = 30, columns: int = 120) -> Iterator[Screen]:
    """`top` in a terminal of that size."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    before = termios.tcgetattr(theirs)
    command = [str(EXECUTABLE), "top", "--interval", "0.2", "-c", uri]
    environment = {key: value for key, value in os.environ.items() if key not in SIZES}
    environment["TERM"] = "xterm"
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield Screen(process, ours)
        assert termios.tcgetattr(theirs) == before, "the terminal is as it was"
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def test_the_screen_shows_a_job_its_end_and_quits(
    daemon: Daemon, pushing: libvirt.virDomain
) -> None:
    with screen(daemon.uri) as top:
        top.until("test", "running", "backup", "of 64.0 MiB", "remaining")
        abort(pushing)
        top.until("recent ends", "cancelled", "Operation canceled")
        top.press(b"q")
        assert top.ended() == 0


def test_a_signal_ends_the_screen_in_order(daemon: Daemon) -> None:
    with screen(daemon.uri) as top:
        top.until("test", "running")
        top.process.send_signal(signal.SIGINT)
        assert top.ended() == 0


def test_the_screen_outlives_the_server(short_dir: Path) -> None:
    with running_daemon(short_dir) as first:
        uri = first.uri
        with screen(uri) as top:
            top.until("test", "running")
            first.stop()
            top.until("server away")
            with running_daemon(short_dir):
                top.until_back()
                top.press(b"q")
                assert top.ended() == 0


def test_the_screen_follows_the_size_of_the_terminal(daemon: Daemon) -> None:
    with screen(daemon.uri, columns=120) as top:
        assert "q quits" in top.until("q quits")
        ioctl(top.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 40, 0, 0))
        top.process.send_signal(signal.SIGWINCH)
        top.until("…")
        top.press(b"q")
        assert top.ended() == 0


def test_without_a_server_there_is_no_screen(daemon: Daemon) -> None:
    with screen(f"test+unix:///default?socket={daemon.root}/none") as top:
        top.until("virtbackupd: no socket at")
        assert top.ended() == 1
