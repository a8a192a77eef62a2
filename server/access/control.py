"""The question that every access driver answers, and how several are asked.

An answer may have to be waited for. `run` lets one piece of code serve both kinds: a generator
yields what may be an awaitable and is given its value. Knows no procedure.
"""

from collections.abc import Awaitable, Generator, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, Protocol, TypeVar, cast

from virtbackupd.drivers.interface import Domain
from virtbackupd.server.access.permissions import Permission
from virtbackupd.server.identity import Identity

T = TypeVar("T")
Steps = Generator[Any, Any, T]
Verdict = bool | Awaitable[bool]


@dataclass(frozen=True, slots=True)
class Subject:
    """What a permission is asked on; `kind` is its object, such as `domain`."""

    kind: str
    name: str = ""
    uuid: bytes = b""
    domain: Domain | None = None
    """For rules that look into a domain; None for other kinds, and when the domain is gone."""


CONNECTION = Subject("connect")


class AccessDriver(Protocol):
    """One source of decisions."""

    def allows(self, identity: Identity, permission: Permission, subject: Subject) -> Verdict:
        """Whether somebody has a permission on an object."""

    def close(self) -> None:
        """Nothing is asked any more."""


class AccessControl:
    """All drivers have to agree; none is asked after the first that refuses."""

    def __init__(self, drivers: Sequence[AccessDriver]) -> None:
        self._drivers = tuple(drivers)

    def allows(self, identity: Identity, permission: Permission, subject: Subject) -> Verdict:
        verdict: Verdict = run(self._agreed(identity, permission, subject))
        return verdict

    def _agreed(self, identity: Identity, permission: Permission, subject: Subject) -> Steps[bool]:
        for driver in self._drivers:
            if not (yield driver.allows(identity, permission, subject)):
                return False
        return True


def run(steps: Steps[T]) -> Any:  # noqa: ANN401 - T, or an awaitable of it
    """The generator's result; an awaitable of it as soon as something has to be waited for."""
    value = None
    try:
        while True:
            value = steps.send(value)
            if isawaitable(value):
                return _rest(steps, value)
    except StopIteration as end:
        return end.value


async def _rest(steps: Steps[T], waiting: Awaitable[object]) -> T:
    value: object = waiting
    while True:
        try:
            given = await value if isawaitable(value) else value
        except Exception as error:  # noqa: BLE001 - it belongs to the generator, which may mind
            value, done = _thrown(steps, error)
        else:
            value, done = _sent(steps, given)
        if done:
            return cast("T", value)


def _sent(steps: Steps[T], given: object) -> tuple[object, bool]:
    try:
        return steps.send(given), False
    except StopIteration as end:
        return end.value, True


def _thrown(steps: Steps[T], error: Exception) -> tuple[object, bool]:
    try:
        return steps.throw(error), False
    except StopIteration as end:
        return end.value, True
