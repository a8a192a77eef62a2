"""The smallest possible client: frames by hand over Unix sockets, so that the server dominates.

The frame layout is libvirt's (virnetprotocol.x); nothing of our own protocol code is used, so that
both servers are measured by the same stranger.
"""

import select
import socket
import struct
import time
from pathlib import Path

REMOTE_PROGRAM = 0x20008086
CONNECT_OPEN = 1
CONNECT_GET_LIB_VERSION = 157
HEADER = struct.Struct(">IIIiIIi")


def frame(procedure: int, serial: int, payload: bytes = b"") -> bytes:
    """One call with its length word."""
    length = HEADER.size + len(payload)
    return HEADER.pack(length, REMOTE_PROGRAM, 1, procedure, 0, serial, 0) + payload


def _receive_exactly(connection: socket.socket, count: int) -> bytes:
    parts = b""
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise ConnectionError("the server closed the connection")
        parts += part
    return parts


def call(connection: socket.socket, message: bytes) -> bytes:
    """Send one call and wait for its whole reply."""
    connection.sendall(message)
    length = struct.unpack(">I", _receive_exactly(connection, 4))[0]
    return _receive_exactly(connection, length - 4)


def opened(path: Path, uri: bytes = b"test:///default") -> socket.socket:
    """A connection on which the hypervisor is open."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(str(path))
    padding = b"\0" * (-len(uri) % 4)
    call(
        connection,
        frame(CONNECT_OPEN, 0, struct.pack(">II", 1, len(uri)) + uri + padding + b"\0" * 4),
    )
    return connection


def serial_latencies(path: Path, count: int) -> list[float]:
    """Seconds of each of `count` small calls, one after the other on one connection."""
    message = frame(CONNECT_GET_LIB_VERSION, 1)
    taken = []
    with opened(path) as connection:
        for _ in range(count):
            start = time.perf_counter()
            connection.sendall(message)
            connection.recv(4096)
            taken.append(time.perf_counter() - start)
    return taken


def parallel_rate(path: Path, connections: int, seconds: float) -> float:
    """Calls per second with one call always outstanding on each of `connections`."""
    message = frame(CONNECT_GET_LIB_VERSION, 1)
    peers = [opened(path) for _ in range(connections)]
    poller = select.epoll()
    by_number = {peer.fileno(): peer for peer in peers}
    for peer in peers:
        poller.register(peer, select.EPOLLIN)
        peer.sendall(message)
    done = 0
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        for number, _ in poller.poll(1):
            peer = by_number[number]
            peer.recv(4096)
            peer.send(message)
            done += 1
    for peer in peers:
        peer.close()
    poller.close()
    return done / elapsed
