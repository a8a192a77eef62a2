"""One task that waits for the bytes of all clients at once.

Most calls are answered in a few microseconds, less than it takes to schedule a task of its own for
each. So sockets that wait for bytes share one: an epoll of their own inside Trio's. Knows no
client; whoever is told that its socket is readable reads once, does not wait and does not raise.
"""

import select
from collections.abc import Callable
from time import perf_counter

import trio

BATCH = 64
"""Sockets told in one round."""
TURN = 0.001
"""Seconds of rounds before every other task has its turn."""
PATIENCE = 16
"""Empty rounds, half a microsecond each, before the task sleeps: a client that makes one call after
the other is back in less time than it takes to go to sleep and wake up again."""


class Poller:
    """Tells who has something to read, for as long as it is registered."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}

    def add(self, fd: int, reader: Callable[[], None]) -> None:
        self._epoll.register(fd, select.EPOLLIN)
        self._readers[fd] = reader

    def remove(self, fd: int) -> None:
        """Before the socket is closed. Safe to repeat."""
        if self._readers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    async def run(self) -> None:
        """Never returns. Whoever outlives it is forgotten."""
        with self._epoll:
            try:
                while True:
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
                    self._tell_all()
            finally:
                self._readers.clear()

    def _tell_all(self) -> None:
        until = perf_counter() + TURN
        quiet = 0
        while quiet < PATIENCE and perf_counter() < until:
            ready = self._epoll.poll(0, BATCH)
            quiet = 0 if ready else quiet + 1
            for fd, _events in ready:
                reader = self._readers.get(fd)
                if reader is not None:
                    reader()
