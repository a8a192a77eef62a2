"""Turns the records of a file back into the state of a world, and checks that they make sense.

Everything is checked before anybody gets the state: ValueError or DriverError says what is wrong.
Images are made anew. Opens no file; whether there are any at the paths of images is not known here.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import repeat
from operator import is_not
from typing import Final, NamedTuple, TypeVar

from virtbackupd.drivers.checkpoint_tree import CheckpointTree, TreeState
from virtbackupd.drivers.definitions.checkpoint import CheckpointDefinition
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.definitions.secret import parse_secret
from virtbackupd.drivers.definitions.writer import attributes
from virtbackupd.drivers.enums import DomainState
from virtbackupd.drivers.memory.bitmap import BitmapsState, BitmapState
from virtbackupd.drivers.memory.clusters import ZERO_CLUSTER, Cluster, cluster_count
from virtbackupd.drivers.memory.image import Image, ImageState
from virtbackupd.drivers.memory.images import RegistryState
from virtbackupd.drivers.memory.lifecycle import SavedState
from virtbackupd.drivers.memory.state_around import (
    read_reads,
    read_surroundings,
    read_written,
    require,
)
from virtbackupd.drivers.memory.state_contents import ContentsReader, unpacked
from virtbackupd.drivers.memory.state_records import (
    SavedBitmap,
    SavedChanges,
    SavedCheckpoint,
    SavedDomain,
    SavedImage,
    SavedSecret,
    SavedTable,
    SavedWorld,
)
from virtbackupd.drivers.memory.state_texts import TextReader
from virtbackupd.drivers.memory.world_disks import MAX_SIZE
from virtbackupd.drivers.memory.world_state import DomainRecord, ImageRecord, WorldState
from virtbackupd.drivers.memory.written import NOTHING, WrittenState
from virtbackupd.drivers.records import JobStats
from virtbackupd.drivers.registry import INACTIVE
from virtbackupd.drivers.secret_store import MAX_VALUE, SecretRecord

T = TypeVar("T")

_FORMATS: Final = ("qcow2", "raw")


def read_state(world: SavedWorld, stored: Sequence[bytes], image_dir: str) -> WorldState:
    """The state; what lay in the other host's image folder lies in `image_dir` now."""
    return _StateReader(world, stored, image_dir).state()


class _StateReader:
    def __init__(self, world: SavedWorld, stored: Sequence[bytes], image_dir: str) -> None:
        self._world = world
        self._old, self._new = f"{world.image_dir}/", f"{image_dir}/"
        self._quoted = _quoted(self._old), _quoted(self._new)
        contents = ContentsReader(stored)
        self._tables = [_clusters(table, contents) for table in world.tables]
        self._changes = [_stamps(table) for table in world.changes]
        self._texts = [self._moved_text(text) for text in world.texts]
        self._reader = TextReader()
        self._definitions: dict[int, DomainDefinition] = {}
        self._images: list[ImageRecord] = []

    def state(self) -> WorldState:
        world = self._world
        for saved in world.images:
            self._images.append(self._image(saved))
        domains = tuple(self._domain(saved) for saved in world.domains)
        _check_refs(domains, world.last_id)
        require(world.backup_rate >= 0, "the backup rate is negative")
        return WorldState(
            domains,
            world.last_id,
            tuple(self._images),
            self._registry(),
            tuple(_secret(saved) for saved in world.secrets),
            world.backup_rate,
            world.shown,
            read_surroundings(world.surroundings),
        )

    def _registry(self) -> RegistryState:
        images = {
            self._moved(path): self._at(number) for path, number in self._world.registry.items()
        }
        for path, image in images.items():
            require(path == image.path, f"the image at {path} has another path")
        return RegistryState(images, {})

    def _image(self, saved: SavedImage) -> ImageRecord:
        require(0 < saved.capacity <= MAX_SIZE, f"image {saved.path} has an impossible size")
        require(saved.format in _FORMATS, f"image {saved.path} has an unknown format")
        below = None if saved.backing is None else self._at(saved.backing)
        store = None if saved.data_store is None else self._moved(saved.data_store)
        image = Image(
            saved.capacity,
            path=self._moved(saved.path),
            format=saved.format,
            backing=below,
            data_store=store,
        )
        table = _item(self._tables, saved.table, "table")
        limit = cluster_count(saved.capacity)
        require(table.end <= limit, f"{saved.path} has data past its end")
        bitmaps = self._bitmaps(saved, limit)
        return ImageRecord(
            image, ImageState(saved.capacity, table.clusters, table.data_count, None, bitmaps)
        )

    def _bitmaps(self, saved: SavedImage, limit: int) -> BitmapsState:
        stamped = saved.stamped
        changes = _NO_CHANGES if stamped is None else _item(self._changes, stamped, "table")
        bitmaps, shadows = _bitmap_states(saved.bitmaps), _bitmap_states(saved.shadows)
        known = (*bitmaps, *shadows)
        ends = [changes.end, *(max(each.extra, default=-1) + 1 for each in known)]
        require(max(ends) <= limit, f"{saved.path} has changes past its end")
        require(bool(known) <= (stamped is not None), f"{saved.path} records no changes")
        active = stamped is not None
        written = changes.written or WrittenState(saved.epoch + 1, ())
        return BitmapsState(saved.epoch, active, changes.stamps, written, bitmaps, shadows)

    def _domain(self, saved: SavedDomain) -> DomainRecord:
        persistent, live = self._optional(saved.persistent), self._optional(saved.live)
        for definition in (persistent, live):
            require(
                definition is None or (definition.name, definition.uuid) == saved.ref[:2],
                f"the XML of domain {saved.ref.name} names another domain",
            )
        require(bool(persistent or live), f"domain {saved.ref.name} has no definition")
        require((live is None) == (saved.ref.id == INACTIVE), "an id without a running domain")
        tree = self._tree(saved)
        CheckpointTree.restored(tree).dissolve()
        kept = saved.saved
        return DomainRecord(
            ref=saved.ref,
            persistent=persistent,
            live=live,
            state=DomainState(saved.state).value,
            reason=saved.reason,
            autostart=saved.autostart,
            uptime=saved.uptime,
            saved=SavedState(self._definition(kept.definition), kept.paused) if kept else None,
            frozen=frozenset(saved.frozen),
            power_button=saved.power_button,
            nodes_used=saved.nodes_used,
            media={target: self._medium(number) for target, number in saved.media.items()},
            checkpoints=tree,
            completed=_completed(saved.completed),
            counted=saved.counted,
            reads={target: read_reads(known) for target, known in saved.reads.items()},
        )

    def _tree(self, saved: SavedDomain) -> TreeState[CheckpointDefinition]:
        read = [self._checkpoint(each) for each in saved.checkpoints]
        values = tuple((definition.name, definition) for definition in read)
        return TreeState(values, tuple(saved.links), saved.current)

    def _checkpoint(self, saved: SavedCheckpoint) -> CheckpointDefinition:
        if saved.domain is None:
            return saved.definition
        text = _item(self._texts, saved.domain, "text")
        return replace(saved.definition, domain_xml=text)

    def _optional(self, number: int | None) -> DomainDefinition | None:
        return None if number is None else self._definition(number)

    def _definition(self, number: int) -> DomainDefinition:
        found = self._definitions.get(number)
        if found is None:
            found = self._reader.read(_item(self._texts, number, "text"))
            self._definitions[number] = found
        return found

    def _medium(self, number: int | None) -> Image | None:
        return None if number is None else self._at(number)

    def _at(self, number: int) -> Image:
        return _item(self._images, number, "image").image

    def _moved(self, path: str) -> str:
        return self._new + path.removeprefix(self._old) if path.startswith(self._old) else path

    def _moved_text(self, text: str) -> str:
        """The same for domain XML, which is canonical: a path begins behind such a quote."""
        return text.replace(*self._quoted)


def _quoted(path: str) -> str:
    """The beginning of an attribute with the path, as the writer of XML has it."""
    return attributes([("file", path)]).partition("=")[2].removesuffix("'")


def _bitmap_states(saved: Sequence[SavedBitmap]) -> tuple[BitmapState, ...]:
    require(len({each.name for each in saved}) == len(saved), "two bitmaps have one name")
    return tuple(
        BitmapState(each.name, each.persistent, each.inconsistent, each.start,
                    frozenset(unpacked(each.extra)))
        for each in saved
    )  # fmt: skip


def _completed(saved: JobStats | None) -> JobStats | None:
    return None if saved is None else JobStats(saved.type, tuple(saved.params))


class _Table(NamedTuple):
    """The clusters of an image, or of several."""

    clusters: dict[int, Cluster]
    end: int
    """What an image must have at least, in clusters."""
    data_count: int


class _Changes(NamedTuple):
    """The stamps of an image, or of several."""

    stamps: dict[int, int]
    written: WrittenState | None
    end: int


_NO_CHANGES: Final = _Changes({}, NOTHING, 0)


def _clusters(table: SavedTable, contents: ContentsReader) -> _Table:
    keys, numbers = unpacked(table.clusters), unpacked(table.numbers)
    clusters = dict(zip(keys, contents.clusters(numbers), strict=True))
    data_count = sum(map(is_not, clusters.values(), repeat(ZERO_CLUSTER)))
    return _Table(clusters, max(keys, default=-1) + 1, data_count)


def _stamps(table: SavedChanges) -> _Changes:
    keys, epochs = unpacked(table.clusters), unpacked(table.numbers)
    require(list(epochs) == sorted(epochs), "the changes of an image are out of order")
    stamps = dict(zip(keys, epochs, strict=True))
    return _Changes(stamps, read_written(table), max(keys, default=-1) + 1)


def _check_refs(domains: Sequence[DomainRecord], last_id: int) -> None:
    for what in ("name", "uuid"):
        values = {getattr(domain.ref, what) for domain in domains}
        require(len(values) == len(domains), f"two domains have the same {what}")
    ids = [domain.ref.id for domain in domains if domain.live is not None]
    require(len(set(ids)) == len(ids), "two domains have the same id")
    require(all(0 < each <= last_id for each in ids), "a domain has an impossible id")


def _secret(saved: SavedSecret) -> SecretRecord:
    require(saved.value is None or len(saved.value) <= MAX_VALUE, "a secret is too long")
    return SecretRecord(parse_secret(saved.xml), saved.value)


def _item(items: Sequence[T], number: int, what: str) -> T:
    require(0 <= number < len(items), f"there is no {what} {number}")
    return items[number]
