"""The in-memory hypervisor: complete, deterministic, and gone when the daemon ends.

This is the only module that others import; `open_driver` is what the entry point names.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from virtbackupd.drivers.interface import Driver, DriverOptions
from virtbackupd.drivers.memory.boot import make_host
from virtbackupd.drivers.memory.driver import MemoryDriver


@asynccontextmanager
async def open_driver(options: DriverOptions) -> AsyncIterator[Driver]:
    """A hypervisor with the domains of the world; leaving it ends what runs."""
    async with trio.open_nursery() as nursery:
        driver = MemoryDriver(await make_host(nursery, options))
        try:
            yield driver
        finally:
            driver.close()
            nursery.cancel_scope.cancel()
