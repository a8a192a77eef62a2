"""Calls into the loop that a server runs in, from whatever thread somebody stands in.

Every call has an end: it gives up after a time, or when the server has gone. Knows no command.
"""

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Final, TypeVar

import trio

T = TypeVar("T")

DEADLINE: Final = 60.0
"""Seconds that one call may take, such as the comparison of a large image."""


class ServerGone(Exception):
    """The server has ended, so nothing can be asked of it."""


class Loop:
    """The Trio run of one server. Made within it."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._ended = False

    def end(self) -> None:
        """From now on the server is gone."""
        self._ended = True

    @property
    def ended(self) -> bool:
        return self._ended

    def call(self, function: Callable[[], T | Awaitable[T]]) -> T:
        """What `function` answers or, when that has to be awaited, what comes of it.

        RuntimeError when it has to be awaited and the caller is within the server's own loop.
        """
        if self._ended:
            raise ServerGone("the server has ended: ask within its block, or while its test runs")
        if self._inside():
            return _at_once(function())
        try:
            return trio.from_thread.run(partial(_awaited, function), trio_token=self._token)
        except (trio.RunFinishedError, trio.Cancelled) as error:
            raise ServerGone("the server ended during the call") from error

    def _inside(self) -> bool:
        return trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token


async def _awaited(function: Callable[[], T | Awaitable[T]]) -> T:
    with trio.fail_after(DEADLINE):
        answer = function()
        return await answer if isinstance(answer, Awaitable) else answer


def _at_once(answer: T | Awaitable[T]) -> T:
    if not isinstance(answer, Awaitable):
        return answer
    if isinstance(answer, Coroutine):
        answer.close()
    raise RuntimeError(
        "this call waits, which would stop the loop that the server runs in: use"
        " `await trio.to_thread.run_sync(...)` for it, or a server of `serve()`"
    )
