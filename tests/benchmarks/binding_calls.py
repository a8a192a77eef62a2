"""What stock libvirt-python sees: lists, statistics, checkpoints and a whole pull backup."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import libvirt
from nbd_client import nbd_client

DOMAINS = 1000
DOMAIN_XML = """\
<domain type='test'>
  <name>bench-{index}</name>
  <memory unit='KiB'>8192</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64'>hvm</type></os>
</domain>
"""
PULL_XML = """\
<domainbackup mode='pull'>
  <server transport='unix' socket='{socket}'/>
  <disks>
    <disk name='vda' type='file'><scratch file='{scratch}'/></disk>
  </disks>
</domainbackup>
"""


@contextmanager
def opened(uri: str) -> Iterator[libvirt.virConnect]:
    connection = libvirt.open(uri)
    try:
        yield connection
    finally:
        connection.close()


def create_domains(connection: libvirt.virConnect, count: int = DOMAINS) -> None:
    """Running transient domains without disks: the same document for both servers."""
    for index in range(count):
        connection.createXML(DOMAIN_XML.format(index=index), 0)


def list_seconds(connection: libvirt.virConnect) -> float:
    start = time.perf_counter()
    found = connection.listAllDomains(0)
    taken = time.perf_counter() - start
    if len(found) < DOMAINS:
        raise RuntimeError(f"only {len(found)} domains listed")
    return taken


def stats_seconds(connection: libvirt.virConnect) -> float:
    """State statistics of every domain: the group that libvirt's test driver has."""
    start = time.perf_counter()
    found = connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE, 0)
    taken = time.perf_counter() - start
    if len(found) < DOMAINS:
        raise RuntimeError(f"only {len(found)} records returned")
    return taken


def checkpoint_seconds(domain: libvirt.virDomain, count: int, name: str = "bench") -> list[float]:
    """Seconds of each of `count` checkpoints created one after the other on one domain."""
    taken = []
    for index in range(count):
        document = f"<domaincheckpoint><name>{name}-{index}</name></domaincheckpoint>"
        start = time.perf_counter()
        domain.checkpointCreateXML(document, 0)
        taken.append(time.perf_counter() - start)
    return taken


def one_more_seconds(domain: libvirt.virDomain) -> float:
    """Seconds of creating one checkpoint, which does not stay."""
    (taken,) = checkpoint_seconds(domain, 1, "one-more")
    domain.checkpointLookupByName("one-more-0").delete(0)
    return taken


def pull_cycle_seconds(domain: libvirt.virDomain, folder: Path, name: str) -> float:
    """Begin a pull backup with a checkpoint, ask for the block status, abort; seconds in all."""
    address = folder / "nbd.sock"
    backup = PULL_XML.format(socket=address, scratch=folder / f"{name}.scratch")
    checkpoint = f"<domaincheckpoint><name>{name}</name></domaincheckpoint>"
    start = time.perf_counter()
    domain.backupBegin(backup, checkpoint)
    with nbd_client(address, "vda") as reader:
        reader.extents()
    domain.abortJob()
    taken = time.perf_counter() - start
    while domain.jobStats()["type"] != libvirt.VIR_DOMAIN_JOB_NONE:
        time.sleep(0.001)
    return taken
