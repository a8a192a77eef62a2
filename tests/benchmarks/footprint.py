"""Start time and memory of a daemon, as the kernel counts them."""

import socket
import time
from collections.abc import Callable
from pathlib import Path


def resident_kib(pid: int) -> int:
    """Resident memory without what is shared with other processes' files."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError(f"process {pid} shows no VmRSS")


def per_idle_client_kib(pid: int, connect: Callable[[], socket.socket], count: int) -> float:
    """Growth of resident memory per connection that is open and silent."""
    warm = [connect() for _ in range(50)]
    before = resident_kib(pid)
    clients = [connect() for _ in range(count)]
    time.sleep(0.5)
    grown = resident_kib(pid) - before
    for client in warm + clients:
        client.close()
    return grown / count
