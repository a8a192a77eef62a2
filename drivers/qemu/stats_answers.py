"""What QEMU is asked for the statistics of a domain, all at once, and what it has answered.

A question that QEMU refuses, or that it does not answer because it has ended, leaves its field as
it was: the figures of the others are reported all the same.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from virtbackupd.drivers.enums import DomainStats, MemoryStat
from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.qemu import disk_figures, guest_memory, kvm_figures

if TYPE_CHECKING:
    import trio

    from virtbackupd.drivers.qemu.disk_figures import FileSizes, Layer, LayerSizes
    from virtbackupd.drivers.qemu.domain import QemuDomain
    from virtbackupd.drivers.qemu.run import Run
    from virtbackupd.drivers.qemu.work import DiskWork

_IOTHREAD: Final = re.compile(r"iothread(\d{1,9})")


@dataclass(slots=True)
class Found:
    """One domain and what is known of it."""

    domain: "QemuDomain"
    backing: bool
    """Whether every layer of a chain is wanted."""
    chains: "dict[str, list[Layer]]" = field(default_factory=dict)
    sizes: "Mapping[str, FileSizes]" = field(default_factory=dict)
    """By path; also of other domains."""
    stored: "Mapping[str, LayerSizes]" = field(default_factory=dict)
    """By path, of domains that do not run."""
    layers: "Mapping[str, LayerSizes]" = field(default_factory=dict)
    memory: list[tuple[MemoryStat, int]] = field(default_factory=list)
    kvm_vcpus: kvm_figures.Figures = field(default_factory=dict)
    kvm_vm: kvm_figures.Figures = field(default_factory=dict)
    iothreads: dict[int, dict[str, Any]] = field(default_factory=dict)
    """By number."""
    dirty_rate: Mapping[str, Any] | None = None

    def work_of(self, target: str) -> "DiskWork | None":
        """The part of a running backup that copies a disk."""
        backup = self.domain.backup
        return backup.work_of(target) if backup is not None else None


def ask(found: Found, groups: int, nursery: "trio.Nursery") -> None:
    """Begin to ask all that the groups need; it is answered when the nursery has ended."""
    run = found.domain.run
    if run is None:
        return
    for question in _QUESTIONS:
        wanted = not groups or groups & question.groups
        if wanted and question.applies(found, run):
            nursery.start_soon(_ask, question.ask, found, run)


_Ask: TypeAlias = "Callable[[Found, Run], Awaitable[None]]"


async def _ask(question: _Ask, found: Found, run: "Run") -> None:
    try:
        await question(found, run)
    except DriverError:
        # The domain has ended, or this QEMU has no answer.
        return


async def _chains(found: Found, run: "Run") -> None:
    del run
    found.chains = await disk_figures.query(found.domain)


async def _layers(found: Found, run: "Run") -> None:
    del run
    found.layers = await disk_figures.query_layers(found.domain)


async def _memory(found: Found, run: "Run") -> None:
    found.memory = await guest_memory.told(run)


async def _kvm_vcpus(found: Found, run: "Run") -> None:
    found.kvm_vcpus = await kvm_figures.query(run, "vcpu")


async def _kvm_vm(found: Found, run: "Run") -> None:
    found.kvm_vm = await kvm_figures.query(run, "vm")


async def _iothreads(found: Found, run: "Run") -> None:
    for thread in await run.monitor.execute("query-iothreads"):
        number = _IOTHREAD.fullmatch(thread["id"])
        if number is not None:
            found.iothreads[int(number[1])] = thread


async def _dirty_rate(found: Found, run: "Run") -> None:
    found.dirty_rate = await run.monitor.execute("query-dirty-rate")


def _always(found: Found, run: "Run") -> bool:
    del found, run
    return True


def _with_kvm(found: Found, run: "Run") -> bool:
    del run
    return found.domain.definition.type == "kvm"


class _Question(NamedTuple):
    groups: int
    ask: _Ask
    applies: "Callable[[Found, Run], bool]" = _always


_QUESTIONS: Final = (
    _Question(DomainStats.BLOCK, _chains),
    _Question(DomainStats.BLOCK, _layers, lambda found, _: found.backing),
    _Question(DomainStats.BALLOON, _memory, lambda _, run: run.balloon_device is not None),
    _Question(DomainStats.VCPU | DomainStats.CPU_TOTAL, _kvm_vcpus, _with_kvm),
    _Question(DomainStats.VM, _kvm_vm, _with_kvm),
    _Question(DomainStats.IOTHREAD, _iothreads, lambda _, run: run.iothreads > 0),
    _Question(DomainStats.DIRTYRATE, _dirty_rate),
)
