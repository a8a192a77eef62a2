"""From a definition to all that starting it needs: QEMU's arguments and the nodes of its disks.

Only brings together what `command_line`, `addresses`, `capabilities` and `block_nodes` know.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import trio

from virtbackupd.drivers.definitions.machine import read_machine
from virtbackupd.drivers.enums import Create
from virtbackupd.drivers.qemu.addresses import complete
from virtbackupd.drivers.qemu.aliases import with_aliases
from virtbackupd.drivers.qemu.block_nodes import BlockNodes, find_nodes
from virtbackupd.drivers.qemu.build import Build
from virtbackupd.drivers.qemu.command_line import build_command
from virtbackupd.drivers.qemu.config import DomainPaths
from virtbackupd.drivers.qemu.device_ports import ports_to_build, socket_path
from virtbackupd.drivers.qemu.firmware import complete_firmware, make_nvram
from virtbackupd.drivers.qemu.labels import default_owner
from virtbackupd.drivers.qemu.live_details import with_chains, with_sockets
from virtbackupd.drivers.qemu.process import MONITOR_FD, secret_path
from virtbackupd.drivers.qemu.startup_policy import without_missing

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.domain import DomainDefinition
    from virtbackupd.drivers.qemu.capabilities import QemuCapabilities
    from virtbackupd.drivers.qemu.domain import QemuDomain
    from virtbackupd.drivers.qemu.host import Host


@dataclass(frozen=True, slots=True)
class Prepared:
    """Ready to be started."""

    definition: "DomainDefinition"
    """The live form, with every alias and address."""
    argv: Sequence[str]
    nodes: BlockNodes
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Sequence[bytes] = ()
    """What opens the encrypted images, as the arguments expect it."""


async def prepare(
    domain: "QemuDomain", definition: "DomainDefinition", paths: DomainPaths, incoming: str | None
) -> Prepared:
    """Look at images and firmware, and build the command line."""
    capabilities = await capabilities_of(domain.host, definition)
    look = partial(without_missing, restored=incoming is not None)
    present = await trio.to_thread.run_sync(look, await completed(domain.host, definition))
    live = with_aliases(present)
    nodes = await find_nodes(live)
    await _make_variables(domain.host, live, reset=False)
    secrets = [secret for chain in nodes.disks.values() for secret in chain.secrets()]
    command = build_command(
        live,
        paths=paths,
        capabilities=capabilities,
        disks=nodes.disks,
        objects=[
            {"qom-type": "secret", "id": name, "file": secret_path(index)}
            for index, (name, _) in enumerate(secrets)
        ],
        incoming=incoming,
        monitor_fd=MONITOR_FD,
    )
    build = Build.of(live, capabilities, paths)
    sockets = {
        port.alias: socket_path(build, port)
        for port in ports_to_build(build)
        if port.type == "unix" and port.alias is not None
    }
    shown = with_sockets(with_chains(live, nodes.disks), sockets)
    store = domain.host.secrets.store
    values = [store.require_value(store.named(secret)) for _, secret in secrets]
    return Prepared(shown, command.argv, nodes, command.env, values)


async def renew_variables(host: "Host", definition: "DomainDefinition", flags: int) -> None:
    """Put the template in place of the firmware's variables, where a start asks for that."""
    if flags & Create.RESET_NVRAM:
        await _make_variables(host, await completed(host, definition), reset=True)


async def _make_variables(host: "Host", definition: "DomainDefinition", *, reset: bool) -> None:
    owner = default_owner(host.settings)
    await trio.to_thread.run_sync(partial(make_nvram, definition, owner, reset=reset))


async def completed(host: "Host", definition: "DomainDefinition") -> "DomainDefinition":
    """What a definition becomes when it is taken in: checked, with every address."""
    capabilities = await capabilities_of(host, definition)
    definition = complete(definition, capabilities)
    if definition.view(read_machine).boot.needs_files:
        finish = partial(complete_firmware, definition, host.settings)
        definition = await trio.to_thread.run_sync(finish)
    return definition


async def capabilities_of(host: "Host", definition: "DomainDefinition") -> "QemuCapabilities":
    """Of the emulator that the definition names, or the one that is used without a name."""
    return await host.capabilities.get(definition.emulator or host.settings.emulator)
