"""All control commands, joined from the modules of their subjects, which are loaded at first use.

This is where the driver and the monitor come in. What a command does is not known here.
"""

from functools import cache
from typing import TYPE_CHECKING, Final

from virtbackupd.drivers.interface import Answer, ControlDescription
from virtbackupd.drivers.memory.control import CommandTable, Target, call

if TYPE_CHECKING:
    from virtbackupd.drivers.memory.domain import MemoryDomain
    from virtbackupd.drivers.memory.host import Host

MONITOR_PREFIX: Final = "x-virtbackupd-"
"""What the monitor's JSON protocol puts before the name of a control command."""


def run(
    host: "Host", domain: "MemoryDomain | None", name: str, arguments: object
) -> Answer[object]:
    """Run a command by name; UnknownCommand, InvalidArgument, or what the command refuses with."""
    return call(commands(), Target(host, domain), name, arguments)


@cache
def commands() -> CommandTable:
    """By name. A daemon that nobody controls never pays for them."""
    from virtbackupd.drivers.memory import (  # noqa: PLC0415 - see above
        control_clock,
        control_faults,
        control_guest,
        control_world,
    )

    tables = (
        control_clock.COMMANDS,
        control_faults.COMMANDS,
        control_guest.COMMANDS,
        control_world.COMMANDS,
    )
    joined = {name: command for table in tables for name, command in table.items()}
    if len(joined) != sum(map(len, tables)):
        raise AssertionError("two control commands have the same name")
    return dict(sorted(joined.items()))


@cache
def describe() -> dict[str, ControlDescription]:
    """What users are told of each command."""
    return {
        name: ControlDescription(command.about, command.arguments, command.needs_domain)
        for name, command in commands().items()
    }
