"""What systemd passes and what it is told, over real sockets."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from datagrams import listening_at
from trio.testing import MockClock

from virtbackupd.server.systemd import Notifier, passed_sockets

TLS_PORT = 16514


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with listening_at(tmp_path / "notify") as found:
        yield found


def notifier(listener: socket.socket, **more: str) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": listener.getsockname(), **more})


def test_ready_with_a_status(listener: socket.socket) -> None:
    notifier(listener).ready("Serving")
    assert listener.recv(999) == b"READY=1\nSTATUS=Serving"


def test_reloading_with_its_time(listener: socket.socket) -> None:
    notifier(listener).reloading()
    first, second = listener.recv(999).decode().splitlines()
    assert first == "RELOADING=1"
    assert int(second.removeprefix("MONOTONIC_USEC=")) > 0


def test_stopping(listener: socket.socket) -> None:
    notifier(listener).stopping()
    assert listener.recv(999).startswith(b"STOPPING=1\n")


def test_abstract_address() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        name = f"virtbackupd-test-{os.getpid()}"
        listening.bind(f"\0{name}")
        listening.settimeout(20)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).status("here")
        assert listening.recv(999) == b"STATUS=here"


def test_without_systemd_nothing_is_told() -> None:
    Notifier({}).ready("Serving")


def test_systemd_that_has_gone_stops_nobody(tmp_path: Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("Serving")


def test_no_child_sees_the_variables(listener: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": listener.getsockname(), "WATCHDOG_USEC": "1", "HOME": "/"}
    Notifier(environment)
    assert environment == {"HOME": "/"}


async def test_watchdog_hears_of_us_three_times_in_its_interval(
    listener: socket.socket, autojump_clock: MockClock
) -> None:
    listener.settimeout(0)
    with trio.move_on_after(10.5):
        await notifier(listener, WATCHDOG_USEC="3000000").beat()
    assert [listener.recv(99) for _ in range(11)] == [b"WATCHDOG=1"] * 11


async def test_watchdog_of_another_process_is_not_ours(listener: socket.socket) -> None:
    await notifier(listener, WATCHDOG_USEC="3000000", WATCHDOG_PID="1").beat()


async def test_without_watchdog_there_is_no_beat(listener: socket.socket) -> None:
    await notifier(listener).beat()


PASSING = """
import os
from virtbackupd.server.systemd import passed_sockets
os.environ["LISTEN_PID"] = str(os.getpid())
for passed in passed_sockets(os.environ, 16514):
    print(passed.kind, os.get_inheritable(passed.socket.fileno()), passed.socket.getblocking())
    passed.socket.detach()
print(sorted(name for name in os.environ if name.startswith("LISTEN_")))
"""


def kinds(*sockets: socket.socket, names: str = "") -> list[str]:
    """What a process of its own makes of these, which it gets from 3 on."""
    # Out of the way first, so that no move covers another.
    high = [f"os.dup2({s.fileno()}, {100 + n})" for n, s in enumerate(sockets)]
    moves = [f"os.dup2({100 + n}, {3 + n})" for n in range(len(sockets))]
    code = "import os\n" + "\n".join([*high, *moves]) + PASSING
    done = subprocess.run(
        [sys.executable, "-c", code],
        pass_fds=[s.fileno() for s in sockets],
        env={**os.environ, "LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": names},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    *found, left = done.stdout.splitlines()
    assert left == "[]"
    return found


@pytest.fixture
def sockets(tmp_path: Path) -> Iterator[list[socket.socket]]:
    names = ["libvirt-sock", "libvirt-sock-ro", "libvirt-admin-sock"]
    opened = [socket.socket(socket.AF_UNIX) for _ in names]
    for each, name in zip(opened, names, strict=True):
        each.bind(str(tmp_path / name))
        each.listen()
    opened.append(socket.create_server(("127.0.0.1", 0)))
    yield opened
    for each in opened:
        each.close()


def test_sockets_by_their_addresses(sockets: list[socket.socket]) -> None:
    found = kinds(*sockets)
    assert [line.split()[0] for line in found] == ["rw", "ro", "admin", "tcp"]


def test_sockets_by_their_names(sockets: list[socket.socket]) -> None:
    names = "x-admin.socket:x.socket:x-ro.socket:x-tls.socket"
    found = kinds(*sockets, names=names)
    assert [line.split()[0] for line in found] == ["admin", "rw", "ro", "tls"]


def test_passed_sockets_are_kept_from_children_and_do_not_block(
    sockets: list[socket.socket],
) -> None:
    assert kinds(sockets[0]) == ["rw False False"]


def test_sockets_of_another_process_are_not_ours() -> None:
    environment = {"LISTEN_FDS": "2", "LISTEN_PID": "1"}
    assert passed_sockets(environment, TLS_PORT) == []
    assert environment == {}
