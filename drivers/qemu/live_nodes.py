"""Block nodes that come to and go from a running QEMU, as whole chains. Knows no device."""

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

from virtbackupd.drivers.qemu import secret_objects
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
    async with undone_by(partial(_delete, domain, added, nodes), CLEAN_UP_GRACE):
        for name, secret in nodes.secrets():
            uuid = domain.host.secrets.store.named(secret)
            await secret_objects.add(domain, name, uuid)
        for props in nodes.blockdevs():
            await domain.monitor.execute("blockdev-add", props)
            added.appendleft(props["node-name"])


async def delete_nodes(domain: "QemuDomain", nodes: "DiskNodes") -> None:
    """No matter what has gone already."""
    await _delete(domain, nodes.node_names(), nodes)


async def _delete(domain: "QemuDomain", names: "Iterable[str]", nodes: "DiskNodes") -> None:
    for name in names:
        try:
            await domain.monitor.execute("blockdev-del", {"node-name": name})
        except QmpError:
            continue
    await secret_objects.remove(domain, (name for name, _ in nodes.secrets()))
