"""Fault rules with what they have counted, as they are written into a file and read again.

A record is a rule as a file of rules has it, and its figures. What is read goes through the same
checks as such a file. Only the rules are known here, no file and no daemon.
"""

import struct
from typing import Annotated, Final

import msgspec

from virtbackupd.drivers.faults.effects import Point
from virtbackupd.drivers.faults.engine import Rule, RuleState
from virtbackupd.drivers.faults.rule_file import (
    FaultEntry,
    FaultFile,
    FaultFileEntry,
    MatchEntry,
    RuleSpec,
)

Count = Annotated[int, msgspec.Meta(ge=0)]
_RANDOM: Final = struct.Struct("<625I")
"""The state of Python's generator."""


class SavedRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule."""

    entry: FaultEntry
    where: str
    seed: str
    hits: Count
    fired: Count
    used: Count
    random: bytes


def record(state: RuleState) -> SavedRule:
    """A rule for a file."""
    spec = state.spec
    random = _RANDOM.pack(*state.random) if state.random else b""
    return SavedRule(
        _entry(spec), spec.where, spec.seed, state.hits, state.fired, state.used, random
    )


def read(saved: SavedRule) -> RuleState:
    """The rule of a record; FaultFileError or ValueError says what is wrong with it."""
    file = FaultFile("a fault rule in it", "")
    file.entries = FaultFileEntry(faults=(saved.entry,))
    (spec,) = file.rules()
    spec = spec._replace(where=saved.where, seed=saved.seed)
    if saved.random and len(saved.random) != _RANDOM.size:
        raise ValueError(f"the random numbers of fault rule {spec.name} are cut")
    random = _RANDOM.unpack(saved.random) if saved.random else ()
    state = RuleState(spec, saved.hits, saved.fired, saved.used, random)
    Rule.restored(state)
    return state


def _entry(spec: RuleSpec) -> FaultEntry:
    words = {"domain": spec.domain.text, "disk": spec.disk.text}
    if spec.word.text is not None:
        words[spec.point.value] = spec.word.text
    effect = {"kind": spec.kind, **msgspec.structs.asdict(spec.effect)}
    if spec.point is not Point.CALL:
        effect.pop("at", None)
    return FaultEntry(effect, spec.name, MatchEntry(**words), spec.when)
