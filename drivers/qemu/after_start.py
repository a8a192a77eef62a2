"""What only a running QEMU can be told or asked: VNC's password and port, memory, links.

Done once, before the guest's processors run; a daemon that finds QEMU again does not repeat it.
"""

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from virtbackupd.drivers.definitions.hardware import read_hardware
from virtbackupd.drivers.errors import XmlError
from virtbackupd.drivers.qemu.live_details import with_vnc_port
from virtbackupd.drivers.qemu.together import together

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from virtbackupd.drivers.definitions.domain import DomainDefinition
    from virtbackupd.drivers.definitions.hardware import GraphicsHardware, Hardware
    from virtbackupd.drivers.qemu.arguments import Json
    from virtbackupd.drivers.qemu.qmp import Monitor


async def settle(definition: "DomainDefinition", monitor: "Monitor") -> "DomainDefinition":
    """Tell QEMU what the definition still wants; returns it with what QEMU has chosen."""
    hardware = definition.view(read_hardware)
    commands = start_commands(definition, hardware)
    jobs: list[Callable[[], Awaitable[object]]] = [
        partial(monitor.execute, name, arguments) for name, arguments in commands
    ]
    if jobs:
        await together(jobs)
    if any(graphics.autoport for graphics in hardware.graphics):
        found = await monitor.execute("query-vnc")
        return with_vnc_port(definition, int(found.get("service", "0")))
    return definition


def start_commands(
    definition: "DomainDefinition", hardware: "Hardware"
) -> "list[tuple[str, Json]]":
    """They do not depend on each other."""
    commands: list[tuple[str, Json]] = []
    for graphics in hardware.graphics:
        commands += _vnc_commands(graphics)
    commands += _balloon_commands(definition, hardware)
    for interface in hardware.interfaces:
        if not interface.link_up:
            commands.append(("set_link", {"name": interface.place.alias, "up": False}))
    return commands


def _vnc_commands(graphics: "GraphicsHardware") -> "list[tuple[str, Json]]":
    if graphics.password is None:
        return []
    password = {"protocol": "vnc", "password": graphics.password}
    commands: list[tuple[str, Json]] = [("set_password", password)]
    if graphics.password_valid_to is not None:
        # libvirt writes UTC without saying so; QEMU takes seconds since the epoch.
        expiry = {"protocol": "vnc", "time": _seconds(graphics.password_valid_to)}
        commands.append(("expire_password", expiry))
    return commands


def _balloon_commands(
    definition: "DomainDefinition", hardware: "Hardware"
) -> "list[tuple[str, Json]]":
    balloon = hardware.balloon
    if balloon is None or balloon.model == "none":
        return []
    commands: list[tuple[str, Json]] = []
    if definition.current_memory < definition.memory:
        commands.append(("balloon", {"value": definition.current_memory * 1024}))
    if balloon.period:
        path = f"/machine/peripheral/{balloon.place.alias}"
        value = {"path": path, "property": "guest-stats-polling-interval", "value": balloon.period}
        commands.append(("qom-set", value))
    return commands


def _seconds(text: str) -> str:
    try:
        return str(int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()))
    except (ValueError, OverflowError):
        raise XmlError(f"passwdValidTo={text!r} is not a time like 2030-01-31T12:00:00") from None
