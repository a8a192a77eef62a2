"""What KVM counts for a guest and for each of its processors: exits, interrupts, page faults ...

Which figures there are depends on the host's kernel, so QEMU is asked for their kinds once a run.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from virtbackupd.drivers.enums import TypedParameterType
from virtbackupd.drivers.events import TypedParameter

if TYPE_CHECKING:
    from virtbackupd.drivers.qemu.run import Run

Target: TypeAlias = Literal["vcpu", "vm"]
Figures: TypeAlias = dict[str, list[TypedParameter]]
"""By the place among QEMU's objects, which is empty for the guest as a whole."""

_SUFFIXES: Final = {"cumulative": "sum", "instant": "cur", "peak": "max"}
"""libvirt's ending of a name by the kind of figure; histograms are not reported."""
_PROVIDER: Final = "kvm"
_BOOLEAN: Final = int(TypedParameterType.BOOLEAN)
_ULLONG: Final = int(TypedParameterType.ULLONG)


async def query(run: "Run", target: Target) -> Figures:
    """The figures of all objects of a kind."""
    if run.kvm_schemas is None:
        run.kvm_schemas = _suffixed(await run.monitor.execute("query-stats-schemas"))
    asked = {"target": target, "providers": [{"provider": _PROVIDER}]}
    found = await run.monitor.execute("query-stats", asked)
    names = run.kvm_schemas.get(target, {})
    return {each.get("qom-path", ""): list(_params(each["stats"], names)) for each in found}


def total(figures: Figures, name: str) -> int:
    """The sum of one figure over all objects."""
    return sum(
        int(param.value) for params in figures.values() for param in params if param.field == name
    )


def _suffixed(schemas: list[dict[str, Any]]) -> Mapping[str, Mapping[str, str]]:
    """By target and by QEMU's name: libvirt's name."""
    return {
        schema["target"]: {
            stat["name"]: f"{stat['name']}.{_SUFFIXES[stat['type']]}"
            for stat in schema["stats"]
            if stat["type"] in _SUFFIXES
        }
        for schema in schemas
        if schema["provider"] == _PROVIDER
    }


def _params(stats: list[dict[str, Any]], names: Mapping[str, str]) -> Iterator[TypedParameter]:
    for stat in stats:
        name, value = names.get(stat["name"]), stat["value"]
        if name is not None and not isinstance(value, list):
            kind = _BOOLEAN if isinstance(value, bool) else _ULLONG
            yield TypedParameter(name, kind, int(value))
