"""What a configuration file changes, seen from outside."""

import re
import socket
import struct
from pathlib import Path

from binding import connected, wait_until
from daemon_process import Daemon, running_daemon
from tools import run

PING_FRAME = struct.pack(">IIIiiIi", 28, 0x6B656570, 1, 1, 2, 0, 0)
FEATURE_CALL = struct.pack(">IIIiiIii", 32, 0x20008086, 1, 60, 0, 0, 0, 10)


def configured(root: Path, text: str) -> tuple[str, str]:
    """The options that make a daemon read this configuration."""
    path = root / "virtbackupd.toml"
    path.write_text(text)
    return "--config", str(path)


def lines(daemon: Daemon) -> str:
    """What the daemon printed, read after its end."""
    assert daemon.process.stdout is not None
    return daemon.process.stdout.read()


def test_an_unknown_key_is_named_with_its_line(short_dir: Path) -> None:
    options = configured(short_dir, "max_clients = 10\nmax_cleints = 5\n")
    with running_daemon(short_dir, *options) as daemon:
        assert re.search(r"virtbackupd\.toml:2: .*max_cleints", daemon.log)


def test_drivers_and_tcp_come_from_the_file(short_dir: Path) -> None:
    options = configured(short_dir, "tcp = ['127.0.0.1:0']\n")
    with running_daemon(short_dir, *options) as daemon:
        daemon.stop()
        assert "+tcp://127.0.0.1:" in lines(daemon)


def test_an_option_wins_over_the_file(short_dir: Path) -> None:
    options = configured(short_dir, "socket_dir = '/nowhere/at/all'\n")
    with running_daemon(short_dir, *options) as daemon:
        assert "test" in run("virsh", "-c", daemon.uri, "list", "--name")


def test_at_the_limit_of_clients_the_next_one_waits(short_dir: Path) -> None:
    options = configured(short_dir, "max_clients = 2\n")
    with running_daemon(short_dir, *options) as daemon, socket.socket(socket.AF_UNIX) as third:
        with connected(daemon.uri), connected(daemon.uri):
            third.connect(str(daemon.socket))
            third.sendall(FEATURE_CALL)
            third.settimeout(0.3)
            assert not readable(third)
        wait_until(lambda: readable(third), "the third client gets its turn")


def readable(client: socket.socket) -> bool:
    """Whether an answer is there within the socket's time-out."""
    try:
        return bool(client.recv(1))
    except TimeoutError:
        return False


def test_a_client_that_does_not_answer_pings_is_dropped(short_dir: Path) -> None:
    options = configured(short_dir, "keepalive_interval = 1\nkeepalive_count = 1\n")
    with running_daemon(short_dir, *options) as daemon, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(daemon.socket))
        client.settimeout(60)
        client.sendall(FEATURE_CALL)
        received = b""
        while data := client.recv(4096):
            received += data
        assert PING_FRAME in received


def test_a_client_with_event_loop_answers_pings(short_dir: Path) -> None:
    # The count gives this process four seconds to get a turn, on however busy a machine.
    options = configured(short_dir, "keepalive_interval = 1\nkeepalive_count = 4\n")
    with running_daemon(short_dir, *options) as daemon, connected(daemon.uri) as connection:
        with socket.socket(socket.AF_UNIX) as dropped:
            dropped.connect(str(daemon.socket))
            dropped.sendall(FEATURE_CALL)
            dropped.settimeout(60)
            while dropped.recv(4096):
                pass
        assert connection.isAlive() == 1
        assert connection.listAllDomains()
