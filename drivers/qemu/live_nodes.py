"""Block nodes that come to and go from a running QEMU, as whole chains. Knows no device."""

from typing import TYPE_CHECKING

import trio

from virtbackupd.drivers.qemu.qmp import QmpError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from virtbackupd.drivers.qemu.block_nodes import DiskNodes
    from virtbackupd.drivers.qemu.domain import QemuDomain

_CLEAN_UP_GRACE = 30.0


async def add_nodes(domain: "QemuDomain", nodes: "DiskNodes") -> None:
    """All or none."""
    added: list[str] = []
    try:
        for props in nodes.blockdevs():
            await domain.monitor.execute("blockdev-add", props)
            added.append(props["node-name"])
    except BaseException:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLEAN_UP_GRACE):
            await _delete(domain, reversed(added))
        raise


async def delete_nodes(domain: "QemuDomain", nodes: "DiskNodes") -> None:
    """No matter what has gone already."""
    await _delete(domain, nodes.node_names())


async def _delete(domain: "QemuDomain", names: "Iterable[str]") -> None:
    for name in names:
        try:
            await domain.monitor.execute("blockdev-del", {"node-name": name})
        except QmpError:
            continue
