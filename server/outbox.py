"""What still has to leave for one client, in order, and the one place that writes to its socket.

Frames go in whole and leave in the order of going in. What the kernel takes at once never waits;
the rest is written by `flush`, of which at most one runs. Knows no frame and no client.
"""

import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from virtbackupd.drivers.clock import Clock
from virtbackupd.server.limits import Limits

FRAME_LIMIT = 65_536


class OutboxFullError(Exception):
    """The peer does not read; nobody is to wait for it."""


class Outbox:
    """Made for sockets that do not block.

    By default the longest reply of all may wait and as much again. Replies are bounded by the
    window of calls, so it is events that a client who does not read piles up.
    """

    __slots__ = ("_clock", "_drained", "_left", "_limits", "_size", "_socket")

    def __init__(
        self, sock: socket.socket, clock: Clock | None = None, limits: Limits | None = None
    ) -> None:
        self._socket = sock
        self._clock = clock or Clock()
        self._limits = limits or Limits()
        self._left: deque[memoryview] = deque()
        self._size = 0
        self._drained: trio.Event | None = None

    @property
    def empty(self) -> bool:
        return not self._left

    @property
    def size(self) -> int:
        """Bytes that wait for the peer."""
        return self._size

    def put(self, data: bytes) -> bool:
        """Write or keep `data`. True when `flush` has to be started for what was kept.

        OutboxFullError when too much waits already, OSError when the peer has gone.
        """
        if self._left:
            self._keep(memoryview(data))
            return False
        sent = self._write(data)
        if sent == len(data):
            return False
        self._keep(memoryview(data)[sent:])
        return True

    async def flush(self) -> None:
        """Write until nothing is left; TooSlowError when the peer takes nothing for too long."""
        while self._left:
            with self._clock.fail_after(
                self._limits.client_stall_timeout, "a client that does not read"
            ):
                await trio.lowlevel.wait_writable(self._socket)
            self._write_left()
        if self._drained is not None:
            self._drained.set()
            self._drained = None

    async def drained(self) -> None:
        """Wait until everything has left."""
        while self._left:
            if self._drained is None:
                self._drained = trio.Event()
            await self._drained.wait()

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Close the socket in the end, and forget what has not left."""
        try:
            yield
        finally:
            self._left.clear()
            self._socket.close()

    def _keep(self, data: memoryview) -> None:
        self._size += len(data)
        if self._size > self._limits.max_client_unread or len(self._left) >= FRAME_LIMIT:
            self._limits.reached["max_client_unread"] += 1
            raise OutboxFullError(f"{self._size} bytes wait for a peer that does not read them")
        self._left.append(data)

    def _write(self, data: bytes | memoryview) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    def _write_left(self) -> None:
        """As much as the kernel takes now; a frame cut here goes on where it was cut."""
        while self._left:
            first = self._left[0]
            sent = self._write(first)
            self._size -= sent
            if sent < len(first):
                self._left[0] = first[sent:]
                return
            self._left.popleft()
