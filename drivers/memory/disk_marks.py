"""Instants of a domain's disks that a test has named, to compare restored images with later.

A mark costs nothing until the guest overwrites what it holds. Knows no command.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from virtbackupd.drivers.errors import InvalidArgument, OperationFailed
from virtbackupd.drivers.memory.still import Still

if TYPE_CHECKING:
    from virtbackupd.drivers.memory.domain import MemoryDomain

MAX_MARKS: Final = 100
"""Of one domain: each may keep old contents in memory."""


class DiskMarks:
    """Contents of disks by the name of the mark and by target."""

    def __init__(self) -> None:
        self._taken: dict[str, Mapping[str, Still]] = {}
        self._awaited: dict[str, Sequence[str]] = {}

    def names(self) -> list[str]:
        return list(self._taken)

    def awaited(self) -> list[str]:
        """The names of those that wait for the next backup."""
        return list(self._awaited)

    def take(self, domain: "MemoryDomain", name: str, targets: Sequence[str]) -> None:
        """Keep the disks as they are now."""
        self._check_new(domain, name)
        self._taken[name] = stills(domain, targets)

    def await_backup(self, domain: "MemoryDomain", name: str, targets: Sequence[str]) -> None:
        """Keep the disks as they will be at the instant of the next backup."""
        self._check_new(domain, name)
        self._awaited[name] = targets

    def backup_begins(self, domain: "MemoryDomain") -> None:
        """This is the instant of a backup."""
        for name, targets in self._awaited.items():
            self._taken[name] = stills(domain, targets)
        self._awaited.clear()

    def get(self, domain: "MemoryDomain", name: str, target: str) -> Still:
        """A disk at a mark; InvalidArgument with what there is when there is no such thing."""
        if name not in self._taken:
            known = ", ".join(map(repr, self._taken)) or "none"
            raise InvalidArgument(
                f"domain {domain.ref.name} has no mark {name!r}; known are: {known}"
            )
        still = self._taken[name].get(target)
        if still is None:
            held = ", ".join(self._taken[name])
            raise InvalidArgument(f"mark {name!r} does not hold disk {target}, but: {held}")
        return still

    def drop(self, domain: "MemoryDomain", name: str) -> None:
        """Forget a mark, or stop waiting for its backup."""
        if name not in self._taken and name not in self._awaited:
            raise InvalidArgument(f"domain {domain.ref.name} has no mark {name!r}")
        self._taken.pop(name, None)
        self._awaited.pop(name, None)

    def _check_new(self, domain: "MemoryDomain", name: str) -> None:
        if name in self._taken or name in self._awaited:
            raise OperationFailed(
                f"domain {domain.ref.name} has a mark {name!r} already: drop it first"
            )
        if len(self._taken) + len(self._awaited) >= MAX_MARKS:
            raise OperationFailed(
                f"domain {domain.ref.name} has {MAX_MARKS} marks already: drop one first"
            )


def stills(domain: "MemoryDomain", targets: Sequence[str]) -> dict[str, Still]:
    """The disks of these targets that have a medium, as of now."""
    images = {target: domain.disk_image(target) for target in targets}
    return {target: Still(image) for target, image in images.items() if image is not None}
