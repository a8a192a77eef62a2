"""Many clients of one kind against one Unix socket, good or bad, until this process is killed.

Prints `ready` when all are connected. Speaks only to the socket it is given.
"""

import contextlib
import resource
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import raw_calls

REGISTER_ANY = 316
DEFINE_XML, UNDEFINE = 11, 35
STUCK_READS = 32
LIFETIME = 300.0
"""Seconds after which this ends by itself."""


def connected(path: Path) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    # Blocking: with a time-out a full queue is an error at once.
    found.connect(str(path))
    return found


def idle(path: Path, count: int) -> list[socket.socket]:
    """They have opened the hypervisor and say nothing more."""
    return [raw_calls.opened(path) for _ in range(count)]


def loris(path: Path, count: int) -> list[socket.socket]:
    """They send the beginning of a long message, and then a byte now and then."""
    found = [connected(path) for _ in range(count)]

    def drip() -> None:
        for byte in (30_000_000).to_bytes(4, "big") + bytes(10_000):
            for each in found:
                with contextlib.suppress(OSError):
                    each.sendall(bytes([byte]))
            time.sleep(0.2)

    threading.Thread(target=drip, daemon=True).start()
    return found


def flood(path: Path, count: int) -> list[socket.socket]:
    """They connect and leave as fast as they can."""

    def run() -> None:
        while True:
            with contextlib.suppress(ConnectionError):
                connected(path).close()

    for _ in range(count):
        threading.Thread(target=run, daemon=True).start()
    return []


def deaf(path: Path, count: int) -> list[socket.socket]:
    """They subscribe to events and never read, while domains come and go."""
    found = [raw_calls.opened(path) for _ in range(count)]
    subscribe = raw_calls.frame(REGISTER_ANY, 2, struct.pack(">II", 0, 0))
    for each in found:
        raw_calls.call(each, subscribe)

    def churn() -> None:
        with raw_calls.opened(path) as busy:
            for number in range(100_000):
                _define_and_forget(busy, number % 50)

    threading.Thread(target=churn, daemon=True).start()
    return found


def _define_and_forget(busy: socket.socket, number: int) -> None:
    text = (
        f"<domain type='test'><name>churn-{number}</name><memory>8192</memory>"
        "<os><type>hvm</type></os></domain>"
    ).encode()
    padding = b"\0" * (-len(text) % 4)
    reply = raw_calls.call(
        busy, raw_calls.frame(DEFINE_XML, 3, struct.pack(">I", len(text)) + text + padding)
    )
    raw_calls.call(busy, raw_calls.frame(UNDEFINE, 4, reply[24:]))


def nbd(path: Path, count: int) -> list[socket.socket]:
    """They ask for megabytes and take none of them."""
    found = []
    go = struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">III", 7, 9, 3) + b"vda" + bytes(2)
    read = struct.pack(">IHHQQI", 0x25609513, 0, 0, 1, 0, 1 << 20)
    for _ in range(count):
        each = connected(path)
        each.recv(18, socket.MSG_WAITALL)
        each.sendall(go + read * STUCK_READS)
        found.append(each)
    return found


KINDS: dict[str, Callable[[Path, int], list[socket.socket]]] = {
    "idle": idle,
    "loris": loris,
    "flood": flood,
    "deaf": deaf,
    "nbd": nbd,
}


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kind, path, count = sys.argv[1:]
    kept = KINDS[kind](Path(path), int(count))
    print("ready", flush=True)
    time.sleep(LIFETIME)
    for each in kept:
        each.close()


if __name__ == "__main__":
    main()
