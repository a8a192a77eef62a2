"""The daemon as a service: sockets passed in, systemd told, reloads, the end of an idle one."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from binding import connected, wait_until
from daemon_process import READY_DEADLINE, STOP_DEADLINE, running_daemon, serve_command
from datagrams import listening_at
from tools import run

PASSING = """
import os, sys
end = sys.argv.index("--")
# Out of the way first, so that none covers another.
for place, number in enumerate(sys.argv[1:end]):
    os.dup2(int(number), 100 + place)
for place in range(end - 1):
    os.dup2(100 + place, 3 + place)
    os.close(100 + place)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(end - 1))
os.execv(sys.argv[end + 1], sys.argv[end + 1:])
"""
"""Puts sockets where systemd does, and becomes the daemon."""


@pytest.fixture
def notified(short_dir: Path) -> Iterator[socket.socket]:
    with listening_at(short_dir / "notify") as found:
        yield found


@contextmanager
def service(
    root: Path,
    *options: str,
    passed: Sequence[socket.socket] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator["subprocess.Popen[str]"]:
    """A daemon as systemd starts it, with its first words still unread."""
    numbers = [sock.fileno() for sock in passed]
    with (root / "daemon.log").open("w") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                PASSING,
                *map(str, numbers),
                "--",
                *serve_command(root, options),
            ],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            pass_fds=numbers,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(STOP_DEADLINE)
    assert "Traceback" not in (root / "daemon.log").read_text()


def word(notified: socket.socket) -> Mapping[str, str]:
    return dict(line.split("=", 1) for line in notified.recv(4096).decode().splitlines())


def test_systemd_hears_of_ready_and_of_the_end(short_dir: Path, notified: socket.socket) -> None:
    with service(short_dir, environment={"NOTIFY_SOCKET": str(short_dir / "notify")}) as process:
        assert word(notified)["READY"] == "1"
        process.terminate()
        assert word(notified)["STOPPING"] == "1"


def test_watchdog_is_fed(short_dir: Path, notified: socket.socket) -> None:
    more = {"NOTIFY_SOCKET": str(short_dir / "notify"), "WATCHDOG_USEC": "300000"}
    with service(short_dir, environment=more):
        assert word(notified)["READY"] == "1"
        assert [word(notified) for _ in range(3)] == [{"WATCHDOG": "1"}] * 3


def test_reload_is_announced_and_changes_the_log(short_dir: Path, notified: socket.socket) -> None:
    file, log = short_dir / "conf", short_dir / "calls.log"
    file.write_text(f'log_outputs = "1:file:{log}"\n')
    more = {"NOTIFY_SOCKET": str(short_dir / "notify")}
    with service(short_dir, "--config", str(file), environment=more) as process:
        word(notified)
        file.write_text(file.read_text() + 'log_filters = "1:call_log"\nlog_format = "json"\n')
        process.send_signal(signal.SIGHUP)
        assert word(notified)["RELOADING"] == "1"
        assert word(notified)["READY"] == "1"
        with connected(f"test+unix:///default?socket={short_dir}/run/libvirt-sock") as connection:
            connection.getHostname()
        wait_until(lambda: "virConnectGetHostname" in log.read_text(), "the call is logged")
    told = json.loads(
        next(line for line in log.read_text().splitlines() if "virConnectGetHostname" in line)
    )
    assert told["client"] == 1
    assert told["duration"] > 0


PING = struct.pack(">IIIiiIi", 28, 0x6B656570, 1, 1, 2, 0, 0)
KNOWS_KEEPALIVE = struct.pack(">IIIiiIii", 32, 0x20008086, 1, 60, 0, 0, 0, 10)


def test_reload_changes_keepalive_and_who_may_open_the_sockets(
    short_dir: Path, notified: socket.socket
) -> None:
    file, path = short_dir / "conf", short_dir / "run" / "libvirt-sock"
    file.write_text("keepalive_interval = -1\n")
    more = {"NOTIFY_SOCKET": str(short_dir / "notify")}
    with (
        service(short_dir, "--config", str(file), environment=more) as process,
        socket.socket(socket.AF_UNIX) as client,
    ):
        word(notified)
        client.connect(str(path))
        client.settimeout(READY_DEADLINE)
        client.sendall(KNOWS_KEEPALIVE)
        file.write_text('keepalive_interval = 1\nunix_sock_rw_perms = "0660"\n')
        process.send_signal(signal.SIGHUP)
        assert word(notified)["RELOADING"] == "1"
        assert word(notified)["STATUS"] == "Ready"
        assert path.stat().st_mode & 0o777 == 0o660
        received = b""
        while PING not in received:
            chunk = client.recv(4096)
            assert chunk
            received += chunk


def test_reload_of_a_wrong_file_leaves_all_as_it_was(
    short_dir: Path, notified: socket.socket
) -> None:
    file = short_dir / "conf"
    file.write_text("max_clients = 7\n")
    more = {"NOTIFY_SOCKET": str(short_dir / "notify")}
    with service(short_dir, "--config", str(file), environment=more) as process:
        word(notified)
        file.write_text("max_clients = 0\n")
        process.send_signal(signal.SIGHUP)
        assert word(notified)["RELOADING"] == "1"
        assert "max_clients: 0 is not allowed" in word(notified)["STATUS"]


def test_passed_sockets_serve_instead_of_our_own(short_dir: Path) -> None:
    names = ("given", "given-ro")
    with socket.socket(socket.AF_UNIX) as rw, socket.socket(socket.AF_UNIX) as ro:
        for each, name in zip((rw, ro), names, strict=True):
            each.bind(str(short_dir / name))
            each.listen()
        with service(short_dir, passed=(ro, rw)) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready: 2 sockets")
            uri = f"test+unix:///default?socket={short_dir}/given"
            announced = [process.stdout.readline() for _ in range(5)]
            assert f"try: virsh -c '{uri}' list --all\n" in announced
            assert "test" in run("virsh", "-c", uri, "list", "--name")
            with connected(f"{uri}-ro") as connection:
                assert connection.listAllDomains()
            assert not (short_dir / "run" / "libvirt-sock").exists()
        assert (short_dir / "given").exists()


def test_idle_daemon_ends_by_itself(short_dir: Path) -> None:
    world = short_dir / "world.toml"
    world.write_text('[[domains]]\nname = "off"\nstate = "shutoff"\n')
    with service(short_dir, "--timeout", "1", "--world", str(world)) as process:
        assert process.wait(STOP_DEADLINE) == 0


def test_group_and_permissions_of_the_sockets(short_dir: Path) -> None:
    file = short_dir / "conf"
    file.write_text('unix_sock_rw_perms = "0660"\nunix_sock_ro_perms = "0666"\n')
    with running_daemon(short_dir, "--config", str(file)) as daemon:
        assert daemon.socket.stat().st_mode & 0o777 == 0o660
        assert Path(f"{daemon.socket}-ro").stat().st_mode & 0o777 == 0o666
