"""The plain rules file: who may do what, on which domains. What no rule grants is refused.

A rule grants when its `who` fits the client, its `may` has the permission and its `on` fits the
object. Knows no procedure. The format is described in docs/access.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final
from uuid import UUID

import msgspec

from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.interface import Domain
from virtbackupd.server.access.control import Subject
from virtbackupd.server.access.permissions import Permission
from virtbackupd.server.identity import Identity

_ELEMENT: Final = 2
"""VIR_DOMAIN_METADATA_ELEMENT."""
_CONNECTED: Final = frozenset({"getattr", "read"})


class Who(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All that is given has to fit; text may have `*`, `?` and `[...]`."""

    uid: int | None = None
    user: str | None = None
    gid: int | None = None
    group: str | None = None
    sasl: str | None = None
    dn: str | None = None


class On(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which domains; all that is given has to fit."""

    name: str | None = None
    uuid: str | None = None
    metadata: str | None = None
    """The namespace of an element of the domain's metadata."""
    metadata_has: str | None = None
    """Text, as a pattern, that this element has to contain."""


class RuleEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[[rules]]` table."""

    who: Who = Who()
    may: list[str]
    on: On = On()


class RulesEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    trust_owner: bool = True
    """Whether root, and the user that the daemon runs as, may do all over Unix sockets."""
    rules: list[RuleEntry] = []


@dataclass(frozen=True, slots=True)
class Rules:
    """An access driver: the rules of one file."""

    entries: RulesEntry
    owners: frozenset[int]
    """Users who are trusted over Unix sockets when the file does not say otherwise."""

    def allows(self, identity: Identity, permission: Permission, subject: Subject) -> bool:
        if self.entries.trust_owner and identity.uid in self.owners:
            return True
        return any(
            _grants(rule, permission) and _on(rule.on, subject)
            for rule in self.entries.rules
            if _fits(rule.who, identity)
        )

    def close(self) -> None:
        """Nothing is held."""


def _grants(rule: RuleEntry, wanted: Permission) -> bool:
    """Whoever has any rule may connect and look around; whoever may do anything may see it."""
    if wanted.object == "connect" and _looks_around(wanted.name):
        return True
    return any(_covers(_permission(text), wanted) for text in rule.may)


def _looks_around(name: str) -> bool:
    return name in _CONNECTED or name.startswith("search-")


def _covers(granted: Permission, wanted: Permission) -> bool:
    if granted.object not in ("*", wanted.object):
        return False
    return granted.name in ("*", wanted.name) or wanted.name == "getattr"


def _permission(text: str) -> Permission:
    """A permission without an object is one on domains; `*` alone is everything."""
    subject, colon, name = text.replace("_", "-").rpartition(":")
    if colon:
        return Permission(subject.replace("-", "_"), name)
    return Permission("*" if name == "*" else "domain", name)


def known(text: str, permissions: Iterable[Permission]) -> bool:
    """Whether the permission of a rule is one that some call asks for."""
    meant = _permission(text)
    return any(
        meant.object in ("*", one.object) and meant.name in ("*", one.name) for one in permissions
    )


def _fits(who: Who, identity: Identity) -> bool:
    return (
        who.uid in (None, identity.uid)
        and _like(who.user, (identity.user,))
        and (who.gid is None or who.gid in identity.gids)
        and _like(who.group, identity.groups)
        and _like(who.sasl, (identity.sasl_name,))
        and _like(who.dn, (identity.dn,))
    )


def _like(pattern: str | None, names: Iterable[str | None]) -> bool:
    if pattern is None:
        return True
    return any(name is not None and fnmatchcase(name, pattern) for name in names)


def _on(on: On, subject: Subject) -> bool:
    """A rule for certain domains says nothing about other kinds of objects but the connection."""
    if subject.kind == "connect" or on == On():
        return True
    return subject.kind == "domain" and _is(on, subject)


def _is(on: On, subject: Subject) -> bool:
    uuid = str(UUID(bytes=subject.uuid)) if subject.uuid else None
    return (
        _like(on.name, (subject.name,))
        and _like(on.uuid, (uuid,))
        and (on.metadata is None or _has_metadata(on, subject.domain))
    )


def _has_metadata(on: On, domain: Domain | None) -> bool:
    if domain is None:
        return False
    try:
        text = domain.get_metadata(_ELEMENT, on.metadata, 0)
    except DriverError:
        return False
    return isinstance(text, str) and _like(on.metadata_has and f"*{on.metadata_has}*", (text,))
