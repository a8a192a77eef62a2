"""Mutates inputs of a target and keeps those after which it behaved in a new way.

What a target does with an input is told by a short signature (which messages, which refusals),
which guides the search instead of coverage. The same seed gives the same inputs. Knows no protocol
but the length word of frames.
"""

import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

Signature = Hashable
Target = Callable[[bytes], Awaitable[Signature]]

LONGEST: Final = 4096
POOL: Final = 512
"""Inputs to mutate; when there are more, a random one makes room."""
WORDS: Final = tuple(
    number.to_bytes(4, "big")
    for number in (0, 1, 2, 3, 4, 7, 27, 28, 66, 67, 68, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
)
PIECES: Final = (b"\0", b"\xff", b"\r\n", b",", b"=", b":", b"%00", b"\xc3\x28", b"9" * 5000, b" ")
_DIGITS = re.compile(r"\d+|0x[0-9a-f]+|'[^']*'|\"[^\"]*\"")


class BugFound(AssertionError):
    """A target let something escape; the input is in `data`."""

    def __init__(self, data: bytes, reason: str) -> None:
        super().__init__(f"{reason}: {data!r}")
        self.data = data


def outline(text: object) -> str:
    """A message without what differs from input to input."""
    return _DIGITS.sub("#", str(text))[:60]


@dataclass
class Campaign:
    """One search: inputs tried, signatures seen, inputs worth mutating."""

    target: Target
    seeds: list[bytes]
    rng: random.Random = field(default_factory=random.Random)
    seen: set[Signature] = field(default_factory=set)
    tried: int = 0

    def __post_init__(self) -> None:
        self.pool = list(self.seeds)
        self.found: list[bytes] = []

    async def run(self, inputs: int, seconds: float = 1e9) -> None:
        """Try the seeds and then mutations of them. BugFound ends it."""
        end = time.monotonic() + seconds
        for seed in self.seeds:
            await self.probe(seed)
        while self.tried < inputs and (self.tried & 0xFF or time.monotonic() < end):
            await self.probe(mutated(self.rng, self.pool))

    async def probe(self, data: bytes) -> None:
        """One input; a new signature makes it one of those that are mutated."""
        self.tried += 1
        try:
            signature = await self.target(data)
        except Exception as error:
            raise BugFound(data, f"{type(error).__name__}: {error}") from error
        if signature in self.seen:
            return
        self.seen.add(signature)
        self.found.append(data)
        if len(self.pool) < POOL:
            self.pool.append(data)
        else:
            self.pool[self.rng.randrange(POOL)] = data


def mutated(rng: random.Random, pool: list[bytes]) -> bytes:
    """A member of the pool, changed in one to four places."""
    data = bytearray(rng.choice(pool))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        _CHANGES[int(rng.random() * len(_CHANGES))](rng, data, pool)
    if rng.random() < 0.5:
        lengthened(data)
    return bytes(data[:LONGEST]) if len(data) > LONGEST else bytes(data)


def lengthened(data: bytearray) -> None:
    """Make a lone frame say how long it is, so that what is inside gets looked at."""
    if len(data) >= 28 and data[0] == 0 and bytes(data[4:6]) in {b"\x20\x00", b"\x06\x90"}:
        data[:4] = len(data).to_bytes(4, "big")


def _place(rng: random.Random, data: bytearray) -> int:
    return int(rng.random() * (len(data) + 1))


def _flip(rng: random.Random, data: bytearray, _pool: list[bytes]) -> None:
    if data:
        data[int(rng.random() * len(data))] ^= 1 << int(rng.random() * 8)


def _word(rng: random.Random, data: bytearray, _pool: list[bytes]) -> None:
    at = _place(rng, data) & ~3
    data[at : at + 4] = rng.choice(WORDS)


def _piece(rng: random.Random, data: bytearray, _pool: list[bytes]) -> None:
    at = _place(rng, data)
    data[at : at + int(rng.random() * 3)] = rng.choice(PIECES)


def _noise(rng: random.Random, data: bytearray, _pool: list[bytes]) -> None:
    at = _place(rng, data)
    data[at : at + int(rng.random() * 9)] = rng.randbytes(int(rng.random() * 9))


def _cut(rng: random.Random, data: bytearray, _pool: list[bytes]) -> None:
    del data[_place(rng, data) :]


def _remove(rng: random.Random, data: bytearray, _pool: list[bytes]) -> None:
    at = _place(rng, data)
    del data[at : at + int(rng.random() * 17)]


def _repeat(rng: random.Random, data: bytearray, _pool: list[bytes]) -> None:
    at = _place(rng, data)
    data[at:at] = data[at : at + int(rng.random() * 65)]


def _splice(rng: random.Random, data: bytearray, pool: list[bytes]) -> None:
    other = rng.choice(pool)
    data[_place(rng, data) :] = other[int(rng.random() * (len(other) + 1)) :]


def _join(rng: random.Random, data: bytearray, pool: list[bytes]) -> None:
    data += rng.choice(pool)


_CHANGES: Final = (
    _flip,
    _flip,
    _word,
    _word,
    _piece,
    _noise,
    _cut,
    _remove,
    _repeat,
    _splice,
    _join,
)


def corpus(folder: Path) -> list[bytes]:
    """The inputs kept in the repository, always in the same order."""
    return [path.read_bytes() for path in sorted(folder.glob("*.bin"))]


class _Complaints(logging.Handler):
    """Collects what only a bug of ours makes the daemon say."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        cause = record.exc_info[1] if record.exc_info else None
        self.heard.append(f"{record.getMessage()}: {cause!r}")


@contextmanager
def complaints() -> Iterator[list[str]]:
    """What is logged as an error within the block, and nothing of it anywhere else."""
    logger = logging.getLogger("virtbackupd")
    handler = _Complaints()
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    try:
        yield handler.heard
    finally:
        logger.removeHandler(handler)
        logger.propagate = before[1]
        logger.setLevel(before[0])
