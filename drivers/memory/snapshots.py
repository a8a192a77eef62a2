"""The states of the world that were kept: the one at the start, and those with a name.

A state is cheap: it shares contents with the images until they change. What a state holds and how
one goes back to it is not known here.
"""

from typing import TYPE_CHECKING, Final

from virtbackupd.drivers.errors import InvalidArgument, OperationFailed

if TYPE_CHECKING:
    from virtbackupd.drivers.memory.world_state import WorldState

MAX_SNAPSHOTS: Final = 1000
MAX_NAME: Final = 256


class Snapshots:
    """States by name, in the order in which they were taken."""

    def __init__(self) -> None:
        self.start: WorldState | None = None
        """What the hypervisor started with."""
        self._named: dict[str, WorldState] = {}

    def names(self) -> list[str]:
        return list(self._named)

    def check_new(self, name: str) -> None:
        """Refuse a name that is taken or cannot be one, and one state too many."""
        if not 0 < len(name) <= MAX_NAME:
            raise InvalidArgument(
                f"a snapshot's name has 1 to {MAX_NAME} characters, not {len(name)}"
            )
        if name in self._named:
            raise OperationFailed(f"there is a snapshot {name!r} already: drop it first")
        if len(self._named) >= MAX_SNAPSHOTS:
            raise OperationFailed(f"there are {MAX_SNAPSHOTS} snapshots already: drop one first")

    def add(self, name: str, state: "WorldState") -> None:
        self.check_new(name)
        self._named[name] = state

    def get(self, name: str) -> "WorldState":
        """The state, or InvalidArgument with the names that there are."""
        self._require(name)
        return self._named[name]

    def drop(self, name: str) -> None:
        self._require(name)
        del self._named[name]

    def _require(self, name: str) -> None:
        if name not in self._named:
            known = ", ".join(map(repr, self._named)) or "none"
            raise InvalidArgument(f"there is no snapshot {name!r}; known are: {known}")
