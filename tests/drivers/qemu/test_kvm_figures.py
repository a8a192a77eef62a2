"""Figures that only a host with KVM, or a guest with a driver, gives: told by a monitor of ours."""

from types import SimpleNamespace
from typing import cast

from virtbackupd.drivers.enums import MemoryStat, TypedParameterType
from virtbackupd.drivers.events import TypedParameter
from virtbackupd.drivers.qemu import guest_memory, kvm_figures
from virtbackupd.drivers.qemu.run import Run

UNTOLD = (1 << 64) - 1
BALLOON = "/machine/peripheral/balloon0"
CPU = "/machine/unattached/device[0]"
SCHEMAS = [
    {
        "provider": "kvm",
        "target": "vcpu",
        "stats": [
            {"name": "exits", "type": "cumulative"},
            {"name": "guest_mode", "type": "instant", "unit": "boolean"},
            {"name": "depth", "type": "peak"},
            {"name": "wait", "type": "log2-histogram"},
        ],
    },
    {"provider": "other", "target": "vcpu", "stats": [{"name": "x", "type": "peak"}]},
]
STATS = [
    {"name": "exits", "value": 7},
    {"name": "guest_mode", "value": False},
    {"name": "depth", "value": 2},
    {"name": "wait", "value": [1, 2]},
    {"name": "of a newer kernel", "value": 1},
]


class TellingMonitor:
    """Answers each command as it was told to, and remembers which came."""

    def __init__(self, **answers: object) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def execute(self, command: str, arguments: object = None) -> object:
        assert arguments != {}
        self.asked.append(command)
        return self.answers[command.replace("-", "_")]


def _run(monitor: TellingMonitor, *, balloon: str | None = None) -> Run:
    known = SimpleNamespace(monitor=monitor, kvm_schemas=None, balloon_device=balloon)
    return cast("Run", known)


def _kvm() -> TellingMonitor:
    told = [{"provider": "kvm", "qom-path": CPU, "stats": STATS}]
    return TellingMonitor(query_stats_schemas=SCHEMAS, query_stats=told)


async def test_figures_are_named_by_their_kind() -> None:
    found = await kvm_figures.query(_run(_kvm()), "vcpu")
    assert found == {
        CPU: [
            TypedParameter("exits.sum", TypedParameterType.ULLONG, 7),
            TypedParameter("guest_mode.cur", TypedParameterType.BOOLEAN, 0),
            TypedParameter("depth.max", TypedParameterType.ULLONG, 2),
        ]
    }


async def test_the_kinds_of_figures_are_asked_for_once() -> None:
    monitor = _kvm()
    run = _run(monitor)
    await kvm_figures.query(run, "vcpu")
    await kvm_figures.query(run, "vcpu")
    assert monitor.asked.count("query-stats-schemas") == 1


async def test_one_figure_is_summed_over_all_processors() -> None:
    found = await kvm_figures.query(_run(_kvm()), "vcpu")
    assert kvm_figures.total(found | {"other": found[CPU]}, "exits.sum") == 14


async def test_what_a_guests_driver_tells_has_libvirts_tags_and_units() -> None:
    stats = {
        "stat-swap-in": 4096,
        "stat-major-faults": 3,
        "stat-free-memory": 8 << 20,
        "stat-total-memory": UNTOLD,
        "stat-disk-caches": -1,
    }
    monitor = TellingMonitor(qom_get={"stats": stats, "last-update": 99})
    assert await guest_memory.told(_run(monitor, balloon=BALLOON)) == [
        (MemoryStat.SWAP_IN, 4),
        (MemoryStat.MAJOR_FAULT, 3),
        (MemoryStat.UNUSED, 8192),
        (MemoryStat.LAST_UPDATE, 99),
    ]


async def test_a_domain_without_a_balloon_is_not_asked() -> None:
    monitor = TellingMonitor()
    assert await guest_memory.told(_run(monitor)) == []
    assert not monitor.asked
