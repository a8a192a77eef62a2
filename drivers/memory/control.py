"""What a command of the control channel is, and how one is called by its name.

The commands arrange what no real hypervisor lets one arrange: contents, faults, time, worlds. They
come in through `virDomainQemuMonitorCommand` and through the control endpoint alike. Each subject's
module has its commands as a table; this one knows none of them.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from virtbackupd.drivers.errors import InvalidArgument

if TYPE_CHECKING:
    from virtbackupd.drivers.memory.domain import MemoryDomain
    from virtbackupd.drivers.memory.host import Host


class Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all commands' arguments have in common: no unknown one is passed over."""


class NoArguments(Arguments, frozen=True):
    """Of a command that takes none."""


class Target(msgspec.Struct, frozen=True):
    """What a command works on."""

    host: "Host"
    domain: "MemoryDomain | None" = None
    """The one whose monitor was used, or which the request to the endpoint names."""


class ControlCommand(msgspec.Struct, frozen=True):
    """One command; its result must be what JSON can say."""

    about: str
    """One line for people, also in the OpenAPI description."""
    run: Callable[[Target, Any], Any]
    """Takes the target and an instance of `arguments`; may return an awaitable of the result."""
    arguments: type[Arguments] = NoArguments
    needs_domain: bool = False
    waits: bool = False
    """Whether `run` returns an awaitable."""


class UnknownCommand(InvalidArgument):
    """VIR_ERR_INVALID_ARG: there is no control command of that name."""


CommandTable = Mapping[str, ControlCommand]
"""By name, without the prefix that the monitor asks for."""


def call(
    commands: CommandTable, target: Target, name: str, given: object
) -> Awaitable[object] | object:
    """Run a command by name with arguments as decoded from JSON.

    UnknownCommand with those that are known; InvalidArgument when an argument is wrong, or when the
    command needs a domain and there is none.
    """
    command = commands.get(name)
    if command is None:
        known = ", ".join(sorted(commands))
        raise UnknownCommand(f"there is no control command {name!r}; known are: {known}")
    if command.needs_domain and target.domain is None:
        raise InvalidArgument(f"control command {name} works on a domain: name one")
    try:
        arguments = msgspec.convert(given, command.arguments)
    except msgspec.ValidationError as error:
        takes = ", ".join(command.arguments.__struct_fields__) or "no arguments"
        raise InvalidArgument(f"control command {name}: {error}; it takes {takes}") from None
    result: Awaitable[object] | object = command.run(target, arguments)
    return result
