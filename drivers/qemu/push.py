"""Push backups: QEMU copies every disk to a target, and the job ends by itself.

What is common to both kinds of backup is in `running`.
"""

from functools import partial
from typing import TYPE_CHECKING

from virtbackupd.drivers.qemu import bitmaps
from virtbackupd.drivers.qemu.qmp import QmpError
from virtbackupd.drivers.qemu.together import together

if TYPE_CHECKING:
    from collections.abc import Iterable

    from virtbackupd.drivers.qemu.block_nodes import Json
    from virtbackupd.drivers.qemu.domain import QemuDomain
    from virtbackupd.drivers.qemu.work import DiskWork


def actions(work: "DiskWork") -> "list[Json]":
    """What begins a disk's part; what is to be copied is frozen in a bitmap on the source."""
    if not work.chain or work.bitmap is None:
        return [work.job_action(sync="full")]
    return [
        *bitmaps.merged_copy(work.node, work.bitmap, work.chain),
        work.job_action(sync="incremental", bitmap=work.bitmap),
    ]


async def remove_bitmaps(domain: "QemuDomain", works: "Iterable[DiskWork]") -> None:
    """Remove those that a copy was made by; no matter if they have gone."""

    async def remove(work: "DiskWork") -> None:
        data = {"node": work.node, "name": work.bitmap}
        try:
            await domain.monitor.execute("block-dirty-bitmap-remove", data)
        except QmpError:
            return

    await together(partial(remove, work) for work in works if work.bitmap is not None)
