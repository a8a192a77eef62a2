"""Files of fault rules: what is taken, and the complaint about everything else."""

import re
from pathlib import Path

import libvirt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtbackupd.drivers.faults.effects import IMPLIED, KINDS, CallError, Delay, NbdDrop, Point
from virtbackupd.drivers.faults.engine import Faults
from virtbackupd.drivers.faults.error_names import CODES, DOMAINS
from virtbackupd.drivers.faults.rule_file import FaultFile, FaultFileError, RuleSpec
from virtbackupd.testing.toml_text import to_toml

PROCEDURES = ("DOMAIN_BACKUP_BEGIN", "virDomainBackupBegin")
SAMPLES = {
    "error": {Point.CALL: ", code = 9", Point.NBD: ""},
    "delay": dict.fromkeys((Point.CALL, Point.PHASE, Point.NBD), ", seconds = 1"),
    "no-space": {Point.SPACE: ", on = 'scratch'"},
    "late": {Point.EVENT: ", events = 1"},
}
WORDS = {
    Point.CALL: "procedure = 'virDomainBackupBegin'",
    Point.PHASE: "phase = 'begin'",
    Point.NBD: "nbd = 'read'",
    Point.EVENT: "event = 'lifecycle'",
}


def rules(text: str) -> list[RuleSpec]:
    return FaultFile("f.toml", text, PROCEDURES).rules()


def rule(match: str, effect: str, more: str = "") -> str:
    return f"[[faults]]\nmatch = {{ {match} }}\neffect = {{ {effect} }}\n{more}\n"


def complaint(text: str) -> str:
    with pytest.raises(FaultFileError) as caught:
        rules(text)
    return caught.value.message


@pytest.mark.parametrize(
    ("kind", "point"), [(kind, point) for kind, points in KINDS.items() for point in points]
)
def test_every_effect_goes_where_the_table_says(kind: str, point: Point) -> None:
    more = SAMPLES.get(kind, {}).get(point, "")
    (found,) = rules(rule(WORDS.get(point, ""), f"kind = '{kind}'{more}"))
    assert (found.kind, found.point, type(found.effect)) == (kind, point, KINDS[kind][point])


@pytest.mark.parametrize(
    ("kind", "point"),
    [
        (kind, point)
        for kind in KINDS
        for point in Point
        if point not in IMPLIED | KINDS[kind].keys()
    ],
)
def test_every_effect_is_refused_elsewhere(kind: str, point: Point) -> None:
    text = complaint(rule(WORDS[point], f"kind = '{kind}'"))
    assert text.startswith(
        f"f.toml:3: faults[0].effect.kind: '{kind}' does not go with {point.value}, but "
    )


def test_a_rule_is_read() -> None:
    text = """\
about = "an example"
seed = 7

[[faults]]
name = "first"
match = { procedure = "*BackupBegin", domain = "web*" }
when = { probability = 0.5, after = 2, times = 3 }
effect = { kind = "error", code = "OPERATION_FAILED", message = "no", level = "warning" }

[[faults]]
match.nbd = "read"
match.disk = "vda"
effect.kind = "drop"
effect.byte = 100
"""
    first, second = rules(text)
    assert (first.name, first.where, first.point) == ("first", "f.toml:4", Point.CALL)
    assert (first.word.text, first.domain.text, first.disk.text) == ("*BackupBegin", "web*", None)
    assert (first.when.probability, first.when.after, first.when.times) == (0.5, 2, 3)
    assert first.effect == CallError("OPERATION_FAILED", message="no", level="warning")
    assert (second.name, second.disk.text, second.effect) == ("f.toml:10", "vda", NbdDrop(100))


def test_at_says_when_a_call_is_hit() -> None:
    (found,) = rules(rule(WORDS[Point.CALL], "kind = 'delay', seconds = 1, at = 'after'"))
    assert found.effect == Delay(1, "after")


@pytest.mark.parametrize("name", ["virDomainBackupBegin", "DOMAIN_BACKUP_BEGIN", "*backup*"])
def test_a_procedure_may_be_named_in_any_way(name: str) -> None:
    assert rules(rule(f"procedure = '{name}'", "kind = 'drop'"))


CALL = WORDS[Point.CALL]
WRONG = {
    "not TOML": ("[[faults]", "f.toml:1: not TOML: "),
    "unknown table": ("[[rules]]", "f.toml:1: rules: unknown key"),
    "no effect": ("[[faults]]", "f.toml:1: faults[0]: the key 'effect' is missing"),
    "no kind": (rule(CALL, "code = 9"), "f.toml:3: faults[0].effect: the key 'kind' is missing"),
    "unknown kind": (
        rule(CALL, "kind = 'explode'"),
        "f.toml:3: faults[0].effect.kind: 'explode' is none of error, delay, drop,",
    ),
    "kind of another type": (rule(CALL, "kind = 3"), "f.toml:3: faults[0].effect.kind: 3 is none"),
    "nowhere": (
        rule("", "kind = 'drop'"),
        "f.toml:2: faults[0].match: give one of procedure, nbd for effect 'drop'",
    ),
    "two places": (
        rule("phase = 'begin', nbd = 'read'", "kind = 'delay', seconds = 1"),
        "f.toml:2: faults[0].match.nbd: only one of procedure, phase, nbd, event can be given",
    ),
    "implied place": (
        rule("nbd = 'read'", "kind = 'no-space', on = 'target'"),
        "f.toml:3: faults[0].effect.kind: 'no-space' does not go with nbd, but none of",
    ),
    "unknown match": (
        rule("call = 'x'", "kind = 'drop'"),
        "f.toml:2: faults[0].match.call: unknown key",
    ),
    "unknown procedure": (
        rule("procedure = 'virDomainBackup'", "kind = 'drop'"),
        "f.toml:2: faults[0].match.procedure: 'virDomainBackup' is no procedure",
    ),
    "unknown phase": (
        rule("phase = 'middle'", "kind = 'kill'"),
        "f.toml:2: faults[0].match.phase: 'middle' is none of begin, prepared, checkpoint,",
    ),
    "unknown command": (
        rule("nbd = 'reed'", "kind = 'drop'"),
        "f.toml:2: faults[0].match.nbd: 'reed' is none of connect, handshake, read,",
    ),
    "unknown event": (
        rule("event = 'birthday'", "kind = 'lose'"),
        "f.toml:2: faults[0].match.event: 'birthday' is none of lifecycle, reboot,",
    ),
    "unknown argument": (
        rule(CALL, "kind = 'drop', byte = 3"),
        "f.toml:3: faults[0].effect.byte: unknown key, effect 'drop' takes kind, at",
    ),
    "at without a call": (
        rule("phase = 'begin'", "kind = 'kill', at = 'after'"),
        "f.toml:3: faults[0].effect.at: unknown key, effect 'kill' takes kind",
    ),
    "missing argument": (
        rule(CALL, "kind = 'delay'"),
        "f.toml:3: faults[0].effect: the key 'seconds' is missing",
    ),
    "negative time": (
        rule(CALL, "kind = 'delay', seconds = -1"),
        "f.toml:3: faults[0].effect.seconds: expected `float` >= 0",
    ),
    "unknown error": (
        rule(CALL, "kind = 'error', code = 'OOPS'"),
        "f.toml:3: faults[0].effect.code: 'OOPS' is no libvirt error, such as",
    ),
    "no error at all": (
        rule(CALL, "kind = 'error', code = 0"),
        "f.toml:3: faults[0].effect.code: 0 is no libvirt error, such as",
    ),
    "unknown error domain": (
        rule(CALL, "kind = 'error', code = 9, domain = 'MOON'"),
        "f.toml:3: faults[0].effect.domain: 'MOON' is no libvirt error domain",
    ),
    "unknown NBD error": (
        rule("nbd = 'read'", "kind = 'error', code = 'EAGAIN'"),
        "f.toml:3: faults[0].effect.code: invalid enum value 'EAGAIN'",
    ),
    "NBD error without command": (
        rule("nbd = 'connect'", "kind = 'error'"),
        "f.toml:3: faults[0].effect: effect 'error' goes with commands, not with connect",
    ),
    "late without measure": (
        rule("event = 'lifecycle'", "kind = 'late'"),
        "f.toml:3: faults[0].effect: effect 'late' takes either 'events' or 'seconds'",
    ),
    "delay of an instant": (
        rule("phase = 'frozen'", "kind = 'delay', seconds = 1"),
        "f.toml:3: faults[0].effect: effect 'delay' goes with the phases begin, prepared only",
    ),
    "disk of a whole phase": (
        rule("phase = 'begin', disk = 'vda'", "kind = 'kill'"),
        "f.toml:2: faults[0].match.disk: only phase copying is about a single disk",
    ),
    "disk before it is known": (
        rule("nbd = 'connect', disk = 'vda'", "kind = 'drop'"),
        "f.toml:2: faults[0].match.disk: the disk is not known at connect yet",
    ),
    "disk of a deletion": (
        rule("disk = 'vda'", "kind = 'delete-half'"),
        "f.toml:2: faults[0].match.disk: a checkpoint is deleted from all its disks",
    ),
    "probability": (
        rule(CALL, "kind = 'drop'", "when.probability = 0"),
        "f.toml:4: faults[0].when.probability: expected `float` > 0",
    ),
    "no time at all": (
        rule(CALL, "kind = 'drop'", "when = { times = 0 }"),
        "f.toml:4: faults[0].when.times: expected `int` >= 1",
    ),
    "second rule": (
        rule(CALL, "kind = 'drop'") + rule("event = 'reboot'", "kind = 'drop'"),
        "f.toml:7: faults[1].effect.kind: 'drop' does not go with event, but procedure, nbd",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_refused_with_its_place(case: str) -> None:
    text, expected = WRONG[case]
    assert complaint(text).startswith(expected)


def _rule_like() -> st.SearchStrategy[object]:
    """Tables with the keys of rules, and values that are right now and then."""
    words = st.sampled_from([*KINDS, "begin", "read", "*", "[", "vda", "before", "scratch", "9"])
    value = words | st.integers(-2, 9) | st.floats(allow_nan=False) | st.booleans() | st.text()
    match = st.dictionaries(st.sampled_from(["procedure", "phase", "nbd", "event", "disk"]), value)
    when = st.dictionaries(st.sampled_from(["probability", "after", "times", "never"]), value)
    keys = ["kind", "byte", "at", "code", "seconds", "on", "checkpoint", "events"]
    effect = st.dictionaries(st.sampled_from(keys), value)
    return st.fixed_dictionaries({"match": match, "when": when, "effect": effect})


@given(st.lists(_rule_like(), min_size=1, max_size=2))
def test_whatever_stands_in_a_file_is_taken_or_refused(given_rules: list[object]) -> None:
    message = _message(to_toml({"faults": given_rules}))
    assert message is None or re.match(r"f\.toml:\d+: ", message)


def _message(text: str) -> str | None:
    try:
        rules(text)
    except FaultFileError as error:
        return error.message
    return None


def test_too_many_rules_are_refused() -> None:
    assert "at most 1000 rules" in complaint(rule(CALL, "kind = 'drop'") * 1001)


def test_a_wrong_file_changes_nothing() -> None:
    faults = Faults()
    faults.load_text(rule(CALL, "kind = 'drop'"))
    with pytest.raises(FaultFileError):
        faults.load_text(rule(CALL, "kind = 'drop'") + "[[faults]]", replace=True)
    assert len(faults.report()["rules"]) == 1


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(FaultFileError, match=r"none\.toml: cannot read the fault file: No such"):
        Faults().load_file(tmp_path / "none.toml")


def test_a_file_is_named_in_its_rules(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text(rule(CALL, "kind = 'drop'"), encoding="utf-8")
    faults = Faults()
    faults.load_file(path)
    assert faults.unmatched() == [f"{path}:1"]


def test_errors_have_the_numbers_of_the_binding() -> None:
    for name, number in CODES.items():
        prefix = "VIR_" if name.startswith("WAR_") else "VIR_ERR_"
        assert getattr(libvirt, prefix + name) == number


def test_error_domains_have_the_numbers_of_the_binding() -> None:
    assert {name: getattr(libvirt, f"VIR_FROM_{name}") for name in DOMAINS} == DOMAINS
