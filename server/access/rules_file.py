"""Reads a rules file: TOML, refused whole with file, line and key when anything is wrong."""

import os
from dataclasses import dataclass
from pathlib import Path

from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.toml_file import TomlFile, read_text
from virtbackupd.protocol import schema
from virtbackupd.server.access.control import Subject
from virtbackupd.server.access.permissions import Permission, demands, seen_with
from virtbackupd.server.access.rules import RuleEntry, Rules, RulesEntry, known
from virtbackupd.server.identity import Identity


class RulesError(DriverError):
    """Access rules cannot be used; the message is one line: FILE:LINE: KEY: what is wrong."""


@dataclass(slots=True)
class HeldRules:
    """An access driver: the rules as they were last read; others may take their place."""

    rules: Rules

    def allows(self, identity: Identity, permission: Permission, subject: Subject) -> bool:
        return self.rules.allows(identity, permission, subject)

    def close(self) -> None:
        self.rules.close()


def read_rules(path: Path) -> Rules:
    """RulesError says what is wrong with the file."""
    return rules_in(str(path), read_text(path, "access rules", RulesError))


def rules_in(name: str, text: str) -> Rules:
    """The rules of a text that comes from `name`."""
    file = TomlFile(name, text, RulesEntry, RulesError)
    permissions = every_permission()
    for index, rule in enumerate(file.entries.rules):
        _check(file, index, rule, permissions)
    return Rules(file.entries, frozenset({0, os.getuid()}))


def every_permission() -> frozenset[Permission]:
    """All that calls of the interface ask for."""
    found = set()
    for procedure in schema.load().by_number.values():
        found |= {demand.permission for demand in demands(procedure)}
        if (seen := seen_with(procedure)) is not None:
            found.add(seen)
    return frozenset(found)


def _check(
    file: TomlFile[RulesEntry], index: int, rule: RuleEntry, permissions: frozenset[Permission]
) -> None:
    here = ("rules", index)
    if not rule.may:
        file.fail((*here, "may"), "a rule that grants nothing: name permissions, or drop the rule")
    for text in rule.may:
        if not known(text, permissions):
            names = ", ".join(sorted(p.name for p in permissions if p.object == "domain"))
            file.fail(
                (*here, "may"),
                f"there is no permission {text!r}; on domains there are: {names}; others are"
                " written OBJECT:PERMISSION",
            )
    if rule.on.metadata_has is not None and rule.on.metadata is None:
        file.fail((*here, "on", "metadata_has"), "say in `metadata` which element has to have it")
