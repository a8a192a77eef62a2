"""Writes a transcript into a file as it grows, one JSON object on each line.

Writing is done in a thread, because a disk may be slow; entries that come faster than it writes are
left out and counted, so that no call ever waits for its own record.
"""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import trio

from virtbackupd.server.transcript import Entry, Transcript

log = logging.getLogger(__name__)

QUEUED: Final = 10_000
"""Entries that may wait to be written."""
LAST_WORDS: Final = 2.0
"""Seconds that writing the rest may take when the daemon ends."""


@asynccontextmanager
async def written(transcript: Transcript, path: Path) -> AsyncIterator[None]:
    """Add the transcript to the end of the file until the block ends; OSError if it cannot be."""
    file = await trio.to_thread.run_sync(_open, path)
    send, receive = trio.open_memory_channel[Entry](QUEUED)
    writer = _Writer(file, path, receive)
    transcript.sink = _Sink(send)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            try:
                yield
            finally:
                transcript.sink = None
                send.close()
                nursery.cancel_scope.shield = True
                nursery.cancel_scope.deadline = trio.current_time() + LAST_WORDS
    finally:
        file.close()


def _open(path: Path) -> BinaryIO:
    """Whoever may connect sees less than a transcript tells, so a new file is the daemon's own."""
    return open(path, "ab", buffering=0, opener=_private)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


def check(path: Path) -> None:
    """OSError unless it can be written to; there is such a file afterwards."""
    _open(path).close()


class _Sink:
    """Takes an entry without waiting."""

    def __init__(self, send: trio.MemorySendChannel[Entry]) -> None:
        self._send = send
        self._lost = 0

    def __call__(self, entry: Entry) -> None:
        try:
            self._send.send_nowait(entry)
        except trio.WouldBlock:
            self._lost += 1
            if self._lost & (self._lost - 1) == 0:
                log.warning("the transcript lacks %d calls: its file is too slow", self._lost)


class _Writer:
    """Writes all that waits at once, then waits for more."""

    def __init__(
        self, file: BinaryIO, path: Path, receive: trio.MemoryReceiveChannel[Entry]
    ) -> None:
        self._file = file
        self._path = path
        self._receive = receive
        self._encode = msgspec.json.Encoder().encode

    async def run(self) -> None:
        """Returns when the other end of the channel is closed, or the file takes no more."""
        try:
            async for entry in self._receive:
                await trio.to_thread.run_sync(
                    self._file.write, self._lines(entry), abandon_on_cancel=True
                )
        except OSError as error:
            log.error("the transcript ends, %s: %s", self._path, error.strerror)

    def _lines(self, first: Entry) -> bytes:
        entries = [first]
        for _ in range(self._receive.statistics().current_buffer_used):
            entries.append(self._receive.receive_nowait())
        return b"".join(self._encode(entry) + b"\n" for entry in entries)
