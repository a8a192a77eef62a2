"""Watching a server on and on: looks at intervals, and comes back when the server does.

What is done with a report is the caller's business.
"""

from collections.abc import Callable
from typing import Final

import trio

from virtbackupd.server.remote import Event, connected
from virtbackupd.server.remote_dial import RemoteProblem
from virtbackupd.server.watch.jobs import Report, Watcher

RETRY_PAUSE: Final = 1.0
"""Seconds between attempts to reach a server that is away."""


async def look_once(uri: str, *, read_only: bool) -> Report:
    """Raises RemoteProblem."""
    watcher = Watcher(uri)
    async with connected(uri, read_only=read_only) as remote:
        await watcher.begin(remote)
        return await watcher.look(remote)


async def follow(
    uri: str, interval: float, show: Callable[[Report], None], *, read_only: bool
) -> None:
    """Never returns; the first connection has to succeed, or RemoteProblem tells why not."""
    watcher = Watcher(uri)
    reached = False
    while True:
        try:
            async with connected(uri, read_only=read_only) as remote:
                await watcher.begin(remote)
                events: list[Event] = []
                while True:
                    show(await watcher.look(remote, events))
                    reached = True
                    events = await remote.events_until(trio.current_time() + interval)
        except RemoteProblem as problem:
            if not reached:
                raise
            show(watcher.unreachable(str(problem)))
        await trio.sleep(min(interval, RETRY_PAUSE))
