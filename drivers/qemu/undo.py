"""Taking back what was begun when the rest of it fails or is cancelled. Knows no domain."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def undone_by(undo: Callable[[], Awaitable[None]], grace: float) -> AsyncIterator[None]:
    """Run the block; when it does not get to its end, `undo`, which has `grace` seconds.

    The undoing is shielded, for a cancelled block has as much to take back as one that failed.
    """
    try:
        yield
    except BaseException:
        with trio.move_on_after(grace, shield=True):
            await undo()
        raise
