"""Named scenarios: files of fault rules that come with the package, one for each known trouble."""

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final, NamedTuple

from virtbackupd.drivers.errors import InvalidArgument
from virtbackupd.drivers.faults.effects import BEFORE_EXPORT, DISK_PHASES, Point
from virtbackupd.drivers.faults.patterns import Pattern
from virtbackupd.drivers.faults.rule_file import FaultFile, RuleSpec

if TYPE_CHECKING:
    from virtbackupd.drivers.faults.engine import Faults

_SUFFIX: Final = ".toml"


class Scenario(NamedTuple):
    """One scenario."""

    name: str
    about: str
    rules: tuple[RuleSpec, ...]


@cache
def all_scenarios() -> tuple[Scenario, ...]:
    """In the order of their names."""
    folder = resources.files("virtbackupd.drivers.faults").joinpath("scenario_files")
    files = sorted((file.name, file) for file in folder.iterdir() if file.name.endswith(_SUFFIX))
    return tuple(
        _scenario(name.removesuffix(_SUFFIX), file.read_text(encoding="utf-8"))
        for name, file in files
    )


def load(faults: "Faults", name: str, domain: str | None, disk: str | None) -> None:
    """Add the rules of a scenario; InvalidArgument, with the known names, when there is none.

    With a domain, only calls and backups of that one are hit; with a disk, what is about a disk
    is about that one.
    """
    found = {scenario.name: scenario for scenario in all_scenarios()}.get(name)
    if found is None:
        known = ", ".join(scenario.name for scenario in all_scenarios())
        raise InvalidArgument(f"there is no scenario {name!r}; known are: {known}")
    faults.add([_for(rule, domain, disk) for rule in found.rules])


def _scenario(name: str, text: str) -> Scenario:
    file = FaultFile(f"scenario {name}", text)
    rules = tuple(rule._replace(name=f"scenario {name}") for rule in file.rules())
    return Scenario(name, file.entries.about, rules)


def _for(rule: RuleSpec, domain: str | None, disk: str | None) -> RuleSpec:
    if domain is not None:
        rule = rule._replace(domain=Pattern(domain))
    if disk is not None and _about_disk(rule):
        rule = rule._replace(disk=Pattern(disk))
    return rule


def _about_disk(rule: RuleSpec) -> bool:
    if rule.kind.startswith("bitmap-") or rule.point is Point.SPACE:
        return True
    if rule.point is Point.PHASE:
        return rule.word.text in DISK_PHASES
    return rule.point is Point.NBD and rule.word.text not in BEFORE_EXPORT
