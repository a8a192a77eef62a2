"""The irregular procedures. Each module holds a table of its own; here they become one.

A name in two modules is a mistake and stops the daemon at start.
"""

from virtbackupd.server.handlers import (
    auth,
    connect,
    events,
    figures,
    lifecycle,
    listing,
    stats,
    streams,
)
from virtbackupd.server.translate import Handler, TableError

_MODULES = (auth, connect, events, figures, lifecycle, listing, stats, streams)


def all_handlers() -> dict[str, Handler]:
    """Every handler by the name of its procedure."""
    found: dict[str, Handler] = {}
    for module in _MODULES:
        if twice := found.keys() & module.HANDLERS.keys():
            raise TableError(f"more than one handler for {', '.join(sorted(twice))}")
        found |= module.HANDLERS
    return found
