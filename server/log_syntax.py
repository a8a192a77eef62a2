"""libvirt's syntax of log filters and outputs: text to rules and back. Opens nothing."""

import logging
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

LEVEL_NAMES = ("debug", "info", "warning", "error")
"""From the most to the least talkative; the configuration counts them from 1."""
AUDIT = "virtbackupd.audit"
"""The category of audit lines, which the general level does not hold back."""

_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
_KINDS = {"stderr": False, "journald": False, "file": True, "syslog": True}
"""Each kind of output, and whether something follows it."""


class LogSyntaxError(ValueError):
    """A filter or an output is not written as libvirt does; the text says what is expected."""


class Filter(NamedTuple):
    """Another level for the categories that hold `match`, a shell pattern."""

    level: int
    match: str

    def __str__(self) -> str:
        return f"{number_of(self.level)}:{self.match}"

    def matches(self, category: str) -> bool:
        return fnmatchcase(category, f"*{self.match}*")


class Output(NamedTuple):
    """Where messages of a level and above go."""

    level: int
    kind: str
    target: str = ""

    def __str__(self) -> str:
        return ":".join(filter(None, (str(number_of(self.level)), self.kind, self.target)))


class Levels(NamedTuple):
    """Which messages are logged at all."""

    general: int = logging.INFO
    filters: Sequence[Filter] = ()

    @property
    def lowest(self) -> int:
        return min([self.general, logging.INFO, *(rule.level for rule in self.filters)])

    def of(self, category: str) -> int:
        """The first filter that matches counts."""
        for rule in self.filters:
            if rule.matches(category):
                return rule.level
        return min(self.general, logging.INFO) if category == AUDIT else self.general


def level_of(value: int | str) -> int:
    """Python's level of libvirt's number or of a name."""
    return _LEVELS[value - 1 if isinstance(value, int) else LEVEL_NAMES.index(value)]


def number_of(level: int) -> int:
    """libvirt's number of a level of Python."""
    return _LEVELS.index(level) + 1


def parse_filters(text: str) -> tuple[Filter, ...]:
    """LEVEL:MATCH with blanks between them; LogSyntaxError."""
    return tuple(_filter(word) for word in text.split())


def parse_outputs(text: str) -> tuple[Output, ...]:
    """LEVEL:KIND or LEVEL:KIND:TARGET with blanks between them; LogSyntaxError."""
    return tuple(_output(word) for word in text.split())


def spell(rules: Sequence[Filter] | Sequence[Output]) -> str:
    """As it stands in the configuration."""
    return " ".join(map(str, rules))


def _filter(word: str) -> Filter:
    level, _, match = word.partition(":")
    if level not in {"1", "2", "3", "4"} or not match:
        raise LogSyntaxError(f"{word!r} is no log filter; write LEVEL:MATCH, LEVEL from 1 to 4")
    return Filter(level_of(int(level)), match)


def _output(word: str) -> Output:
    level, _, rest = word.partition(":")
    kind, _, target = rest.partition(":")
    wrong = level not in {"1", "2", "3", "4"} or _KINDS.get(kind) is not bool(target)
    if wrong or (kind == "file" and not target.startswith("/")):
        raise LogSyntaxError(
            f"{word!r} is no log output; write LEVEL:stderr, LEVEL:journald, LEVEL:file:/PATH or "
            "LEVEL:syslog:NAME, LEVEL from 1 to 4"
        )
    return Output(level_of(int(level)), kind, target)
