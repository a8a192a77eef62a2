"""A real daemon under many bad peers at once: the local administrator gets through."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from certificates import make_pki
from daemon_process import Daemon, running_daemon

from virtbackupd.protocol import schema
from virtbackupd.protocol.client import decode_frame, encode_call

MOST_GROWTH = 64 << 10
"""KiB of memory that 300 peers with half a message may cost."""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with TemporaryDirectory(prefix="vb-") as name:
        root = Path(name)
        pki = make_pki(root / "pki")
        config = root / "conf"
        config.write_text(
            f'ca_file = "{pki.ca}"\ncert_file = "{pki.cert}"\nkey_file = "{pki.key}"\n'
            "max_anonymous_clients = 20\n"
        )
        options = ("--tls", "127.0.0.1:0", "--config", str(config))
        with running_daemon(root, *options) as running:
            yield running


def tls_address(daemon: Daemon) -> tuple[str, int]:
    host, _, port = daemon.network_uri("tls").partition("//")[2].partition("/")[0].rpartition(":")
    return host, int(port)


class Caller:
    """A good client."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(str(path))
        self.call("CONNECT_OPEN", "test:///default", 0)

    def call(self, name: str, *args: object) -> None:
        self._socket.sendall(encode_call(schema.load().by_name[name], 7, args))
        reply = decode_frame(self._socket.recv(65_536))
        assert reply.error() is None, reply.error()

    def close(self) -> None:
        self._socket.close()


@contextmanager
def caller(daemon: Daemon) -> Iterator[Caller]:
    found = Caller(daemon.socket)
    try:
        yield found
    finally:
        found.close()


def resident(daemon: Daemon) -> int:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def test_silent_tls_peers_do_not_keep_local_clients_out(daemon: Daemon) -> None:
    with ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(socket.create_connection(tls_address(daemon), 60))
        with caller(daemon) as good:
            for _ in range(100):
                good.call("CONNECT_GET_LIB_VERSION")


def test_half_messages_take_no_memory_for_what_was_announced(daemon: Daemon) -> None:
    before = resident(daemon)
    with ExitStack() as stack:
        for _ in range(300):
            peer = stack.enter_context(socket.socket(socket.AF_UNIX))
            peer.settimeout(60)
            peer.connect(str(daemon.socket))
            peer.sendall((33_000_000).to_bytes(4, "big") + bytes(24))
        with caller(daemon) as good:
            for _ in range(100):
                good.call("CONNECT_GET_LIB_VERSION")
        assert resident(daemon) - before < MOST_GROWTH


def test_flood_of_connections_does_not_stop_calls(daemon: Daemon) -> None:
    over = threading.Event()
    made = [0, 0]

    def flood(index: int) -> None:
        while not over.is_set():
            with socket.socket(socket.AF_UNIX) as peer:
                # Blocking: with a time-out a full queue is an error at once.
                peer.connect(str(daemon.socket))
            made[index] += 1

    threads = [threading.Thread(target=flood, args=(index,)) for index in range(2)]
    with caller(daemon) as good:
        for thread in threads:
            thread.start()
        try:
            while min(made) < 300 and all(thread.is_alive() for thread in threads):
                good.call("CONNECT_GET_LIB_VERSION")
        finally:
            over.set()
            for thread in threads:
                thread.join()
        good.call("CONNECT_GET_LIB_VERSION")
    assert min(made) >= 300


def test_garbage_on_the_tls_port_is_counted_out(daemon: Daemon) -> None:
    for data in (b"\0\0\0\x1c" * 7, b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n"):
        with socket.create_connection(tls_address(daemon), 60) as peer:
            peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)
            answer = peer.recv(4096)
        assert not answer.startswith(b"\x01"), "the confirmation byte was sent"
    with caller(daemon) as good:
        good.call("CONNECT_GET_LIB_VERSION")
