"""The machine below: processors and memory of the real host, as `virNodeInfo` wants them.

Read from /proc when asked; where that is missing or odd, the answer is plain rather than wrong.
Knows no XML.
"""

import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from virtbackupd.drivers.interface import NodeInfo

_CPU_INFO: Final = Path("/proc/cpuinfo")
_MEMORY_INFO: Final = Path("/proc/meminfo")
_STATISTICS: Final = Path("/proc/stat")
_NANOSECONDS: Final = 1_000_000_000
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_MEMORY_FIGURES: Final = (
    ("total", "MemTotal"),
    ("free", "MemFree"),
    ("buffers", "Buffers"),
    ("cached", "Cached"),
)
_MODEL_BYTES: Final = 31
"""`virNodeInfo.model` has 32 bytes, the last one NUL."""


def host_arch() -> str:
    """The host's architecture under libvirt's name for it."""
    machine = platform.machine()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine.lower(), machine or "x86_64")


def read_node_info() -> NodeInfo:
    """What the host has now."""
    processors = _processors(_lines(_CPU_INFO))
    cpus = os.cpu_count() or len(processors) or 1
    sockets, cores, threads = _topology(processors, cpus)
    return NodeInfo(
        model=host_arch().encode()[:_MODEL_BYTES],
        memory=_memory_kib(_lines(_MEMORY_INFO)),
        cpus=cpus,
        mhz=_mhz(processors),
        nodes=1,
        sockets=sockets,
        cores=cores,
        threads=threads,
    )


def read_memory() -> dict[str, int]:
    """The figures of /proc/meminfo in KiB, by name."""
    rows = (line.partition(":") for line in _lines(_MEMORY_INFO))
    found = {key: value.split()[:1] for key, _, value in rows}
    return {key: int(value[0]) for key, value in found.items() if value and value[0].isdigit()}


def available_memory() -> int:
    """Bytes that programs could still get; all there is where the system does not tell."""
    memory = read_memory()
    return (memory.get("MemAvailable") or _memory_kib([])) * 1024


def cpu_count() -> int:
    return os.cpu_count() or 1


def cpu_map(count: int) -> bytes:
    """A bit for each of `count` processors, the first one the lowest bit of the first byte."""
    return ((1 << count) - 1).to_bytes(-(-count // 8), "little")


def cpu_times(number: int) -> list[tuple[str, int]]:
    """Nanoseconds by purpose, of one processor or of all (-1); empty when there is no such one."""
    name = "cpu" if number < 0 else f"cpu{number}"
    for line in _lines(_STATISTICS):
        words = line.split()
        if words[:1] == [name]:
            ticks = [int(word) * _NANOSECONDS // _TICKS for word in words[1:6]]
            user, nice, system, idle, iowait = ticks
            named = ("kernel", system), ("user", user + nice), ("idle", idle), ("iowait", iowait)
            return list(named)
    return []


def memory_figures() -> list[tuple[str, int]]:
    """KiB by purpose, under libvirt's names."""
    memory = read_memory()
    return [(name, memory.get(key, 0)) for name, key in _MEMORY_FIGURES]


def free_memory() -> int:
    """Bytes that nothing is in."""
    return read_memory().get("MemFree", 0) * 1024


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []


def _processors(lines: Iterable[str]) -> list[dict[str, str]]:
    """One dictionary for each processor."""
    found: list[dict[str, str]] = []
    for line in lines:
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "processor":
            found.append({})
        if found:
            found[-1][key] = value
    return found


def _topology(processors: list[dict[str, str]], cpus: int) -> tuple[int, int, int]:
    """Sockets, cores of each, threads of each core; their product is the number of processors."""
    sockets = len({processor.get("physical id") for processor in processors}) or 1
    all_cores = {(each.get("physical id"), each.get("core id")) for each in processors}
    cores = max(len(all_cores) // sockets, 1)
    threads = cpus // (sockets * cores)
    if sockets * cores * threads != cpus:
        return 1, cpus, 1
    return sockets, cores, threads


def _mhz(processors: list[dict[str, str]]) -> int:
    text = processors[0].get("cpu MHz", "") if processors else ""
    return int(text.partition(".")[0]) if text.partition(".")[0].isdigit() else 0


def _memory_kib(lines: Iterable[str]) -> int:
    for line in lines:
        key, _, value = line.partition(":")
        number = value.split()[:1]
        if key == "MemTotal" and number and number[0].isdigit():
            return int(number[0])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
