"""Waiting for what tells nobody when it happens, such as another process's output."""

from collections.abc import Callable

import trio


async def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Look again and again; TooSlowError when it does not come true in time."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await trio.sleep(0.01)
