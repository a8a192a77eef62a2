"""Whose turn it is to change a domain: one call at a time, and nobody waits for ever.

Reading needs no turn. Knows nothing of what the calls do.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from virtbackupd.drivers.errors import OperationTimeout, Origin

PATIENCE: Final = 30.0
"""Seconds, as in libvirt."""


class Turn:
    """The lock of one domain, which knows its holder."""

    def __init__(self) -> None:
        self._lock = trio.Lock()
        self._holder = ""
        self._since = 0.0

    @property
    def holder(self) -> str:
        """The call that is at work; empty when none is."""
        return self._holder

    @property
    def age(self) -> float:
        """Seconds for which the call has been at work; 0 when none is."""
        return trio.current_time() - self._since if self._holder else 0.0

    @asynccontextmanager
    async def take(self, api: str, domain: str) -> AsyncIterator[None]:
        """Wait for the turn; OperationTimeout names who has it, and for how long already."""
        await self._wait(api, domain)
        self._holder, self._since = api, trio.current_time()
        try:
            yield
        finally:
            self._holder = ""
            self._lock.release()

    async def _wait(self, api: str, domain: str) -> None:
        with trio.move_on_after(PATIENCE) as scope:
            await self._lock.acquire()
        if scope.cancelled_caught:
            raise OperationTimeout(
                f"{api} cannot begin on domain {domain}: {self._holder or 'another call'} has"
                f" been at work on it for {self.age:.0f} s",
                origin=Origin.NONE,
            )
