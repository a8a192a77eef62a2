"""Pull backups: the instant of every disk behind one NBD server of QEMU's, until somebody ends it.

Old contents go to a scratch image that stands on the live disk. What is common to both kinds of
backup is in `running`.
"""

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from virtbackupd.drivers.errors import InternalError
from virtbackupd.drivers.qemu import bitmaps, strays, tls
from virtbackupd.drivers.qemu.qmp import QmpError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from virtbackupd.drivers.definitions.backup import BackupServer
    from virtbackupd.drivers.qemu.block_nodes import Json
    from virtbackupd.drivers.qemu.domain import QemuDomain
    from virtbackupd.drivers.qemu.work import DiskWork

_EXPORT_PREFIX: Final = "libvirt-nbd-"


async def start_server(domain: "QemuDomain", server: "BackupServer | None") -> None:
    """Let QEMU listen; there is nothing to be had yet."""
    if server is None:
        raise InternalError("a pull backup needs a <server>")
    arguments: Json = {"addr": _address(server)}
    if server.tls:
        arguments["tls-creds"] = await tls.add_credentials(domain)
    await domain.monitor.execute("nbd-server-start", arguments)


async def stop_server(
    domain: "QemuDomain", server: "BackupServer | None", listening: set[int] | None = None
) -> None:
    """Hang up on every client and let go of the address; no matter if that has been done."""
    await strays.hang_up(domain, server, listening)
    with suppress(QmpError):
        await domain.monitor.execute("nbd-server-stop")
    if server is not None and server.tls:
        await tls.remove_credentials(domain)


def actions(work: "DiskWork") -> "list[Json]":
    """What begins a disk's part; a bitmap for the client lives on the scratch image."""
    found = []
    if work.chain and work.bitmap is not None:
        found += bitmaps.merged_copy(work.layer.node, work.bitmap, work.chain)
    return [*found, work.job_action(sync="none")]


async def export(domain: "QemuDomain", works: "Sequence[DiskWork]") -> None:
    """Offer every disk under its name."""
    exports = [_export(work) for work in works]
    for refusal in await domain.monitor.execute_each("block-export-add", exports):
        if refusal is not None:
            raise refusal


def _export(work: "DiskWork") -> "Json":
    node = work.layer.node
    arguments: Json = {
        "type": "nbd",
        "id": _EXPORT_PREFIX + node,
        "node-name": node,
        "writable": False,
        "name": work.entry.export,
    }
    if work.chain and work.bitmap is not None:
        arguments["bitmaps"] = [work.bitmap]
    return arguments


def _address(server: "BackupServer") -> "Json":
    if server.transport == "unix":
        return {"type": "unix", "data": {"path": server.socket}}
    return {"type": "inet", "data": {"host": server.name, "port": str(server.port)}}
