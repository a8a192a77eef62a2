"""What a driver's calls answer, where that is more than a number or a text.

The order of the fields is that of the struct on the wire. Nothing here does anything; others take
these names from `interface`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from virtbackupd.drivers.events import DomainRef, TypedParameter


class DomainInfo(NamedTuple):
    """`virDomainInfo`; memory in KiB, `cpu_time` in nanoseconds."""

    state: int
    max_memory: int
    memory: int
    vcpus: int
    cpu_time: int


class NodeInfo(NamedTuple):
    """`virNodeInfo`; `model` is padded by the wire, memory in KiB."""

    model: bytes
    memory: int
    cpus: int
    mhz: int
    nodes: int
    sockets: int
    cores: int
    threads: int


class BlockInfo(NamedTuple):
    """`virDomainBlockInfo`, all in bytes."""

    allocation: int
    capacity: int
    physical: int


class BlockStats(NamedTuple):
    """`virDomainBlockStatsStruct`."""

    read_requests: int
    read_bytes: int
    write_requests: int
    write_bytes: int
    errors: int


class BlockJobInfo(NamedTuple):
    """`virDomainBlockJobInfo` behind a found mark; bandwidth in bytes per second."""

    found: int
    type: int
    bandwidth: int
    cur: int
    end: int


class JobInfo(NamedTuple):
    """`virDomainJobInfo`: times in milliseconds, sizes in bytes."""

    type: int = 0
    time_elapsed: int = 0
    time_remaining: int = 0
    data_total: int = 0
    data_processed: int = 0
    data_remaining: int = 0
    memory_total: int = 0
    memory_processed: int = 0
    memory_remaining: int = 0
    file_total: int = 0
    file_processed: int = 0
    file_remaining: int = 0


class VcpuInfo(NamedTuple):
    """`virVcpuInfo`, and the host's processors that it may use, a bit for each."""

    number: int
    state: int
    cpu_time: int
    cpu: int
    cpu_map: bytes


class FileSystemInfo(NamedTuple):
    """`virDomainFSInfo`."""

    mountpoint: str
    name: str
    fstype: str
    dev_aliases: Sequence[str]


class InterfaceAddresses(NamedTuple):
    """`virDomainInterface`; each address has a type, a text and the length of its prefix."""

    name: str
    hwaddr: str | None
    addresses: Sequence[tuple[int, str, int]]


class JobStats(NamedTuple):
    """The answer of `virDomainGetJobStats`."""

    type: int
    params: Sequence[TypedParameter]


class DomainStatsRecord(NamedTuple):
    """One row of `virConnectGetAllDomainStats`."""

    domain: DomainRef
    params: Sequence[TypedParameter]
