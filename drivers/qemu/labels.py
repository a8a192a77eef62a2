"""Who owns the files that are made for QEMU: the user it runs as, or whom a `<seclabel>` names.

Only the model `dac` is known: numbers or names of a user and a group. Does not decide which files.
"""

import grp
import os
import pwd
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from lxml import etree

from virtbackupd.drivers.definitions.tree import child_text
from virtbackupd.drivers.errors import ConfigUnsupported
from virtbackupd.drivers.qemu.config import Settings

_KEEP: Final = -1
"""As in chown(2)."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Numbers of a user and a group."""

    user: int = _KEEP
    group: int = _KEEP

    def apply(self, path: str) -> None:
        if (self.user, self.group) != (_KEEP, _KEEP):
            os.chown(path, self.user, self.group)

    def apply_open(self, descriptor: int) -> None:
        if (self.user, self.group) != (_KEEP, _KEEP):
            os.fchown(descriptor, self.user, self.group)


NOBODY_ELSE: Final = Owner()
"""Files stay with whoever makes them."""


def owner_of_store(extras: Iterable[str], settings: Settings) -> Owner:
    """What the elements inside a `<scratch>` or `<target>` ask for, else QEMU's own user."""
    for text in extras:
        element = etree.fromstring(text)
        if element.tag == "seclabel" and element.get("model", "dac") == "dac":
            if element.get("relabel") == "no":
                return Owner()
            label = child_text(element, "label")
            return default_owner(settings) if label is None else parse_label(label)
    return default_owner(settings)


def default_owner(settings: Settings) -> Owner:
    """Whom QEMU runs as, when that is not who we are."""
    if settings.user is None or os.geteuid() != 0:
        return Owner()
    return parse_label(f"{settings.user}:{settings.group or settings.user}")


def parse_label(label: str) -> Owner:
    """`user:group`, where a plus sign marks what must be a number."""
    user, colon, group = label.partition(":")
    if not colon:
        raise ConfigUnsupported(f"the label {label!r} is not of the form user:group")
    return Owner(
        _number(user, lambda name: pwd.getpwnam(name).pw_uid),
        _number(group, lambda name: grp.getgrnam(name).gr_gid),
    )


def _number(text: str, look_up: Callable[[str], int]) -> int:
    if not text.startswith("+"):
        try:
            return look_up(text)
        except KeyError:
            pass
    digits = text.removeprefix("+")
    if not digits.isascii() or not digits.isdigit():
        raise ConfigUnsupported(f"there is no user or group {text!r}")
    return int(digits)
