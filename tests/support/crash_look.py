"""A look at a domain from outside: what is in QEMU, in its images, on the disk and in the answers.

What must agree after a process has been ended is said here once. Ends nothing and changes nothing.
"""

import json
import socket
from pathlib import Path
from typing import Any

import libvirt
from libvirt_qemu import qemuMonitorCommand

DISKS = ("vda", "vdb")


class Look:
    """`root` is the folder of the daemon, of the images and of all that backups write."""

    root: Path
    pid: int
    """Of QEMU."""

    @property
    def machine(self) -> libvirt.virDomain:
        raise NotImplementedError

    def image(self, disk: str) -> Path:
        return self.root / f"{disk}.qcow2"

    # What is there
    def query(self, command: str, **arguments: object) -> Any:  # noqa: ANN401 - QEMU's answer
        text = json.dumps({"execute": command, "arguments": arguments})
        answer = json.loads(qemuMonitorCommand(self.machine, text, 0))
        return answer["return"]

    def checkpoints(self) -> set[str]:
        return {found.getName() for found in self.machine.listAllCheckpoints()}

    def checkpoint_files(self) -> set[str]:
        """All files in the folder; marks of what was under way have no business there."""
        folder = self.root / "state/qemu/checkpoint/m"
        names = {path.name for path in folder.glob("*")} if folder.is_dir() else set()
        return {name for name in names if not name.endswith(".new")}

    def bitmaps(self) -> dict[str, set[str]]:
        """By disk: the names of bitmaps that can be used."""
        nodes = self.query("query-named-block-nodes", flat=True)
        return {disk: self._usable(nodes, disk) for disk in DISKS}

    def _usable(self, nodes: list[dict[str, Any]], disk: str) -> set[str]:
        found = set()
        for node in nodes:
            if node["drv"] == "qcow2" and node["file"] == str(self.image(disk)):
                for bitmap in node.get("dirty-bitmaps", ()):
                    assert not bitmap.get("inconsistent"), bitmap
                    found.add(bitmap.get("name", ""))
        return found

    def extra_nodes(self) -> set[str]:
        """Files that QEMU has open beside the disks."""
        disks = {str(self.image(disk)) for disk in DISKS}
        nodes = self.query("query-named-block-nodes", flat=True)
        return {node["file"] for node in nodes if node["file"] not in disks}

    def written(self) -> set[str]:
        """What backups have left in the folder."""
        return {path.name for path in self.root.glob("backup-*")}

    def serves(self) -> bool:
        """Whether anybody listens on the address of the pull."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.root / "nbd"))
            except OSError:
                return False
        return True

    def job_type(self) -> int:
        return self.machine.jobInfo()[0]

    @property
    def busy(self) -> bool:
        return self.job_type() != libvirt.VIR_DOMAIN_JOB_NONE

    def result(self) -> int:
        """How the last backup has ended."""
        flags = libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED | libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED
        found: int = self.machine.jobStats(flags)["type"]
        return found

    # What must be so
    def check(self) -> None:
        """Metadata, bitmaps, files and jobs agree, and the domain has not noticed anything."""
        assert Path(f"/proc/{self.pid}/stat").exists()
        assert self.machine.state()[0] == libvirt.VIR_DOMAIN_PAUSED
        names = self.checkpoints()
        assert self.checkpoint_files() == {f"{name}.xml" for name in names}
        if self.busy:
            assert self.written() == {f"backup-{disk}" for disk in DISKS}
            assert "<domainbackup" in self.machine.backupGetXMLDesc()
            for disk, found in self.bitmaps().items():
                assert names <= found <= names | {"", f"backup-{disk}"}
        else:
            self.check_idle(names)

    def agrees(self) -> bool:
        """Whether all that must be so is so by now."""
        try:
            self.check()
        except (AssertionError, libvirt.libvirtError):
            return False
        return True

    def check_idle(self, names: set[str]) -> None:
        """Nothing of a backup is left in QEMU."""
        assert self.bitmaps() == dict.fromkeys(DISKS, names)
        assert self.query("query-jobs") == []
        assert self.extra_nodes() == set()
        assert not self.serves()

    def check_ended(self) -> None:
        """QEMU has been killed: nothing of the run is left, but all checkpoints are."""
        state = self.root / "state/qemu"
        assert self.checkpoint_files() == {f"{name}.xml" for name in self.checkpoints()}
        assert not (state / "run/m.xml").exists()
        assert list(state.glob("lib/*")) == []
        assert not self.written() or self.result() == libvirt.VIR_DOMAIN_JOB_COMPLETED
