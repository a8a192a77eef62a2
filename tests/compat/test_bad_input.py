"""Rubbish from outside: each gets an error or a closed connection, and nobody else notices."""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from binding import connected, error_code
from daemon_process import Daemon
from tools import run

HEADER = struct.Struct(">IIiiIi")
REMOTE = 0x20008086
AUTH_LIST, OPEN, GET_CAPABILITIES = 66, 1, 7
REPLY, MESSAGE, ERROR = 1, 2, 1
KEEPALIVE, PING, PONG = 0x6B656570, 1, 2
CLIENTS = 300
FLOOD = 20_000


class RawClient:
    """A socket that can say anything and reads whole frames."""

    def __init__(self, daemon: Daemon) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(str(daemon.socket))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def call(
        self, procedure: int, payload: bytes = b"", program: int = REMOTE, version: int = 1
    ) -> None:
        header = HEADER.pack(program, version, procedure, 0, 7, 0)
        self.send(struct.pack(">I", 28 + len(payload)) + header + payload)

    def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count and (more := self.socket.recv(count - len(data))):
            data += more
        return data

    def reply(self) -> tuple[int, int, int, bytes]:
        """Type, serial, status and payload of the next frame."""
        (length,) = struct.unpack(">I", self.exactly(4))
        frame = self.exactly(length - 4)
        *_, kind, serial, status = HEADER.unpack(frame[:24])
        return kind, serial, status, frame[24:]

    def closed(self) -> bool:
        """Whether the daemon hangs up before the time-out."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionError:
            return True
        return True


@pytest.fixture
def raw(module_daemon: Daemon) -> Iterator[RawClient]:
    client = RawClient(module_daemon)
    yield client
    client.socket.close()


@pytest.fixture(autouse=True)
def others_notice_nothing(module_daemon: Daemon) -> Iterator[None]:
    """Another client works on before and after each piece of rubbish."""
    with connected(module_daemon.uri) as connection:
        yield
        assert [found.name() for found in connection.listAllDomains()] == ["test"]


@pytest.mark.parametrize("length", [0, 3, 4, 27, 33_554_437, 0x7FFFFFFF, 0xFFFFFFFF])
def test_impossible_length(raw: RawClient, length: int) -> None:
    raw.send(struct.pack(">I", length) + bytes(64))
    assert raw.closed()


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\0", b"\xff" * 99]
)
def test_another_protocol(raw: RawClient, garbage: bytes) -> None:
    raw.send(garbage)
    raw.socket.shutdown(socket.SHUT_WR)
    assert raw.closed()


def test_half_a_message_then_silence(raw: RawClient, module_daemon: Daemon) -> None:
    raw.send(struct.pack(">I", 28) + b"\x20\0")
    with connected(module_daemon.uri) as connection:
        assert connection.lookupByName("test").isActive()


def test_half_a_message_then_the_end(raw: RawClient) -> None:
    raw.send(struct.pack(">I", 28) + b"\x20\0")
    raw.socket.shutdown(socket.SHUT_WR)
    assert raw.closed()


def test_byte_by_byte(raw: RawClient) -> None:
    message = struct.pack(">I", 28) + HEADER.pack(REMOTE, 1, AUTH_LIST, 0, 3, 0)
    for position in range(len(message)):
        raw.send(message[position : position + 1])
    assert raw.reply()[:3] == (REPLY, 3, 0)


def test_a_huge_announced_message_takes_no_memory(raw: RawClient, module_daemon: Daemon) -> None:
    before = resident(module_daemon)
    raw.send(struct.pack(">I", 33_554_436) + b"\x20")
    raw.call(AUTH_LIST)
    assert resident(module_daemon) - before < 8 << 20


def resident(daemon: Daemon) -> int:
    """Resident memory of the daemon in bytes."""
    with Path(f"/proc/{daemon.process.pid}/statm").open() as figures:
        return int(figures.read().split()[1]) * 4096


@pytest.mark.parametrize(
    ("procedure", "program", "version"),
    [
        (0, REMOTE, 1),
        (9999, REMOTE, 1),
        (-1, REMOTE, 1),
        (107, REMOTE, 1),
        (AUTH_LIST, 0x12345678, 1),
        (AUTH_LIST, REMOTE, 2),
    ],
)
def test_unknown_calls_get_an_error(
    raw: RawClient, procedure: int, program: int, version: int
) -> None:
    raw.call(procedure, b"", program, version)
    kind, serial, status, payload = raw.reply()
    assert (kind, serial, status) == (REPLY, 7, ERROR)
    assert struct.unpack(">ii", payload[:8]) == (39, 7)


@pytest.mark.parametrize(
    "payload", [b"", b"\0\0\0\1", struct.pack(">II", 1, 0xFFFFFFFF), struct.pack(">II", 1, 5000000)]
)
def test_undecodable_arguments(raw: RawClient, payload: bytes) -> None:
    raw.call(OPEN, payload)
    *_, status, error = raw.reply()
    assert status == ERROR
    assert struct.unpack(">ii", error[:8]) == (39, 7)


def test_calls_before_open(raw: RawClient) -> None:
    raw.call(59)
    *_, status, error = raw.reply()
    assert (status, struct.unpack(">i", error[:4])[0]) == (ERROR, 1)


@pytest.mark.parametrize("kind", [1, 2, 3, 9])
def test_stray_frame_types_are_dropped(raw: RawClient, kind: int) -> None:
    raw.send(struct.pack(">I", 28) + HEADER.pack(REMOTE, 1, AUTH_LIST, kind, 1, 0))
    raw.call(AUTH_LIST)
    assert raw.reply()[:3] == (REPLY, 7, 0)


def test_a_ping_is_answered_before_anything_else(raw: RawClient) -> None:
    raw.send(struct.pack(">I", 28) + HEADER.pack(KEEPALIVE, 1, PING, MESSAGE, 0, 0))
    assert raw.exactly(28) == struct.pack(">I", 28) + HEADER.pack(KEEPALIVE, 1, PONG, MESSAGE, 0, 0)


def test_many_idle_connections(module_daemon: Daemon) -> None:
    clients = [RawClient(module_daemon) for _ in range(CLIENTS)]
    assert "test" in run("virsh", "-c", module_daemon.uri, "list", "--name")
    for client in clients:
        client.socket.close()


def test_a_client_that_never_reads(raw: RawClient) -> None:
    uri = b"test:///default"
    raw.call(OPEN, struct.pack(">II", 1, len(uri)) + uri + b"\0" + bytes(4))
    raw.socket.settimeout(0.5)
    asked = 0
    try:
        while asked < FLOOD:
            raw.call(GET_CAPABILITIES)
            asked += 1
    except OSError:
        assert asked > 0
    with connected(f"test+unix:///default?socket={raw.socket.getpeername()}") as connection:
        assert connection.lookupByName("test").isActive()


@pytest.mark.parametrize(
    "xml",
    [
        pytest.param("<a>" * 5000 + "</a>" * 5000, id="deep"),
        pytest.param(
            "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/hostname'>]><domain>&e;</domain>",
            id="entity",
        ),
        pytest.param("", id="empty"),
        pytest.param("\x01", id="control character"),
        pytest.param("<domain/>", id="no name"),
        pytest.param(f"<domain><name>{'x' * (4 << 20)}</name></domain>", id="oversized"),
    ],
)
def test_wrong_documents(module_daemon: Daemon, xml: str) -> None:
    with connected(module_daemon.uri) as connection:
        assert error_code(lambda: connection.defineXML(xml)) in (1, 8, 21, 27, 35, 39)
        assert connection.isAlive()
