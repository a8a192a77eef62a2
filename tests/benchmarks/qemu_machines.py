"""Real machines for both servers: the same XML, paused, with disks of their own."""

import subprocess
import time
from pathlib import Path

import libvirt
from nbd_client import nbd_client

DISK_SIZE = 2 << 30
DOMAIN = """\
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
{disks}
    <memballoon model='none'/>
  </devices>
</domain>
"""
DISK = """\
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='{path}'/>
      <target dev='{target}' bus='virtio'/>
    </disk>"""
BACKUP = """\
<domainbackup mode='pull'>
  <server transport='unix' socket='{socket}'/>
  <disks>
{disks}
  </disks>
</domainbackup>
"""
BACKUP_DISK = "    <disk name='{target}' type='file'><scratch file='{scratch}'/></disk>"


def targets(disks: int) -> list[str]:
    return [f"vd{chr(ord('a') + index)}" for index in range(disks)]


def make_image(path: Path) -> Path:
    command = ["qemu-img", "create", "-q", "-f", "qcow2", str(path), str(DISK_SIZE)]
    subprocess.run(command, check=True)
    path.chmod(0o666)
    return path


def fill(path: Path, size: int) -> None:
    """Allocate the first `size` bytes with data that is not zero."""
    subprocess.run(["qemu-io", "-c", f"write -q -P 0xab 0 {size}", str(path)], check=True)


def domain_xml(folder: Path, name: str, disks: int) -> str:
    images = {target: make_image(folder / f"{name}-{target}.qcow2") for target in targets(disks)}
    text = "\n".join(DISK.format(path=path, target=target) for target, path in images.items())
    return DOMAIN.format(name=name, disks=text)


def defined(
    connection: libvirt.virConnect, folder: Path, name: str, disks: int
) -> libvirt.virDomain:
    return connection.defineXML(domain_xml(folder, name, disks))


def start_seconds(domain: libvirt.virDomain) -> float:
    """Seconds of one start; the domain is paused afterwards."""
    start = time.perf_counter()
    domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    return time.perf_counter() - start


def cycle_seconds(domain: libvirt.virDomain, folder: Path, name: str, disks: int) -> float:
    """Begin a pull with a checkpoint, ask each export's block status, abort; seconds in all."""
    address = folder / "nbd.sock"
    address.unlink(missing_ok=True)
    entries = "\n".join(
        BACKUP_DISK.format(target=target, scratch=folder / f"{name}-{target}.scratch")
        for target in targets(disks)
    )
    document = BACKUP.format(socket=address, disks=entries)
    checkpoint = f"<domaincheckpoint><name>{name}</name></domaincheckpoint>"
    start = time.perf_counter()
    domain.backupBegin(document, checkpoint)
    for target in targets(disks):
        with nbd_client(address, target) as reader:
            reader.extents()
    domain.abortJob()
    taken = time.perf_counter() - start
    wait_idle(domain)
    return taken


def begin_seconds(domain: libvirt.virDomain, folder: Path, name: str) -> float:
    """Seconds of backupBegin alone, without a checkpoint, one disk."""
    address = folder / "nbd.sock"
    address.unlink(missing_ok=True)
    entry = BACKUP_DISK.format(target="vda", scratch=folder / f"{name}.scratch")
    document = BACKUP.format(socket=address, disks=entry)
    start = time.perf_counter()
    domain.backupBegin(document, None)
    taken = time.perf_counter() - start
    domain.abortJob()
    wait_idle(domain)
    return taken


def wait_idle(domain: libvirt.virDomain) -> None:
    while domain.jobStats()["type"] != libvirt.VIR_DOMAIN_JOB_NONE:
        time.sleep(0.001)


def checkpoint_seconds(domain: libvirt.virDomain, name: str) -> float:
    """Seconds of creating and deleting one checkpoint."""
    document = f"<domaincheckpoint><name>{name}</name></domaincheckpoint>"
    start = time.perf_counter()
    domain.checkpointCreateXML(document, 0).delete(0)
    return time.perf_counter() - start


def stats_seconds(connection: libvirt.virConnect, count: int) -> float:
    start = time.perf_counter()
    found = connection.getAllDomainStats(0, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE)
    taken = time.perf_counter() - start
    if len(found) < count:
        raise RuntimeError(f"only {len(found)} of {count} domains have statistics")
    return taken
