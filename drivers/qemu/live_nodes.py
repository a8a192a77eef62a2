"""Block nodes that come to and go from a running QEMU, as whole chains. Knows no device."""

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

from virtbackupd.drivers.qemu.qmp import QmpError
from virtbackupd.drivers.qemu.undo import undone_by

if TYPE_CHECKING:
    from collections.abc import Iterable

    from virtbackupd.drivers.qemu.block_nodes import DiskNodes
    from virtbackupd.drivers.qemu.domain import QemuDomain

CLEAN_UP_GRACE: Final = 30.0


async def add_nodes(domain: "QemuDomain", nodes: "DiskNodes") -> None:
    """All or none."""
    added: deque[str] = deque()
    async with undone_by(partial(_delete, domain, added), CLEAN_UP_GRACE):
        for props in nodes.blockdevs():
            await domain.monitor.execute("blockdev-add", props)
            added.appendleft(props["node-name"])


async def delete_nodes(domain: "QemuDomain", nodes: "DiskNodes") -> None:
    """No matter what has gone already."""
    await _delete(domain, nodes.node_names())


async def _delete(domain: "QemuDomain", names: "Iterable[str]") -> None:
    for name in names:
        try:
            await domain.monitor.execute("blockdev-del", {"node-name": name})
        except QmpError:
            continue
