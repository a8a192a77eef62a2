"""When a daemon that nobody uses may end. Knows neither clients nor machines, only how many."""

from collections.abc import Awaitable, Callable

import trio

from virtbackupd.server.limits import Admission


class IdleWatch:
    """Waits for a time without clients and without anything else that keeps the daemon."""

    def __init__(
        self, admission: Admission, busy: Callable[[], Awaitable[bool]], timeout: float = 0
    ) -> None:
        """`busy` tells whether there is more than clients that the daemon has to stay for."""
        self._admission = admission
        self._busy = busy
        self._timeout = timeout
        self._changed = trio.Event()
        admission.on_change.append(self._wake)

    @property
    def timeout(self) -> float:
        """Seconds; 0 is never."""
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._timeout = seconds
        self._wake()

    async def over(self) -> None:
        """Return once the daemon may end."""
        while True:
            changed = self._changed = trio.Event()
            if not self._timeout or self._admission.clients:
                await changed.wait()
                continue
            with trio.move_on_after(self._timeout):
                await changed.wait()
            if not changed.is_set() and not await self._busy() and not changed.is_set():
                return

    def _wake(self) -> None:
        self._changed.set()
