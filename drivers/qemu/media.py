"""Another medium for a CD-ROM or floppy drive of a running machine, and another size for a disk.

The caller of `change` has the turn. A guest may lock the tray; only force opens it then.
"""

from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Final

from lxml import etree

from virtbackupd.drivers.definitions import device_edits
from virtbackupd.drivers.definitions.disk import read_disk
from virtbackupd.drivers.definitions.tree import child_attribute
from virtbackupd.drivers.definitions.writer import format_element
from virtbackupd.drivers.disks import require_disk
from virtbackupd.drivers.errors import (
    InternalError,
    InvalidArgument,
    OperationFailed,
    OperationUnsupported,
    Origin,
)
from virtbackupd.drivers.flags import FlagRules
from virtbackupd.drivers.qemu import disk_figures
from virtbackupd.drivers.qemu.block_nodes import DiskNodes
from virtbackupd.drivers.qemu.default_devices import complete_disk
from virtbackupd.drivers.qemu.live_details import show_chain
from virtbackupd.drivers.qemu.live_nodes import CLEAN_UP_GRACE, add_nodes, delete_nodes
from virtbackupd.drivers.qemu.qmp import QmpError
from virtbackupd.drivers.qemu.undo import undone_by

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.disk import DiskDefinition
    from virtbackupd.drivers.qemu.domain import QemuDomain

_BYTES: Final = 1
_RESIZE: Final = FlagRules("virDomainBlockResize", _BYTES)
_MAX_SIZE: Final = 2**63 - 1
_SECTOR: Final = 512
_KEPT: Final = ("alias", "address")


async def change(domain: "QemuDomain", device: etree._Element, *, force: bool) -> None:
    """Put the medium of the disk in `device` into the drive with the same target."""
    complete_disk(device)
    wanted = read_disk(device)
    known = domain.definition.find_disk(wanted.target)
    if known is None:
        raise InvalidArgument(f"domain {domain.ref.name} has no disk {wanted.target!r}")
    _require_same_drive(domain, known, wanted)
    alias = _alias(domain, wanted.target)
    nodes = DiskNodes(wanted.target)
    if not wanted.empty:
        nodes = await domain.nodes.probe(wanted)
    await _swap(domain, alias, nodes, force=force)
    domain.nodes.disks[wanted.target] = nodes
    run = domain.require_run()
    run.capacities.pop(wanted.target, None)
    shown = _shown(domain, device, nodes)
    domain.live = device_edits.update_device(domain.definition, format_element(shown))
    await domain.save_status()
    await disk_figures.learn_capacities(domain, run)


async def resize(domain: "QemuDomain", path: str, size: int, flags: int) -> None:
    """Grow or shrink; `size` counts KiB unless the flag says bytes."""
    _RESIZE.check(flags)
    size = size if flags & _BYTES else size * 1024
    if size > _MAX_SIZE:
        raise InvalidArgument(f"a disk of {size} bytes is beyond {_MAX_SIZE}", origin=Origin.DOMAIN)
    async with domain.modify(_RESIZE.function):
        domain.require_active()
        disk = require_disk(domain.definition, path)
        nodes = domain.nodes.disks.get(disk.target)
        if disk.read_only or nodes is None or nodes.node is None:
            raise OperationUnsupported(
                f"disk {disk.target} is empty or read-only, it has no new size"
            )
        if domain.backup is not None and domain.backup.uses(disk.target):
            raise InternalError(f"disk {disk.target} is in use by a backup, end that to resize it")
        whole = -(-size // _SECTOR) * _SECTOR
        arguments = {"node-name": nodes.node, "size": whole}
        await domain.monitor.execute("block_resize", arguments)
        domain.require_run().capacities[disk.target] = whole


async def _swap(domain: "QemuDomain", alias: str, nodes: DiskNodes, *, force: bool) -> None:
    """Nothing changes in the drive before the new medium is open in QEMU."""
    old = domain.nodes.disks.get(nodes.target) or DiskNodes(nodes.target)
    await add_nodes(domain, nodes)
    async with undone_by(partial(delete_nodes, domain, nodes), CLEAN_UP_GRACE):
        await _open_tray(domain, alias, force=force)
        if old.node is not None:
            await _remove_medium(domain, alias)
    await delete_nodes(domain, old)
    if nodes.node is not None:
        insert = {"id": alias, "node-name": nodes.node}
        await domain.monitor.execute("blockdev-insert-medium", insert)
    await domain.monitor.execute("blockdev-close-tray", {"id": alias})


async def _open_tray(domain: "QemuDomain", alias: str, *, force: bool) -> None:
    await domain.monitor.execute("blockdev-open-tray", {"id": alias, "force": force})


async def _remove_medium(domain: "QemuDomain", alias: str) -> None:
    try:
        await domain.monitor.execute("blockdev-remove-medium", {"id": alias})
    except QmpError as error:
        if "not open" in error.desc or "locked" in error.desc:
            raise OperationFailed(
                f"the guest of domain {domain.ref.name} has locked the tray of {alias}: eject the"
                " medium in the guest, or use force"
            ) from None
        raise


def _require_same_drive(
    domain: "QemuDomain", known: "DiskDefinition", wanted: "DiskDefinition"
) -> None:
    if not known.removable:
        raise OperationUnsupported(
            f"disk {known.target!r} has no removable medium: detach it and attach another"
        )
    if (known.device, known.bus) != (wanted.device, wanted.bus):
        raise OperationUnsupported(
            f"drive {known.target!r} of domain {domain.ref.name} is a {known.device} on the bus"
            f" {known.bus}, which cannot be changed while it runs"
        )


def _alias(domain: "QemuDomain", target: str) -> str:
    found = _drive(domain, target)
    alias = None if found is None else child_attribute(found, "alias", "name")
    if alias is None:
        raise InternalError(f"disk {target} of domain {domain.ref.name} has no alias")
    return alias


def _drive(domain: "QemuDomain", target: str) -> etree._Element | None:
    def find(root: etree._Element) -> etree._Element | None:
        for disk in root.iterfind("devices/disk"):
            if child_attribute(disk, "target", "dev") == target:
                return deepcopy(disk)
        return None

    return domain.definition.view(find)


def _shown(domain: "QemuDomain", device: etree._Element, nodes: DiskNodes) -> etree._Element:
    """The new description at the old place."""
    shown = deepcopy(device)
    known = _drive(domain, nodes.target)
    for tag in _KEPT if known is not None else ():
        for old in shown.findall(tag):
            shown.remove(old)
        if known is not None:
            shown.extend(known.findall(tag))
    show_chain(shown, nodes)
    return shown
