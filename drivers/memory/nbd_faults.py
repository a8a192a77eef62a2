"""Faults on NBD connections: what stands between a connection and its replies when there are rules.

Bytes are counted from where a rule strikes: of `connect` and `handshake` all that is sent, of reads
the contents of the disk without headers, of other commands the replies. Knows no socket.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from virtbackupd.drivers.faults.effects import (
    NBD_ERRORS,
    Delay,
    NbdCorrupt,
    NbdDrop,
    NbdError,
    NbdStall,
    Point,
)
from virtbackupd.drivers.memory.nbd_protocol import (
    CHUNK,
    CHUNK_MAGIC,
    SIMPLE_REPLY,
    Buffers,
    ChunkType,
    Command,
    NbdErrno,
    NbdViolation,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from virtbackupd.drivers.clock import Clock
    from virtbackupd.drivers.events import DomainRef
    from virtbackupd.drivers.faults.engine import Faults, Fired
    from virtbackupd.drivers.memory.nbd_transmission import Transmission

Spans: TypeAlias = list[tuple[int, int]]
"""Parts of a reply, from byte to byte."""

_INVERTED: Final = bytes(255 - value for value in range(256))
_OFFSET: Final = Struct(">Q").size
_WORDS: Final[dict[int, str]] = {
    command.value: command.name.lower().replace("_", "-")
    for command in Command
    if command is not Command.DISC
}


class Line(Protocol):
    """A connection as replies see it."""

    @property
    def watching(self) -> bool:
        """Whether each reply has to be handed over alone, with its request."""

    async def receive(self) -> bytes: ...

    async def send(self, buffers: Buffers) -> None: ...

    async def reply(self, transmission: "Transmission", reply: Buffers) -> None: ...

    async def breathe(self) -> None: ...


@dataclass(frozen=True, slots=True)
class NbdFaults:
    """The faults of one backup's server."""

    faults: "Faults"
    domain: "DomainRef"
    disks: Mapping[str, str]
    """The target of each export."""
    clock: "Clock"
    reading: "Callable[[str], bool]"
    """Told the disk of each read before it is answered; False when the backup has ended of it."""


@dataclass(slots=True)
class _Armed:
    """An effect that waits for its byte."""

    fired: "Fired"
    effect: NbdDrop | NbdStall | NbdCorrupt
    left: int
    """Bytes that are still sent as they are."""
    count: int = 0
    """Bytes to be inverted then."""


class FaultyLine:
    """One connection with the faults that lie in wait for it."""

    def __init__(self, line: Line, about: NbdFaults) -> None:
        self._line = line
        self._about = about
        self._armed: dict[str, list[_Armed]] = {}
        self._handshake = False
        self._sends = 0

    @property
    def watching(self) -> bool:
        return self._about.faults.active

    async def receive(self) -> bytes:
        return await self._line.receive()

    async def breathe(self) -> None:
        await self._line.breathe()

    async def opened(self) -> None:
        """A client has come."""
        await self._strike("connect", "")

    async def send(self, buffers: Buffers) -> None:
        """What belongs to no command: the greeting, then answers to options."""
        self._sends += 1
        if self._sends > 1 and not self._handshake and any(map(len, buffers)):
            self._handshake = True
            await self._strike("handshake", "")
        whole = [(0, sum(map(len, buffers)))]
        await self._deliver(buffers, {"connect": whole, "handshake": whole})

    async def reply(self, transmission: "Transmission", reply: Buffers) -> None:
        """The reply to the current request of a transmission."""
        request = transmission.current
        word = "" if request is None else _WORDS.get(request.command, "")
        disk = self._about.disks.get(transmission.export_name, "")
        if word == "read" and not self._about.reading(disk):
            raise NbdViolation("the domain has stopped")
        error = await self._strike(word, disk)
        if error is not None and request is not None:
            reply = transmission.refuse(request, NbdErrno(NBD_ERRORS[error.code]), error.message)
        whole = [(0, sum(map(len, reply)))]
        counted = _contents(reply) if word == "read" else whole
        await self._deliver(reply, {"connect": whole, word: counted})

    def close(self) -> None:
        """What has not come to its byte has not happened."""
        for waiting in self._armed.values():
            for armed in waiting:
                armed.fired.missed()

    async def _strike(self, word: str, disk: str) -> NbdError | None:
        """See what is due; an error is for the caller to send."""
        error: NbdError | None = None
        faults = self._about.faults
        for fired in faults.at(Point.NBD, word, self._about.domain, disk) if word else ():
            effect = fired.effect
            if isinstance(effect, NbdDrop | NbdStall | NbdCorrupt):
                self._arm(word, fired, effect)
                continue
            fired.done()
            if isinstance(effect, Delay):
                await self._about.clock.sleep(effect.seconds, f"fault at NBD {word}")
            elif isinstance(effect, NbdError):
                error = effect
        return error

    def _arm(self, word: str, fired: "Fired", effect: NbdDrop | NbdStall | NbdCorrupt) -> None:
        waiting = self._armed.setdefault(word, [])
        if any(armed.fired.rule is fired.rule for armed in waiting):
            fired.missed()
            return
        count = effect.count if isinstance(effect, NbdCorrupt) else 0
        waiting.append(_Armed(fired, effect, effect.byte, count))

    async def _deliver(self, buffers: Buffers, counted: Mapping[str, Spans]) -> None:
        end: tuple[int, _Armed] | None = None
        for word, spans in counted.items():
            for armed in list(self._armed.get(word, ())):
                if isinstance(armed.effect, NbdCorrupt):
                    if _corrupt(buffers, spans, armed):
                        self._armed[word].remove(armed)
                elif (cut := _advance(spans, armed)) is not None and (not end or cut < end[0]):
                    end = cut, armed
        if end is None:
            await self._line.send(buffers)
        else:
            await self._end(_prefix(buffers, end[0]), end[1])

    async def _end(self, buffers: Buffers, armed: _Armed) -> None:
        """A stalled client is let go when it leaves by itself."""
        await self._line.send(buffers)
        armed.fired.done()
        if isinstance(armed.effect, NbdStall):
            while await self._line.receive():
                await self._line.breathe()
        raise NbdViolation("a fault ends the connection")


def _contents(reply: Buffers) -> Spans:
    """Where the bytes of the disk stand in the reply to a read: each header is a buffer alone."""
    spans: Spans = []
    position = size = 0
    for buffer in reply:
        if size <= 0:
            size = _announced(buffer, sum(map(len, reply)))
        else:
            spans.append((position, position + len(buffer)))
            size -= len(buffer)
        position += len(buffer)
    return spans


def _announced(header: bytes | memoryview, total: int) -> int:
    """The bytes of content that follow a header."""
    if len(header) == SIMPLE_REPLY.size:
        return total - SIMPLE_REPLY.size
    magic, _, kind, _, length = CHUNK.unpack_from(header)
    return length - _OFFSET if (magic, kind) == (CHUNK_MAGIC, ChunkType.OFFSET_DATA) else 0


def _advance(spans: Spans, armed: _Armed) -> int | None:
    """Where the byte of an effect is; None, and it comes nearer, when it is not in here."""
    if not armed.left:
        return 0
    for start, stop in spans:
        if armed.left < stop - start:
            return start + armed.left
        armed.left -= stop - start
    return None


def _prefix(buffers: Buffers, size: int) -> Buffers:
    kept: Buffers = []
    for buffer in buffers:
        kept.append(memoryview(buffer)[:size])
        size -= len(kept[-1])
    return kept


def _corrupt(buffers: Buffers, spans: Spans, armed: _Armed) -> bool:
    """Invert what is to be inverted in here; whether that was all."""
    for start, stop in spans:
        skipped = min(armed.left, stop - start)
        armed.left -= skipped
        size = min(armed.count, stop - start - skipped)
        if size:
            _invert(buffers, start + skipped, start + skipped + size)
            armed.count -= size
            armed.fired.done()
    return not armed.count


def _invert(buffers: Buffers, start: int, stop: int) -> None:
    """Replaces buffers: they are slices of the disk itself."""
    position = 0
    for number, buffer in enumerate(buffers):
        first, last = max(start - position, 0), min(stop - position, len(buffer))
        position += len(buffer)
        if first < last:
            data = bytes(buffer)
            buffers[number] = data[:first] + data[first:last].translate(_INVERTED) + data[last:]
