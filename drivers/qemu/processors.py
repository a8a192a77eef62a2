"""What the host has given to each of a guest's processors, as the kernel accounts for its thread.

Reads small files of /proc, which answer at once. A thread that has just ended counts as idle.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from virtbackupd.drivers.enums import VcpuState
from virtbackupd.drivers.node import cpu_count
from virtbackupd.drivers.qemu.process import cpu_times, last_cpu
from virtbackupd.drivers.records import VcpuInfo

if TYPE_CHECKING:
    from virtbackupd.drivers.qemu.domain import QemuDomain

_MILLISECOND: Final = 1_000_000


class ThreadTimes(NamedTuple):
    """Of one processor's thread, in nanoseconds."""

    run: int
    wait: int
    """Of waiting for the end of I/O; 0 unless the kernel was told to count it."""
    delay: int
    """Of waiting for a processor of the host's."""


def thread_times(pid: int, thread: int) -> ThreadTimes:
    """The three figures of a thread."""
    return ThreadTimes(sum(cpu_times(pid, thread)), _waited(pid, thread), _delayed(pid, thread))


def get_vcpus(domain: "QemuDomain") -> list[VcpuInfo]:
    """virDomainGetVcpus: each processor, where it ran last, and where it may run."""
    run = domain.require_run()
    return [
        VcpuInfo(
            number,
            VcpuState.RUNNING,
            sum(cpu_times(run.process.pid, thread)),
            last_cpu(run.process.pid, thread),
            _allowed(thread),
        )
        for number, thread in enumerate(run.cpu_threads)
    ]


def _delayed(pid: int, thread: int) -> int:
    fields = _read(pid, thread, "schedstat").split()
    return int(fields[1]) if len(fields) > 1 else 0


def _waited(pid: int, thread: int) -> int:
    """The kernel shows milliseconds with six decimals, under a name with or without a prefix."""
    for line in _read(pid, thread, "sched").splitlines():
        name, _, value = line.partition(":")
        if name.rstrip().rpartition(".")[2] == "wait_sum":
            return round(float(value) * _MILLISECOND)
    return 0


def _read(pid: int, thread: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/task/{thread}/{name}").read_text()
    except OSError:
        return ""


def _allowed(thread: int) -> bytes:
    """The affinity as a map, the host's first processor in the lowest bit."""
    try:
        allowed = os.sched_getaffinity(thread)
    except ProcessLookupError:
        allowed = set()
    # In a container their numbers may go beyond how many are counted.
    size = max([cpu_count(), *(cpu + 1 for cpu in allowed)])
    return sum(1 << cpu for cpu in allowed).to_bytes((size + 7) // 8, "little")
