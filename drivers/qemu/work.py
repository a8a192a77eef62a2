"""One disk's part in a backup: what is read, what is written, and the job that does it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.backup import BackupDisk
    from virtbackupd.drivers.jobs import DiskJob
    from virtbackupd.drivers.qemu.bitmaps import Bitmap
    from virtbackupd.drivers.qemu.block_nodes import Json, Layer


@dataclass(slots=True)
class DiskWork:
    """From the first check to the end of the whole backup."""

    entry: "BackupDisk"
    node: str
    """The top of the disk's chain."""
    layer: "Layer"
    """The scratch image or target."""
    job: "DiskJob"
    created: bool
    """Whether the file is ours to remove."""
    bitmap: str | None = None
    """The name of the temporary bitmap of an incremental backup."""
    secret: str | None = None
    """The object that the scratch image or target is encrypted with."""
    chain: "list[Bitmap]" = field(default_factory=list)
    """What an incremental backup starts from; only needed to begin it."""

    @property
    def job_id(self) -> str:
        return f"backup-{self.entry.name}-{self.node}"

    def job_action(self, *, sync: str, bitmap: str | None = None) -> "Json":
        """For a transaction: begin to copy."""
        data: Json = {
            "device": self.node,
            "job-id": self.job_id,
            "target": self.layer.node,
            "sync": sync,
            "auto-finalize": True,
            "auto-dismiss": False,
        }
        if bitmap is not None:
            data["bitmap"] = bitmap
        return {"type": "blockdev-backup", "data": data}
