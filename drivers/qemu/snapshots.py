"""The snapshots that are known of a domain: names, parents, the current one, and their files.

Only what has been noted about them; the images are another matter.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from virtbackupd.drivers import store
from virtbackupd.drivers.definitions.snapshot import (
    SnapshotDefinition,
    format_snapshot,
    restore_snapshot,
)
from virtbackupd.drivers.errors import (
    DriverError,
    NoDomainSnapshot,
    OperationFailed,
    OperationUnsupported,
)
from virtbackupd.drivers.flags import FlagRules, check_none

if TYPE_CHECKING:
    from virtbackupd.drivers.qemu.domain import QemuDomain

log = logging.getLogger(__name__)

_ROOTS: Final = 1
_LEAVES: Final = 4
_NO_LEAVES: Final = 8
_WITHOUT: Final = 16 | 32 | 64 | 256
"""Without metadata, inactive, active, internal: none of ours is."""
_WITH: Final = 2 | 128 | 512
"""With metadata, disks only, external: all of ours are."""
_LIST = FlagRules("virDomainListAllSnapshots", 2047)
_XML = FlagRules("virDomainSnapshotGetXMLDesc", 1)
_METADATA_ONLY: Final = 2
_DELETE = FlagRules("virDomainSnapshotDelete", 7)


class Snapshots:
    """Those of one domain."""

    def __init__(self, domain: "QemuDomain") -> None:
        self._domain = domain
        self._known: dict[str, SnapshotDefinition] = {}
        self._current: str | None = None

    def __len__(self) -> int:
        return len(self._known)

    @property
    def folder(self) -> Path:
        return self._domain.host.settings.snapshots(self._domain.ref.name)

    def check_new(self, name: str) -> None:
        if name in self._known:
            raise OperationFailed(f"snapshot {name!r} exists already, choose another name")

    async def add(self, definition: SnapshotDefinition) -> None:
        """Append to the current snapshot and become current; on disk on return."""
        definition = replace(definition, parent=self._current)
        await store.write(self._path(definition.name), format_snapshot(definition, secure=True))
        self._known[definition.name] = definition
        self._current = definition.name

    def load(self) -> None:
        """Read what is on disk. Blocks."""
        for path, text, problem in store.read_all(self.folder):
            try:
                definition = restore_snapshot(text or "")
            except DriverError as error:
                log.error("passing over the snapshot in %s: %s", path, problem or error.message)
                continue
            self._known[definition.name] = definition
        leaves = [name for name in self._known if not self._children(name)]
        self._current = leaves[0] if len(leaves) == 1 else None

    def list_all(self, flags: int) -> list[str]:
        _LIST.check(flags)
        if flags & _WITHOUT and not flags & _WITH:
            return []
        found = [one for one in self._known.values() if not (flags & _ROOTS and one.parent)]
        names = [one.name for one in found]
        if flags & _LEAVES:
            names = [name for name in names if not self._children(name)]
        if flags & _NO_LEAVES:
            names = [name for name in names if self._children(name)]
        return names

    def get(self, name: str) -> SnapshotDefinition:
        found = self._known.get(name)
        if found is None:
            raise NoDomainSnapshot(f"no snapshot {name!r} in domain {self._domain.ref.name}")
        return found

    def xml(self, name: str, flags: int) -> str:
        _XML.check(flags)
        return format_snapshot(self.get(name), secure=bool(flags))

    def lookup(self, name: str, flags: int) -> str:
        check_none(flags, "virDomainSnapshotLookupByName")
        return self.get(name).name

    def parent(self, name: str, flags: int) -> str:
        check_none(flags, "virDomainSnapshotGetParent")
        parent = self.get(name).parent
        if parent is None:
            raise NoDomainSnapshot(f"snapshot {name!r} has no parent")
        return parent

    def has_current(self, flags: int) -> int:
        check_none(flags, "virDomainHasCurrentSnapshot")
        return int(self._current is not None)

    def current(self, flags: int) -> str:
        check_none(flags, "virDomainSnapshotCurrent")
        if self._current is None:
            raise NoDomainSnapshot(f"domain {self._domain.ref.name} has no current snapshot")
        return self._current

    def is_current(self, name: str, flags: int) -> int:
        check_none(flags, "virDomainSnapshotIsCurrent")
        return int(self.get(name).name == self._current)

    def number_of_children(self, name: str, flags: int) -> int:
        _LIST.check(flags)
        return len(self._children(self.get(name).name))

    async def delete(self, name: str, flags: int) -> None:
        """Forget a snapshot; its images stay, which the caller must have asked for."""
        _DELETE.check(flags)
        definition = self.get(name)
        if flags != _METADATA_ONLY:
            raise OperationUnsupported(
                f"the images of snapshot {name!r} are not merged here: commit them with "
                "virDomainBlockCommit, then delete the snapshot's metadata only"
            )
        await store.remove(self._path(name))
        del self._known[name]
        for child in self._children(name):
            moved = replace(child, parent=definition.parent)
            await store.write(self._path(child.name), format_snapshot(moved, secure=True))
            self._known[child.name] = moved
        if self._current == name:
            self._current = definition.parent

    def forget(self) -> None:
        """The domain is no more."""
        self._known.clear()
        self._current = None

    def _children(self, name: str) -> list[SnapshotDefinition]:
        return [one for one in self._known.values() if one.parent == name]

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.xml"
