"""Rubbish on the NBD socket of a pull backup: that connection ends, readers notice nothing."""

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import libvirt
import pytest
from binding import guest
from documents import pull_xml, unix_server
from tools import nbd_read, unix_uri

OPTION_MAGIC = b"IHAVEOPT"
GREETING = 18
FIXED_NEWSTYLE = struct.pack(">I", 1)
EXPORT_NAME, LIST, GO, UNKNOWN = 1, 3, 7, 4711


@pytest.fixture
def served(machine: libvirt.virDomain, short_dir: Path) -> Iterator[Path]:
    """The NBD socket of a pull backup; a reader must get through after each test."""
    guest(machine, "vda", "write -P 0x2a 0 64k")
    machine.backupBegin(pull_xml(unix_server(short_dir / "nbd"), short_dir), None)
    yield short_dir / "nbd"
    assert nbd_read(unix_uri(short_dir / "nbd"), 0, 2) == b"**"
    assert machine.jobStats()["type"] == libvirt.VIR_DOMAIN_JOB_UNBOUNDED


def dial(served: Path) -> socket.socket:
    """A connection that has read the greeting."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(str(served))
    assert client.recv(GREETING, socket.MSG_WAITALL)[:8] == b"NBDMAGIC"
    return client


def option(number: int, payload: bytes = b"", length: int | None = None) -> bytes:
    announced = len(payload) if length is None else length
    return OPTION_MAGIC + struct.pack(">II", number, announced) + payload


def drained(client: socket.socket) -> bytes:
    """Everything up to the end of the connection."""
    data = b""
    try:
        while more := client.recv(65536):
            data += more
    except ConnectionError:
        pass
    return data


@pytest.mark.parametrize(
    "rubbish",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n" * 4, id="another protocol"),
        pytest.param(FIXED_NEWSTYLE + b"x" * 64, id="no option magic"),
        pytest.param(FIXED_NEWSTYLE + option(LIST, length=0xFFFFFFFF), id="huge option"),
        pytest.param(FIXED_NEWSTYLE + option(EXPORT_NAME, b"nothing"), id="unknown export"),
        pytest.param(struct.pack(">I", 0xFFFFFFFF), id="unknown client flags"),
    ],
)
def test_rubbish_ends_the_connection(served: Path, rubbish: bytes) -> None:
    with dial(served) as client:
        client.sendall(rubbish)
        client.shutdown(socket.SHUT_WR)
        drained(client)


def test_an_unknown_option_is_refused_and_the_talk_goes_on(served: Path) -> None:
    with dial(served) as client:
        client.sendall(FIXED_NEWSTYLE + option(UNKNOWN) + option(LIST))
        client.shutdown(socket.SHUT_WR)
        answer = drained(client)
    assert struct.pack(">II", UNKNOWN, 0x80000001) in answer
    assert b"vda" in answer


def test_a_request_of_nonsense_after_negotiation(served: Path) -> None:
    with dial(served) as client:
        name = b"vda"
        client.sendall(FIXED_NEWSTYLE)
        client.sendall(option(GO, struct.pack(">I", len(name)) + name + bytes(2)))
        assert client.recv(8)
        client.sendall(b"\xff" * 28)
        drained(client)


def test_silent_and_half_open_connections(served: Path) -> None:
    with ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(dial(served)).sendall(FIXED_NEWSTYLE[:2])
        assert nbd_read(unix_uri(served), 0, 1) == b"*"


def test_a_reader_that_never_takes_its_data(served: Path) -> None:
    with dial(served) as client:
        name = b"vda"
        client.sendall(FIXED_NEWSTYLE)
        client.sendall(option(GO, struct.pack(">I", len(name)) + name + bytes(2)))
        read = struct.pack(">IHHQQI", 0x25609513, 0, 0, 1, 0, 1 << 20)
        for _ in range(64):
            client.sendall(read)
        assert nbd_read(unix_uri(served), 0, 1) == b"*"
