"""Reading the configuration again while the daemon runs: who wants to know is told, in turn.

Knows neither the file nor what anybody makes of it.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio

from virtbackupd.server.config import ConfigError, Settings
from virtbackupd.server.listeners import ListenError

log = logging.getLogger(__name__)

Hook: TypeAlias = Callable[[Settings], Awaitable[None]]


class Reloading:
    """Hooks are called with the settings that hold from now on; what one refuses stays."""

    def __init__(self, load: Callable[[], Settings]) -> None:
        """`load` may block; it raises ConfigError."""
        self.hooks: list[Hook] = []
        self._load = load
        self._turn = trio.Lock()

    async def reload(self) -> list[str]:
        """What could not be done, also logged; empty when all went well."""
        async with self._turn:
            try:
                settings = await trio.to_thread.run_sync(self._load)
            except ConfigError as error:
                log.error("the configuration stays as it was: %s", error)
                return [str(error)]
            return [reason for hook in tuple(self.hooks) if (reason := await _told(hook, settings))]


async def _told(hook: Hook, settings: Settings) -> str:
    try:
        await hook(settings)
    except (ConfigError, ListenError, OSError, ValueError) as error:
        log.error("a part of the configuration stays as it was: %s", error)
        return str(error) or type(error).__name__
    return ""
