"""A QEMU guest without an operating system that powers off, and one that is seen to run."""

import trio

from virtbackupd.drivers.qemu.domain import QemuDomain


async def power_off(domain: QemuDomain) -> None:
    """What a guest does last: ask the chipset for the soft-off state (ACPI's PM1a control).

    The firmware first has to give that register its address, so this is asked until it works.
    """
    done = trio.Event()
    domain.on_event("SHUTDOWN", lambda _: done.set())
    with trio.fail_after(20):
        while not done.is_set():
            await domain.monitor_command("o /w 0x604 0x2000", 1)
            with trio.move_on_after(0.05):
                await done.wait()


async def until_it_runs(domain: QemuDomain) -> None:
    resumed = trio.Event()
    domain.on_event("RESUME", lambda _: resumed.set())
    with trio.fail_after(20):
        while (await domain.monitor.execute("query-status"))["status"] != "running":
            await resumed.wait()
