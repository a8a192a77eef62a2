"""Which hits of a rule take effect: counters, chance, and what a rule is about."""

from collections.abc import Sequence

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from virtbackupd.drivers.events import DomainRef
from virtbackupd.drivers.faults.effects import Point
from virtbackupd.drivers.faults.engine import Faults

WEB = DomainRef("web-1", bytes(15) + b"\x01", 1)
DATABASE = DomainRef("db", bytes(15) + b"\x02", 2)
BEGIN = ("DOMAIN_BACKUP_BEGIN", "virDomainBackupBegin")


def faults(when: str = "", match: str = "nbd = 'read'", effect: str = "kind = 'drop'") -> Faults:
    found = Faults()
    found.load_text(rule(when, match, effect))
    return found


def rule(when: str = "", match: str = "nbd = 'read'", effect: str = "kind = 'drop'") -> str:
    return f"[[faults]]\nmatch = {{ {match} }}\nwhen = {{ {when} }}\neffect = {{ {effect} }}\n"


def struck(subject: Faults, hits: int, domain: DomainRef = WEB, disk: str = "vda") -> list[int]:
    """The numbers of the hits at which something happened."""
    return [n for n in range(hits) if subject.at(Point.NBD, "read", domain, disk)]


def test_without_rules_nothing_is_active() -> None:
    assert not Faults().active


def test_a_rule_strikes_every_time() -> None:
    assert struck(faults(), 3) == [0, 1, 2]


def test_the_first_hits_can_be_spared() -> None:
    assert struck(faults("after = 2"), 4) == [2, 3]


def test_the_number_of_times_can_be_bounded() -> None:
    assert struck(faults("after = 1, times = 2"), 5) == [1, 2]


def test_chance_comes_near_its_probability() -> None:
    assert 400 < len(struck(faults("probability = 0.5"), 1000)) < 600


def seeded(seed: int, rules: Sequence[str]) -> Faults:
    found = Faults()
    found.load_text(f"seed = {seed}\n" + "".join(rules))
    return found


@given(st.integers(0, 2**32), st.floats(0.01, 0.99), st.integers(0, 5), st.integers(1, 50))
def test_the_same_seed_gives_the_same_run(
    seed: int, probability: float, after: int, times: int
) -> None:
    text = rule(f"probability = {probability}, after = {after}, times = {times}")
    assert struck(seeded(seed, [text]), 100) == struck(seeded(seed, [text]), 100)


def test_another_seed_gives_another_run() -> None:
    text = rule("probability = 0.5")
    assert struck(seeded(1, [text]), 64) != struck(seeded(2, [text]), 64)


def test_rules_draw_independently() -> None:
    text = rule("probability = 0.5")
    first, second = (seeded(1, [text, other]) for other in (rule(match="nbd = 'flush'"), text))
    for _ in range(10):
        first.at(Point.NBD, "flush", WEB)
    runs = [
        [fired.rule for fired in subject.at(Point.NBD, "read", WEB, "vda")]
        for subject in (first, second)
        for _ in range(50)
    ]
    alone = [any(rule.spec.seed == "1:0" for rule in found) for found in runs]
    assert alone[:50] == alone[50:]


@pytest.mark.parametrize(
    ("pattern", "domain", "expected"),
    [
        ("web-1", WEB, True),
        ("web-*", WEB, True),
        ("web-*", DATABASE, False),
        ("00000000-0000-0000-0000-000000000002", DATABASE, True),
        ("WEB-1", WEB, False),
    ],
)
def test_a_rule_is_about_its_domain(pattern: str, domain: DomainRef, expected: bool) -> None:
    found = faults(match=f"nbd = 'read', domain = '{pattern}'")
    assert bool(struck(found, 1, domain)) is expected


def test_a_rule_is_about_its_disk() -> None:
    found = faults(match="nbd = 'read', disk = 'vd[ab]'")
    assert [bool(struck(found, 1, disk=disk)) for disk in ("vda", "vdb", "vdc", "")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("match", "words", "expected"),
    [
        ("procedure = 'virDomainBackupBegin'", (), True),
        ("procedure = '*BACKUP_BEGIN'", (), True),
        ("procedure = 'virDomainAbortJob'", (), False),
        ("procedure = '*'", (), True),
        ("procedure = '*', disk = 'vda'", ("vda",), True),
        ("procedure = '*', disk = 'vda'", ("vdb",), False),
        ("procedure = '*', domain = 'db'", (), False),
    ],
)
def test_a_rule_is_about_its_call(match: str, words: Sequence[str], expected: bool) -> None:
    assert bool(faults(match=match).call(BEGIN, WEB, words)) is expected


def test_a_call_without_a_domain_is_not_meant_by_a_rule_about_one() -> None:
    assert not faults(match="procedure = '*', domain = '*'").call(("CONNECT_OPEN",), None, ())


def test_the_report_counts_hits_and_effects() -> None:
    found = faults("after = 1")
    for _ in range(3):
        for fired in found.at(Point.NBD, "read", WEB, "vda"):
            fired.done()
            fired.done()
    (row,) = found.report()["rules"]
    assert (row["hits"], row["fired"], found.unmatched()) == (3, 2, [])


def test_what_never_took_effect_is_unmatched() -> None:
    found = faults()
    assert struck(found, 1)
    assert found.unmatched() == ["faults:1"]


def test_what_was_missed_is_due_again() -> None:
    found = faults("times = 1")
    (fired,) = found.at(Point.NBD, "read", WEB, "vda")
    fired.missed()
    assert struck(found, 2) == [0]


def test_rules_are_added_or_replaced() -> None:
    found = faults()
    found.load_text(rule())
    assert len(found.report()["rules"]) == 2
    found.load_text(rule(), replace=True)
    assert len(found.report()["rules"]) == 1


def test_others_are_told_of_other_rules() -> None:
    told: list[bool] = []
    found = Faults()
    found.changed.append(lambda: told.append(found.active))
    found.load_text(rule())
    found.clear()
    assert told == [True, False]


@pytest.mark.parametrize("way", ["stop", "clear"])
async def test_a_call_hangs_until_something_ends_it(nursery: trio.Nursery, way: str) -> None:
    found = faults()
    ended = trio.Event()

    async def hang() -> None:
        await found.hang(WEB.uuid)
        ended.set()

    nursery.start_soon(hang)
    await wait_all_tasks_blocked()
    found.stopped(DATABASE.uuid)
    await wait_all_tasks_blocked()
    assert not ended.is_set()
    found.stopped(WEB.uuid) if way == "stop" else found.clear()
    await ended.wait()


def test_rules_are_shown_as_they_are_in_force() -> None:
    (shown,) = faults("times = 1", "nbd = 'read', disk = 'vda'").describe()
    assert shown["match"] == {"nbd": "read", "disk": "vda"}
    assert shown["effect"] == {"kind": "drop", "byte": 0}
    assert shown["when"] == {"probability": 1.0, "after": 0, "times": 1}
