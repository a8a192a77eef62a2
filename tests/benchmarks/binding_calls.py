"""What stock libvirt-python sees: lists, statistics, checkpoints and a whole pull backup."""

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import libvirt

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


def checkpoint_seconds(domain: libvirt.virDomain, count: int) -> list[float]:
    """Seconds of each of `count` checkpoints created one after the other on one domain."""
    taken = []
    for index in range(count):
        document = f"<domaincheckpoint><name>bench-{index}</name></domaincheckpoint>"
        start = time.perf_counter()
        domain.checkpointCreateXML(document, 0)
        taken.append(time.perf_counter() - start)
    return taken


class BlockStatusReader:
    """Just enough of an NBD client to ask for one block status (NBD protocol, fixed newstyle)."""

    OPTION_MAGIC = 0x49484156454F5054

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(str(path))

    def _receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._socket.recv(count - len(data))
            if not part:
                raise ConnectionError("the NBD server closed the connection")
            data += part
        return data

    def _option(self, option: int, payload: bytes = b"") -> None:
        head = struct.pack(">QII", self.OPTION_MAGIC, option, len(payload))
        self._socket.sendall(head + payload)
        while True:
            _, _, kind, length = struct.unpack(">QIII", self._receive(20))
            self._receive(length)
            if kind == 1:
                return
            if kind & 0x80000000:
                raise ConnectionError(f"NBD option {option} refused: {kind:#x}")

    def negotiate(self, export: bytes, context: bytes) -> None:
        """Structured replies, one metadata context, then transmission."""
        self._receive(18)
        self._socket.sendall(struct.pack(">I", 3))
        self._option(8)
        name = struct.pack(">I", len(export)) + export
        self._option(10, name + struct.pack(">II", 1, len(context)) + context)
        self._option(7, name + struct.pack(">H", 0))

    def block_status(self, length: int) -> int:
        """The number of bytes of the reply's extents."""
        self._socket.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 7, 1, 0, length))
        _, _, kind, _, size = struct.unpack(">IHHQI", self._receive(20))
        payload = self._receive(size)
        if kind != 5:
            raise ConnectionError(f"unexpected NBD reply type {kind}: {payload!r}")
        return len(payload)

    def close(self) -> None:
        self._socket.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 2, 2, 0, 0))
        self._socket.close()


def pull_cycle_seconds(domain: libvirt.virDomain, folder: Path, name: str, size: int) -> float:
    """Begin a pull backup with a checkpoint, ask for the block status, abort; seconds in all."""
    address = folder / "nbd.sock"
    backup = PULL_XML.format(socket=address, scratch=folder / f"{name}.scratch")
    checkpoint = f"<domaincheckpoint><name>{name}</name></domaincheckpoint>"
    start = time.perf_counter()
    domain.backupBegin(backup, checkpoint)
    reader = BlockStatusReader(address)
    reader.negotiate(b"vda", b"base:allocation")
    reader.block_status(size)
    reader.close()
    domain.abortJob()
    taken = time.perf_counter() - start
    while domain.jobStats()["type"] != libvirt.VIR_DOMAIN_JOB_NONE:
        time.sleep(0.001)
    return taken
