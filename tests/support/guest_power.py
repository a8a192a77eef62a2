"""A QEMU guest without an operating system that powers off, and one that is seen to run."""

from contextlib import suppress
from typing import Final

import trio

from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.qemu.domain import QemuDomain

PATIENCE: Final = 60.0
_NOWHERE: Final = "0xffff"


async def power_off(domain: QemuDomain) -> None:
    """What a guest does last: ask the chipset for the soft-off state (ACPI's PM1a control).

    The firmware first has to give that register its address, which it loses when the firmware
    resets the machine once more, as it does after a reset. QEMU acts on one command before it looks
    at the next, so whether the register was there is known then, and none is asked twice.
    """
    done = trio.Event()
    domain.on_event("SHUTDOWN", lambda _: done.set())
    with trio.fail_after(PATIENCE):
        while not done.is_set():
            if _NOWHERE in await domain.monitor_command("i /h 0x604", 1):
                await trio.sleep(0.01)
                continue
            await domain.monitor_command("o /w 0x604 0x2000", 1)
            with suppress(DriverError):  # a domain that has ended already does not answer
                await domain.monitor.execute("query-status")


async def until_it_runs(domain: QemuDomain) -> None:
    resumed = trio.Event()
    domain.on_event("RESUME", lambda _: resumed.set())
    with trio.fail_after(PATIENCE):
        while (await domain.monitor.execute("query-status"))["status"] != "running":
            await resumed.wait()
