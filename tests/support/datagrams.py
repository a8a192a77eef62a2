"""A socket that listens for datagrams, as systemd, the journal and syslog do."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def listening_at(path: Path) -> Iterator[socket.socket]:
    """A receive that finds nothing for 60 seconds raises TimeoutError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.bind(str(path))
        found.settimeout(60)
        yield found
