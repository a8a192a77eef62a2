"""Files of fault rules: TOML text to checked rules, with file, line and key in every complaint.

A file is taken as a whole or not at all. The format is described in docs/faults.md.
"""

from collections.abc import Collection, Iterable
from typing import Annotated, Final, NamedTuple

import msgspec

from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.faults import effects
from virtbackupd.drivers.faults.effects import Effect, Point
from virtbackupd.drivers.faults.error_names import CODES, DOMAINS, find_number
from virtbackupd.drivers.faults.patterns import Pattern
from virtbackupd.drivers.toml_file import KeyPath, TomlFile

MAX_RULES: Final = 1000
_POINT_KEYS: Final = ("procedure", "phase", "nbd", "event")
_WORDS: Final = {
    "phase": tuple(effects.PHASES),
    "nbd": effects.NBD_COMMANDS,
    "event": effects.EVENTS,
}


class FaultFileError(DriverError):
    """Fault rules cannot be used; the message is one line: FILE:LINE: KEY: what is wrong."""


class MatchEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a rule is meant; every value is a pattern with `*`, `?` and `[...]`."""

    procedure: str | None = None
    phase: str | None = None
    nbd: str | None = None
    event: str | None = None
    domain: str | None = None
    disk: str | None = None


class WhenEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which of the hits count."""

    probability: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    after: Annotated[int, msgspec.Meta(ge=0)] = 0
    times: Annotated[int, msgspec.Meta(ge=1)] | None = None


class FaultEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule."""

    effect: dict[str, object]
    name: str | None = None
    match: MatchEntry = MatchEntry()
    when: WhenEntry = WhenEntry()


class FaultFileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    about: str = ""
    """For people."""
    seed: int = 0
    faults: tuple[FaultEntry, ...] = ()


class RuleSpec(NamedTuple):
    """A checked rule."""

    name: str
    where: str
    point: Point
    word: Pattern
    """Of the procedure, phase, NBD command or event."""
    domain: Pattern
    disk: Pattern
    when: WhenEntry
    kind: str
    effect: Effect
    seed: str


class FaultFile(TomlFile[FaultFileEntry]):
    """The text of a file of rules."""

    def __init__(self, name: str, text: str, procedures: Collection[str] = ()) -> None:
        """`procedures` are all names that a call may have; when empty, none is refused."""
        super().__init__(name, text, FaultFileEntry, FaultFileError)
        self._procedures = procedures

    def rules(self) -> list[RuleSpec]:
        """All rules, in the order of the file."""
        if len(self.entries.faults) > MAX_RULES:
            self.fail(("faults",), f"at most {MAX_RULES} rules, not {len(self.entries.faults)}")
        return [self._rule(index, entry) for index, entry in enumerate(self.entries.faults)]

    def _rule(self, index: int, entry: FaultEntry) -> RuleSpec:
        at: KeyPath = ("faults", index)
        kind, point = self._kind(at, entry)
        effect = self._effect(at, entry, kind, point)
        word = getattr(entry.match, point.value, None)
        if word is not None:
            self._check_word((*at, "match", point.value), point.value, word)
        self._check_disk((*at, "match", "disk"), entry.match, point, effect)
        self._check_details((*at, "effect"), entry.match, point, effect)
        where = f"{self.name}:{self.line(at)}"
        return RuleSpec(
            entry.name or where,
            where,
            point,
            Pattern(word, any_case=True),
            Pattern(entry.match.domain),
            Pattern(entry.match.disk),
            entry.when,
            kind,
            effect,
            f"{self.entries.seed}:{index}",
        )

    def _kind(self, at: KeyPath, entry: FaultEntry) -> tuple[str, Point]:
        kind = entry.effect.get("kind")
        if kind is None:
            self.fail((*at, "effect"), f"the key 'kind' is missing: give one of {_list(_KINDS)}")
        if not isinstance(kind, str) or kind not in effects.KINDS:
            self.fail((*at, "effect", "kind"), f"{kind!r} is none of {_list(_KINDS)}")
        point = self._point(at, entry.match, kind)
        if point not in effects.KINDS[kind]:
            fitting = _list(_points(kind))
            self.fail(
                (*at, "effect", "kind"), f"{kind!r} does not go with {point.value}, but {fitting}"
            )
        return kind, point

    def _point(self, at: KeyPath, match: MatchEntry, kind: str) -> Point:
        given = [key for key in _POINT_KEYS if getattr(match, key) is not None]
        if len(given) > 1:
            self.fail((*at, "match", given[1]), f"only one of {_list(_POINT_KEYS)} can be given")
        if given:
            return Point(given[0])
        implied = effects.IMPLIED & effects.KINDS[kind].keys()
        if not implied:
            self.fail((*at, "match"), f"give one of {_list(_points(kind))} for effect {kind!r}")
        return next(iter(implied))

    def _effect(self, at: KeyPath, entry: FaultEntry, kind: str, point: Point) -> Effect:
        type_ = effects.KINDS[kind][point]
        given = {key: value for key, value in entry.effect.items() if key != "kind"}
        for key in given:
            if key not in type_.__struct_fields__ or (key == "at" and point is not Point.CALL):
                takes = [field for field in type_.__struct_fields__ if field != "at"]
                known = _list(["kind", *takes, *(["at"] if point is Point.CALL else [])])
                self.fail((*at, "effect", key), f"unknown key, effect {kind!r} takes {known}")
        return self.convert(given, type_, (*at, "effect"))

    def _check_word(self, at: KeyPath, key: str, word: str) -> None:
        known = _WORDS.get(key, self._procedures)
        if known and not _matching(word, known):
            if key == "procedure":
                self.fail(at, f"{word!r} is no procedure: give a name like virDomainBackupBegin")
            self.fail(at, f"{word!r} is none of {_list(known)}")

    def _check_disk(self, at: KeyPath, match: MatchEntry, point: Point, effect: Effect) -> None:
        """Refuse a disk where nothing is about a disk: the rule would never be met."""
        if match.disk is None or isinstance(effect, effects.ON_BITMAPS):
            return
        if point is Point.PHASE and _matching(match.phase, effects.PHASES) - effects.DISK_PHASES:
            self.fail(at, f"only phase {_list(effects.DISK_PHASES)} is about a single disk")
        words = set(effects.NBD_COMMANDS)
        if point is Point.NBD and _matching(match.nbd, words) <= effects.BEFORE_EXPORT:
            self.fail(at, f"the disk is not known at {match.nbd} yet")
        if point is Point.DELETION:
            self.fail(at, "a checkpoint is deleted from all its disks, no single one can be chosen")

    def _check_details(self, at: KeyPath, match: MatchEntry, point: Point, effect: Effect) -> None:
        if isinstance(effect, effects.CallError):
            self._check_error(at, effect)
        if isinstance(effect, effects.Late) and (effect.events is None) == (effect.seconds is None):
            self.fail(at, "effect 'late' takes either 'events' or 'seconds'")
        phases = _matching(match.phase, effects.PHASES) if point is Point.PHASE else set()
        if isinstance(effect, effects.Delay) and phases - effects.WAITING_PHASES:
            known = _list(sorted(effects.WAITING_PHASES))
            self.fail(at, f"effect 'delay' goes with the phases {known} only")
        early = _matching(match.nbd, effects.NBD_COMMANDS) & effects.BEFORE_EXPORT
        if isinstance(effect, effects.NbdError) and early:
            self.fail(at, f"effect 'error' goes with commands, not with {_list(sorted(early))}")

    def _check_error(self, at: KeyPath, effect: effects.CallError) -> None:
        if not find_number(CODES, "VIR_ERR_", effect.code):
            self.fail(
                (*at, "code"), f"{effect.code!r} is no libvirt error, such as OPERATION_FAILED or 9"
            )
        domain = effect.domain
        if domain is not None and find_number(DOMAINS, "VIR_FROM_", domain) is None:
            self.fail((*at, "domain"), f"{domain!r} is no libvirt error domain, such as QEMU or 10")


_KINDS: Final = tuple(effects.KINDS)


def _points(kind: str) -> list[str]:
    return [point.value for point in effects.KINDS[kind] if point not in effects.IMPLIED] or [
        "none of " + _list(_POINT_KEYS)
    ]


def _matching(pattern: str | None, words: Iterable[str]) -> set[str]:
    found = Pattern(pattern, any_case=True)
    return {word for word in words if found.fits(word)}


def _list(words: Iterable[str]) -> str:
    return ", ".join(words)
