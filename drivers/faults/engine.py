"""Decides whether a fault happens now: rules with their counters and their own random numbers.

Whoever may be hit asks at its point, carries out what comes back, and says so when it has happened.
Each rule draws from a generator of its own, so that the same seed gives the same run whatever else
goes on. Without rules nothing here is ever called.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import msgspec
import trio

from virtbackupd.drivers.faults.effects import ON_BITMAPS, DomainEffect, Effect, NoSpace, Point

if TYPE_CHECKING:
    from virtbackupd.drivers.events import DomainRef
    from virtbackupd.drivers.faults.rule_file import RuleSpec

Words = Sequence[str]


class RuleState(NamedTuple):
    """A rule and all that it has seen, from which it can go on."""

    spec: "RuleSpec"
    hits: int
    fired: int
    used: int
    random: tuple[int, ...]
    """The generator's state; empty when nothing was drawn that could matter."""


class Rule:
    """One rule with what it has seen."""

    __slots__ = ("_random", "_used", "fired", "hits", "spec")

    def __init__(self, spec: "RuleSpec") -> None:
        self.spec = spec
        self.hits = 0
        """How often it matched."""
        self.fired = 0
        """How often it took effect."""
        self._used = 0
        self._random = Random(spec.seed)  # noqa: S311 - repeatable, not secret

    @classmethod
    def restored(cls, state: RuleState) -> "Rule":
        """The rule as it was; ValueError for a generator that cannot be."""
        rule = cls(state.spec)
        rule.hits, rule.fired, rule._used = state.hits, state.fired, state.used
        if state.random:
            version, _, gauss = rule._random.getstate()
            rule._random.setstate((version, state.random, gauss))
        return rule

    def state(self) -> RuleState:
        draws = self.spec.when.probability < 1
        random = self._random.getstate()[1] if draws else ()
        return RuleState(self.spec, self.hits, self.fired, self._used, random)

    def strikes(self) -> bool:
        """Count a hit; whether the effect is due."""
        when = self.spec.when
        self.hits += 1
        if self.hits <= when.after or (when.times is not None and self._used >= when.times):
            return False
        if when.probability < 1 and self._random.random() >= when.probability:
            return False
        self._used += 1
        return True

    def give_back(self) -> None:
        """What was due could not happen, so it does not count."""
        self._used -= 1

    def meant(self, word: str, domain: "DomainRef | None", disk: str) -> bool:
        spec = self.spec
        return (
            spec.word.fits(word)
            and (spec.domain.text is None or (domain is not None and _named(spec, domain)))
            and (spec.disk.text is None or isinstance(spec.effect, ON_BITMAPS) or _on(spec, disk))
        )

    def meant_by_call(self, names: Sequence[str], domain: "DomainRef | None", words: Words) -> bool:
        """Any of the names; a disk is one of the call's texts."""
        spec = self.spec
        return (
            spec.word.fits_any(*names)
            and (spec.domain.text is None or (domain is not None and _named(spec, domain)))
            and (isinstance(spec.effect, ON_BITMAPS) or spec.disk.fits_any(*words))
        )

    def describe(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.spec.name,
            "where": self.spec.where,
            "effect": self.spec.kind,
            "hits": self.hits,
            "fired": self.fired,
        }

    def in_full(self) -> dict[str, Any]:
        """For JSON, without what never was."""
        spec = self.spec
        match = {spec.point.value: spec.word, "domain": spec.domain, "disk": spec.disk}
        return {
            "name": spec.name,
            "where": spec.where,
            "match": {key: value.text for key, value in match.items() if value.text is not None},
            "when": msgspec.structs.asdict(spec.when),
            "effect": {"kind": spec.kind, **msgspec.structs.asdict(spec.effect)},
        }


class Fired:
    """An effect that is due; it counts once `done` was called."""

    __slots__ = ("_open", "effect", "rule")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.effect: Effect = rule.spec.effect
        self._open = True

    def done(self) -> None:
        """It has happened. May be called again."""
        if self._open:
            self._open = False
            self.rule.fired += 1

    def missed(self) -> None:
        """It cannot happen any more; nothing to say when it has."""
        if self._open:
            self._open = False
            self.rule.give_back()


Performer = Callable[["DomainRef", DomainEffect, "RuleSpec"], bool]
"""Does something to a domain; False when there was nothing to do it to."""


class Faults:
    """The faults of one daemon."""

    def __init__(self) -> None:
        self.active = False
        """Whether there are any rules: nobody needs to ask otherwise."""
        self.procedures: Collection[str] = ()
        """The names that calls can have, if somebody has told."""
        self.performer: Performer | None = None
        """Who can do something to a domain."""
        self.changed: list[Callable[[], None]] = []
        """Called whenever there are other rules."""
        self._rules: list[Rule] = []
        self._points: dict[Point, list[Rule]] = {}
        self._hanging: dict[trio.Event, bytes | None] = {}

    # The rules
    def load_text(self, text: str, name: str = "faults", *, replace: bool = False) -> None:
        """Add rules; FaultFileError, and nothing changes, when anything is wrong with them."""
        # Most daemons never have a rule.
        from virtbackupd.drivers.faults.rule_file import FaultFile  # noqa: PLC0415

        self.add(FaultFile(name, text, self.procedures).rules(), replace=replace)

    def load_file(self, path: Path, *, replace: bool = False) -> None:
        """The same with a file. Blocking."""
        self.load_text(self.read_file(path), str(path), replace=replace)

    @staticmethod
    def read_file(path: Path) -> str:
        """The text of a file of rules; FaultFileError when it cannot be had. Blocking."""
        from virtbackupd.drivers.faults.rule_file import FaultFileError  # noqa: PLC0415
        from virtbackupd.drivers.toml_file import read_text  # noqa: PLC0415

        return read_text(path, "fault file", FaultFileError)

    def add(self, specs: Sequence["RuleSpec"], *, replace: bool = False) -> None:
        if replace:
            self.clear()
        self._rules += map(Rule, specs)
        self._sort()

    def clear(self) -> None:
        """Forget all rules with what they counted; calls that hang go on with an error."""
        self._rules = []
        self._release(list(self._hanging))
        self._sort()

    def state(self) -> tuple[RuleState, ...]:
        """All rules with what they counted, as of now."""
        return tuple(rule.state() for rule in self._rules)

    def restore(self, states: Sequence[RuleState]) -> None:
        """Have these rules in place of all others, and go on as they would have."""
        rules = [Rule.restored(state) for state in states]
        self.clear()
        self._rules = rules
        self._sort()

    def watches(self, point: Point) -> list[Rule]:
        """The rules of a point, in the order of their files."""
        return self._points.get(point, [])

    def report(self) -> dict[str, Any]:
        """Every rule with its figures, and the names of those that never took effect."""
        return {
            "rules": [rule.describe() for rule in self._rules],
            "unmatched": self.unmatched(),
        }

    def describe(self) -> list[dict[str, Any]]:
        """Every rule as it is in force."""
        return [rule.in_full() for rule in self._rules]

    def unmatched(self) -> list[str]:
        return [rule.spec.name for rule in self._rules if not rule.fired]

    def _sort(self) -> None:
        self._points = {}
        for rule in self._rules:
            self._points.setdefault(rule.spec.point, []).append(rule)
        self.active = bool(self._rules)
        for tell in self.changed:
            tell()

    # What is asked
    def at(
        self, point: Point, word: str, domain: "DomainRef | None" = None, disk: str = ""
    ) -> list[Fired]:
        """What is to happen at a point."""
        return [
            Fired(rule)
            for rule in self._points.get(point, ())
            if rule.meant(word, domain, disk) and rule.strikes()
        ]

    def call(self, names: Sequence[str], domain: "DomainRef | None", words: Words) -> list[Fired]:
        """What is to happen to a call; `words` are its texts, one of which may name a disk."""
        return [
            Fired(rule)
            for rule in self._points.get(Point.CALL, ())
            if rule.meant_by_call(names, domain, words) and rule.strikes()
        ]

    def space(self, domain: "DomainRef", disk: str, on: str) -> Fired | None:
        """Whether what is written for a disk has a bound, whose effect is a NoSpace."""
        for rule in self._points.get(Point.SPACE, ()):
            effect = rule.spec.effect
            wanted = isinstance(effect, NoSpace) and effect.on == on
            if wanted and rule.meant("", domain, disk) and rule.strikes():
                return Fired(rule)
        return None

    def perform(self, fired: Fired, domain: "DomainRef") -> None:
        """Do to the domain what is due."""
        effect = fired.effect
        if self.performer is None or not isinstance(effect, DomainEffect):
            fired.missed()
        elif self.performer(domain, effect, fired.rule.spec):
            fired.done()
        else:
            fired.missed()

    # Calls that hang
    async def hang(self, domain: bytes | None) -> None:
        """Wait until the domain stops or the rules are dropped."""
        event = trio.Event()
        self._hanging[event] = domain
        try:
            await event.wait()
        finally:
            self._hanging.pop(event, None)

    def stopped(self, domain: bytes) -> None:
        """A domain has stopped."""
        self._release([event for event, uuid in self._hanging.items() if uuid == domain])

    def _release(self, events: list[trio.Event]) -> None:
        for event in events:
            event.set()


def _named(spec: "RuleSpec", domain: "DomainRef") -> bool:
    return spec.domain.fits_any(domain.name, str(UUID(bytes=domain.uuid)))


def _on(spec: "RuleSpec", disk: str) -> bool:
    return bool(disk) and spec.disk.fits(disk)
