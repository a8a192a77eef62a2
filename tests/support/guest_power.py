"""A QEMU guest of the `q35` machine that powers off when told, and one that is seen to run.

Its firmware is forty bytes of ours, which only place the register and halt. SeaBIOS, when it is
reset before it has finished, may reset the machine once more or never come back.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.qemu.domain import QemuDomain

PATIENCE: Final = 60.0
_NOWHERE: Final = "0xffff"
_SIZE: Final = 1 << 16
_START: Final = 0xFFF0
"""Where an x86 processor begins, from the start of a ROM of that size."""
# Intel 64 machine code, through PCI's configuration ports 0xcf8 and 0xcfc. Registers of the ICH9's
# LPC bridge: 0x40, the place of the power management registers, and 0x44, whether they are there.
_PROGRAM: Final = bytes.fromhex(
    "baf80c 66b840f80080 66ef bafc0c 66b801060000 66ef"  # they are at 0x600
    "baf80c 66b844f80080 66ef bafc0c b080 ee"  # and switched on
    "f4 ebfd"  # halt, for ever
)
_JUMP: Final = bytes.fromhex("e90d00")  # to the program, at the start of the ROM


def loader(folder: Path) -> str:
    """The element for the firmware, whose file is written into the folder."""
    path = folder / "firmware.rom"
    path.write_bytes((_PROGRAM.ljust(_START, b"\0") + _JUMP).ljust(_SIZE, b"\0"))
    return f"<loader type='rom'>{path}</loader>"


async def power_off(domain: QemuDomain) -> None:
    """What a guest does last: ask the chipset for the soft-off state (ACPI's PM1a control).

    The firmware first has to give that register its address. QEMU acts on one command before it
    looks at the next, so whether the register was there is known then, and none is asked twice.
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
