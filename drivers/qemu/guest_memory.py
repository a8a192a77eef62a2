"""What a guest has of its memory: the balloon's size, and what its driver tells of itself.

The figures of a driver are as old as the last time that QEMU asked for them, which a period in the
balloon's definition makes it do. A guest without a driver tells nothing.
"""

from typing import TYPE_CHECKING, Final

from virtbackupd.drivers.definitions.hardware import read_hardware
from virtbackupd.drivers.enums import MemoryStat
from virtbackupd.drivers.flags import check_none
from virtbackupd.drivers.qemu.process import resident_size
from virtbackupd.drivers.qemu.qmp import QmpError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from virtbackupd.drivers.qemu.domain import QemuDomain
    from virtbackupd.drivers.qemu.run import Run

_UNKNOWN: Final = (1 << 64) - 1
"""What QEMU says of a figure that the driver has not told; -1 in some versions."""
_KIB: Final = 1024
_TOLD: Final[tuple[tuple[str, MemoryStat, int], ...]] = (
    ("stat-swap-in", MemoryStat.SWAP_IN, _KIB),
    ("stat-swap-out", MemoryStat.SWAP_OUT, _KIB),
    ("stat-major-faults", MemoryStat.MAJOR_FAULT, 1),
    ("stat-minor-faults", MemoryStat.MINOR_FAULT, 1),
    ("stat-free-memory", MemoryStat.UNUSED, _KIB),
    ("stat-total-memory", MemoryStat.AVAILABLE, _KIB),
    ("stat-available-memory", MemoryStat.USABLE, _KIB),
    ("stat-disk-caches", MemoryStat.DISK_CACHES, _KIB),
    ("stat-htlb-pgalloc", MemoryStat.HUGETLB_PGALLOC, 1),
    ("stat-htlb-pgfail", MemoryStat.HUGETLB_PGFAIL, 1),
)
"""QEMU's names, libvirt's tags, and what the value is divided by."""


async def learn(domain: "QemuDomain", run: "Run") -> None:
    """Find the balloon of a run and its size; an event tells when that changes."""
    balloon = domain.definition.view(read_hardware).balloon
    if balloon is None or balloon.model == "none" or not balloon.place.alias:
        return
    run.balloon_device = f"/machine/peripheral/{balloon.place.alias}"
    try:
        found = await run.monitor.execute("query-balloon")
    except QmpError:
        # Without KVM's help, for instance, QEMU has a balloon that it cannot tell of.
        return
    change(domain, run, found)


def change(domain: "QemuDomain", run: "Run", data: "Mapping[str, int]") -> None:
    """BALLOON_CHANGE, or the answer to a question: what the guest has now. Must not wait."""
    run.balloon = data["actual"] // _KIB
    domain.live = domain.definition.with_memory(current=run.balloon)


def current(domain: "QemuDomain") -> int:
    """The balloon's size in KiB, as far as it is known; what the definition wants otherwise."""
    run = domain.run
    return run.balloon if run is not None and run.balloon else domain.definition.current_memory


async def told(run: "Run") -> list[tuple[MemoryStat, int]]:
    """What the driver has told last, and when; nothing where there is no balloon."""
    if run.balloon_device is None:
        return []
    asked = {"path": run.balloon_device, "property": "guest-stats"}
    found = await run.monitor.execute("qom-get", asked)
    stats = found["stats"]
    known = [
        (tag, int(stats[name]) // unit)
        for name, tag, unit in _TOLD
        if stats.get(name, -1) not in (-1, _UNKNOWN)
    ]
    return [*known, (MemoryStat.LAST_UPDATE, int(found["last-update"]))]


async def memory_stats(domain: "QemuDomain", flags: int) -> "Sequence[tuple[int, int]]":
    """virDomainMemoryStats: tags and KiB, or numbers of events."""
    check_none(flags, "virDomainMemoryStats")
    run = domain.require_run()
    figures = await told(run)
    if run.balloon_device is not None:
        figures.insert(0, (MemoryStat.ACTUAL_BALLOON, current(domain)))
    figures.append((MemoryStat.RSS, resident_size(run.process.pid)))
    return figures
