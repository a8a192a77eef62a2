"""A hypervisor for tests: the whole daemon in this process, and handles to arrange its world.

What is here is loaded when it is first asked for, because pytest imports this package at every
start through the entry point of its plugin.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from virtbackupd.drivers.errors import DriverError
    from virtbackupd.testing.domains import Comparison, Domain, NbdReads, Range
    from virtbackupd.testing.loop import ServerGone
    from virtbackupd.testing.options import ServeOptions, StartError
    from virtbackupd.testing.running import open_server, serve
    from virtbackupd.testing.server import Server

_HOMES = {
    "Comparison": "virtbackupd.testing.domains",
    "Domain": "virtbackupd.testing.domains",
    "DriverError": "virtbackupd.drivers.errors",
    "NbdReads": "virtbackupd.testing.domains",
    "Range": "virtbackupd.testing.domains",
    "Server": "virtbackupd.testing.server",
    "ServeOptions": "virtbackupd.testing.options",
    "ServerGone": "virtbackupd.testing.loop",
    "StartError": "virtbackupd.testing.options",
    "open_server": "virtbackupd.testing.running",
    "serve": "virtbackupd.testing.running",
}

__all__ = [
    "Comparison",
    "Domain",
    "DriverError",
    "NbdReads",
    "Range",
    "ServeOptions",
    "Server",
    "ServerGone",
    "StartError",
    "open_server",
    "serve",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
