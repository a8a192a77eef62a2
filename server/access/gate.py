"""Lets through to one client the events of what it may see, in the order in which they came.

Where a verdict has to be waited for, the events behind it wait too, in a bounded queue. Knows no
frame's contents and no rule.
"""

import logging
from collections import deque
from collections.abc import Callable
from inspect import isawaitable

from virtbackupd.drivers.events import DomainRef, SecretRef
from virtbackupd.server.access.control import Verdict
from virtbackupd.server.session import Link

log = logging.getLogger(__name__)

WAITING_LIMIT = 1024
"""Events of one client whose verdict is not known yet; what does not fit is dropped and logged."""

Ref = DomainRef | SecretRef
Sees = Callable[[Ref], Verdict]


class EventGate:
    """Stands before the link of one client."""

    def __init__(self, link: Link, sees: Sees) -> None:
        self._link = link
        self._sees = sees
        self._waiting: deque[tuple[bytes, Verdict]] = deque()

    def deliver(self, frame: bytes, ref: Ref) -> None:
        """Pass a frame about `ref` on, now or when the verdict is there, or drop it."""
        if len(self._waiting) >= WAITING_LIMIT:
            log.error("more than %d events wait for a verdict: dropping one", WAITING_LIMIT)
            return
        verdict = self._sees(ref)
        if self._waiting or isawaitable(verdict):
            self._wait(frame, verdict)
        elif verdict:
            self._link.deliver(frame)

    def _wait(self, frame: bytes, verdict: Verdict) -> None:
        self._waiting.append((frame, verdict))
        if len(self._waiting) == 1:
            self._link.start(self._decide)

    async def _decide(self) -> None:
        """Runs while there is anything to wait for; ends with the client."""
        while self._waiting:
            frame, verdict = self._waiting[0]
            if await verdict if isawaitable(verdict) else verdict:
                self._link.deliver(frame)
            self._waiting.popleft()
