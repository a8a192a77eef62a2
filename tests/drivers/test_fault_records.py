"""Fault rules in a saved world: each comes back as it was, and goes on as it would have."""

from typing import Any

import msgspec
import pytest

from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.events import DomainRef
from virtbackupd.drivers.faults import scenarios
from virtbackupd.drivers.faults.effects import Point
from virtbackupd.drivers.faults.engine import Faults
from virtbackupd.drivers.faults.rule_records import SavedRule, read, record

WEB = DomainRef("web-1", bytes(15) + b"\x01", 1)
RULE = "[[faults]]\nname = 'n'\nmatch = {{ nbd = 'read' }}\nwhen = {{ {} }}\neffect = {{ {} }}\n"


def faults(when: str = "", effect: str = "kind = 'drop', byte = 9") -> Faults:
    found = Faults()
    found.load_text("seed = 5\n" + RULE.format(when, effect), "rules.toml")
    return found


def stored(rule: SavedRule) -> SavedRule:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(rule), type=SavedRule)


def again(subject: Faults) -> Faults:
    """Another daemon's faults, from what a file would hold."""
    found = Faults()
    found.restore([read(stored(record(state))) for state in subject.state()])
    return found


def struck(subject: Faults, hits: int) -> list[int]:
    return [n for n in range(hits) if subject.at(Point.NBD, "read", WEB, "vda")]


@pytest.mark.parametrize("name", [scenario.name for scenario in scenarios.all_scenarios()])
def test_the_rules_of_every_scenario_come_back(name: str) -> None:
    subject = Faults()
    scenarios.load(subject, name, "web-1", "vda")
    found = again(subject)
    assert found.describe() == subject.describe()
    assert found.active


def test_what_was_counted_comes_back() -> None:
    subject = faults("after = 1, times = 2")
    for fired in (fired for _ in range(3) for fired in subject.at(Point.NBD, "read", WEB, "vda")):
        fired.done()
    assert again(subject).report() == subject.report()
    assert struck(again(subject), 3) == struck(subject, 3) == []


def test_chance_goes_on_where_it_was() -> None:
    subject = faults("probability = 0.5")
    first = struck(subject, 20)
    found = again(subject)
    assert struck(found, 200) == struck(subject, 200) != first
    assert struck(found, 200) == struck(subject, 200)


def test_rules_in_force_before_are_dropped() -> None:
    found = faults()
    found.restore(())
    assert (found.active, found.report()["rules"]) == (False, [])


def test_whoever_follows_the_rules_is_told() -> None:
    found, told = Faults(), list[bool]()
    found.changed.append(lambda: told.append(found.active))
    found.restore(faults().state())
    assert told[-1]


def saved(**changes: Any) -> SavedRule:  # noqa: ANN401 - whatever a file may hold
    (state,) = faults("probability = 0.5").state()
    return msgspec.structs.replace(stored(record(state)), **changes)


def entry(**changes: Any) -> Any:  # noqa: ANN401 - likewise
    return msgspec.structs.replace(saved().entry, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"random": b"1234"}, "the random numbers of fault rule n are cut"),
        ({"random": b"\xff" * 2500}, "invalid state"),
        ({"entry": entry(effect={"kind": "x"})}, "'x' is none of"),
        ({"entry": entry(effect={"kind": "drop", "byte": -1})}, "expected `int` >= 0"),
        ({"entry": entry(effect={"kind": "kill"})}, "'kill' does not go with nbd"),
    ],
)
def test_a_record_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((DriverError, ValueError), match=message):
        read(saved(**changes))


@pytest.mark.parametrize("figure", ["hits", "fired", "used"])
def test_a_count_below_zero_is_refused(figure: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=">= 0"):
        stored(saved(**{figure: -1}))
