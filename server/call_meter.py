"""Counts calls and measures how long they take, by procedure.

Stands before the dispatcher of a daemon that shows metrics; any other does without. A call costs
two looks at the clock and a few additions, so nothing here makes an object. Knows no format.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable
from time import perf_counter
from typing import Final

from virtbackupd.protocol.message import HEADER, Request, Status
from virtbackupd.protocol.schema import Schema
from virtbackupd.server.dispatch import Answering, public_name
from virtbackupd.server.session import Session

BOUNDS: Final = (
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Seconds up to which a call counts for each bucket; one more takes the rest."""
UNKNOWN: Final = "unknown"
"""Stands for all procedures that there are not, whatever their numbers."""

_STATUS = HEADER.size - 1
"""The last byte of the status, which is the last word of the header."""
_ERROR = int(Status.ERROR)
_CODE = slice(HEADER.size, HEADER.size + 4)
"""`virErrorNumber`, the first word of an error."""


class CallFigures:
    """The calls of one procedure."""

    __slots__ = ("buckets", "errors", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS) + 1)
        """Calls that are answered, by how long that took."""
        self.seconds = 0.0
        self.errors: Counter[int] = Counter()
        """Those of them that were refused, by libvirt's error code."""

    def ended(self, seconds: float, answer: bytes) -> None:
        """A call has its answer, as it goes over the wire."""
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds
        if answer[_STATUS] == _ERROR:
            self.errors[int.from_bytes(answer[_CODE], "big")] += 1

    def copy(self) -> "CallFigures":
        """What they are now, for another thread."""
        made = CallFigures()
        made.buckets, made.seconds = self.buckets.copy(), self.seconds
        made.errors = self.errors.copy()
        return made


class CallMeter:
    """A dispatcher that tells how another one fares."""

    __slots__ = ("_by_name", "_by_number", "_dispatcher", "_unknown", "running")

    def __init__(self, dispatcher: Answering, schema: Schema) -> None:
        self._dispatcher = dispatcher
        self._unknown = CallFigures()
        self._by_name = {UNKNOWN: self._unknown}
        self._by_number = {
            key: self._by_name.setdefault(public_name(procedure.name), CallFigures())
            for key, procedure in schema.by_number.items()
            if not procedure.is_event
        }
        self.running = 0
        """Calls that wait for a driver."""

    def answer(self, session: Session, call: Request) -> bytes | Awaitable[bytes]:
        figures = self._by_number.get((call.program, call.procedure), self._unknown)
        begun = perf_counter()
        answer = self._dispatcher.answer(session, call)
        if isinstance(answer, bytes):
            figures.ended(perf_counter() - begun, answer)
            return answer
        return self._later(figures, begun, answer)

    async def _later(self, figures: CallFigures, begun: float, waiting: Awaitable[bytes]) -> bytes:
        self.running += 1
        try:
            answer = await waiting
        finally:
            self.running -= 1
        figures.ended(perf_counter() - begun, answer)
        return answer

    def figures(self) -> dict[str, CallFigures]:
        """Of each procedure that was called, by the public function behind it."""
        return {
            name: figures.copy() for name, figures in self._by_name.items() if any(figures.buckets)
        }
