"""Dirty bitmaps: what changed on an image since an instant, at no cost per bitmap.

An image stamps each changed cluster with its current epoch and keeps the stamps in the order of
change. A bitmap is little more than the epoch it began in, so a write costs the same however many
bitmaps record, and adding one costs the same however many there are. What was written is also known
by bytes, as far as that has room. The stamps are the image's; this module never sees contents.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from virtbackupd.drivers.memory.clusters import CLUSTER, spans, touched
from virtbackupd.drivers.memory.ranges import Range
from virtbackupd.drivers.memory.written import NOTHING, Written, WrittenState


class BitmapExists(ValueError):
    """An image already has a bitmap of that name."""


class NoSuchBitmap(KeyError):
    """An image has no bitmap of that name."""


class BitmapState(NamedTuple):
    """One bitmap as it was at an instant."""

    name: str
    persistent: bool
    inconsistent: bool
    start: int | None
    """The epoch it began in; None for one that does not record."""
    extra: frozenset[int]


class BitmapsState(NamedTuple):
    """All bitmaps of an image and its stamps, as they were at an instant."""

    epoch: int
    active: bool
    stamps: dict[int, int]
    """In the order of the last change; not to be changed."""
    written: WrittenState
    bitmaps: tuple[BitmapState, ...]
    shadows: tuple[BitmapState, ...] = ()
    """What `BitmapSet.shadow` knows."""


class ChangeLog:
    """The clusters of one image in the order of their last change, each with its epoch."""

    __slots__ = ("_before", "_shared", "_stamps", "_written", "active", "epoch")

    def __init__(self) -> None:
        self.epoch = 0
        self.active = False
        """Whether anybody will ask: without bitmaps nothing is stamped."""
        self._stamps: dict[int, int] = {}
        self._shared = False
        self._before = NOTHING
        """By bytes, until the first write of this epoch."""
        self._written: Written | None = None

    def advance(self) -> int:
        """Begin a new epoch; what was stamped so far lies before it."""
        self._before, self._written = self._record(), None
        self.epoch += 1
        return self.epoch

    def stamp(self, offset: int, length: int) -> None:
        """Record that the bytes of a range have just changed."""
        if not self.active:
            return
        if self._shared:
            self._stamps, self._shared = dict(self._stamps), False
        if self._written is None:
            self._written = Written(self._before, self.epoch)
        self._written.note(offset, length)
        stamps, epoch = self._stamps, self.epoch
        for cluster in touched(offset, length):
            if stamps.get(cluster) != epoch:
                stamps.pop(cluster, None)
                stamps[cluster] = epoch

    def ranges_since(self, epoch: int) -> list[Range] | None:
        """The bytes changed in `epoch` or later, in order; None when only clusters are known."""
        return self._record().since(epoch)

    def _record(self) -> WrittenState:
        return self._before if self._written is None else self._written.state()

    def since(self, epoch: int) -> Iterator[int]:
        """The clusters changed in `epoch` or later, the latest first."""
        for cluster, stamp in reversed(self._stamps.items()):
            if stamp < epoch:
                return
            yield cluster

    def truncate(self, clusters: int) -> None:
        """Drop the stamps of clusters from number `clusters` on."""
        self._stamps = {key: stamp for key, stamp in self._stamps.items() if key < clusters}
        self._shared = False
        self._before, self._written = self._record().clipped(clusters * CLUSTER), None

    def forget(self) -> None:
        """Drop every stamp, when the last bitmap has gone."""
        self.active = False
        self._stamps, self._shared = {}, False
        self._before, self._written = NOTHING, None

    def share(self) -> tuple[dict[int, int], WrittenState]:
        """As of now: whoever changes the stamps next changes a copy."""
        self._shared = True
        return self._stamps, self._record()

    def restore(self, state: BitmapsState) -> None:
        """Go back to an earlier instant, or to that of another image."""
        self.epoch, self.active = state.epoch, state.active
        self._stamps, self._shared = state.stamps, True
        self._before, self._written = state.written, None


class Bitmap:
    """One named record of changes on an image."""

    __slots__ = ("_log", "_start", "busy", "extra", "inconsistent", "name", "persistent")

    granularity = CLUSTER

    def __init__(self, log: ChangeLog, name: str, *, persistent: bool, recording: bool) -> None:
        self.name = name
        self.persistent = persistent
        self.inconsistent = False
        self.busy = False
        self.extra: frozenset[int] = frozenset()
        """Clusters dirty for another reason than a change since the start: loaded or merged."""
        self._log = log
        self._start: int | None = log.advance() if recording else None

    @property
    def recording(self) -> bool:
        """Whether changes from now on will be in the bitmap."""
        return self._start is not None

    def disable(self) -> None:
        """Stop recording and keep what is dirty so far."""
        self.extra = self._dirty()
        self._start = None

    def enable(self) -> None:
        """Record again, from now on."""
        if self._start is None:
            self._start = self._log.advance()

    def merge(self, others: Iterable["Bitmap"]) -> None:
        """Make dirty whatever is dirty in the others."""
        self.extra = self.extra.union(*(other.dirty_clusters() for other in others))

    def dirty_clusters(self) -> list[int]:
        """The sorted numbers of the dirty clusters, found in time proportional to their count."""
        return sorted(self._dirty())

    def ranges(self) -> list[Range] | None:
        """The dirty bytes, in no order; None when only clusters are known."""
        found = [] if self._start is None else self._log.ranges_since(self._start)
        if found is None:
            return None
        return [*found, *((at * CLUSTER, (at + 1) * CLUSTER) for at in self.extra)]

    @property
    def count(self) -> int:
        """Dirty bytes in whole units of the granularity."""
        return len(self._dirty()) * self.granularity

    def truncate(self, clusters: int) -> None:
        """Forget loaded or merged clusters from number `clusters` on."""
        self.extra = frozenset(cluster for cluster in self.extra if cluster < clusters)

    def state(self) -> BitmapState:
        """The bitmap as of now."""
        return BitmapState(self.name, self.persistent, self.inconsistent, self._start, self.extra)

    @classmethod
    def restored(cls, log: ChangeLog, state: BitmapState) -> "Bitmap":
        """The bitmap as it was; nothing uses it yet."""
        bitmap = cls(log, state.name, persistent=state.persistent, recording=False)
        bitmap.inconsistent, bitmap.extra = state.inconsistent, state.extra
        bitmap._start = state.start
        return bitmap

    def _dirty(self) -> frozenset[int]:
        if self._start is None:
            return self.extra
        return self.extra.union(self._log.since(self._start))


MAX_LOST = 1000
"""Bitmaps that were lost and are still known to the oracle, on one image; the oldest go first."""


class BitmapSet:
    """The bitmaps of one image by name, and what they would say had nobody damaged them."""

    __slots__ = ("_bitmaps", "_image", "_log", "_shadows")

    def __init__(self, image: str, log: ChangeLog) -> None:
        self._image = image
        self._log = log
        self._bitmaps: dict[str, Bitmap] = {}
        self._shadows: dict[str, Bitmap] = {}

    def __iter__(self) -> Iterator[Bitmap]:
        return iter(self._bitmaps.values())

    def __len__(self) -> int:
        return len(self._bitmaps)

    def __contains__(self, name: str) -> bool:
        return name in self._bitmaps

    def names(self) -> list[str]:
        """The names in the order of creation."""
        return list(self._bitmaps)

    def get(self, name: str) -> Bitmap | None:
        """The bitmap of that name, if there is one."""
        return self._bitmaps.get(name)

    def add(
        self,
        name: str,
        *,
        persistent: bool = True,
        recording: bool = True,
        dirty: Iterable[int] = (),
    ) -> Bitmap:
        """Begin a bitmap; `dirty` names clusters that are dirty from the outset."""
        if name in self._bitmaps:
            raise BitmapExists(f"image {self._image} already has a bitmap named {name}")
        bitmap = Bitmap(self._log, name, persistent=persistent, recording=recording)
        bitmap.extra = frozenset(dirty)
        self._bitmaps[name] = bitmap
        self._log.active = True
        if recording:
            self._shadows[name] = Bitmap.restored(self._log, bitmap.state())
        return bitmap

    def remove(self, name: str) -> None:
        """Drop a bitmap."""
        self._take_out(name)
        self._shadows.pop(name, None)
        if not self._bitmaps and not self._shadows:
            self._log.forget()

    def lose(self, name: str) -> None:
        """Drop a bitmap as damage does: `shadow` still tells what it would have held."""
        self._take_out(name)
        lost = [shadow for shadow in self._shadows if shadow not in self._bitmaps]
        for oldest in lost[:-MAX_LOST]:
            del self._shadows[oldest]

    def shadow(self, name: str) -> Bitmap | None:
        """What has changed since a bitmap of that name began, whatever became of the bitmap."""
        return self._shadows.get(name)

    def _take_out(self, name: str) -> None:
        if self._bitmaps.pop(name, None) is None:
            raise NoSuchBitmap(f"image {self._image} has no bitmap named {name}")

    def truncate(self, clusters: int) -> None:
        """Forget loaded or merged clusters from number `clusters` on."""
        for bitmap in (*self._bitmaps.values(), *self._shadows.values()):
            bitmap.truncate(clusters)

    def mark_inconsistent(self, name: str) -> None:
        """Make a bitmap unusable, as a crash does to those not stored in time."""
        bitmap = self._bitmaps.get(name)
        if bitmap is None:
            raise NoSuchBitmap(f"image {self._image} has no bitmap named {name}")
        bitmap.inconsistent = True

    def state(self) -> BitmapsState:
        """Everything as of now."""
        log = self._log
        kept = tuple(bitmap.state() for bitmap in self)
        shadows = tuple(shadow.state() for shadow in self._shadows.values())
        stamps, written = log.share()
        return BitmapsState(log.epoch, log.active, stamps, written, kept, shadows)

    def restore(self, state: BitmapsState) -> None:
        """Have the bitmaps of an earlier instant, or those of another image, and no other."""
        self._log.restore(state)
        self._bitmaps = {kept.name: Bitmap.restored(self._log, kept) for kept in state.bitmaps}
        self._shadows = {kept.name: Bitmap.restored(self._log, kept) for kept in state.shadows}


class DirtyMap:
    """The dirty clusters of one or several bitmaps at one instant; it changes no more."""

    __slots__ = ("clusters",)

    granularity = CLUSTER

    def __init__(self, clusters: Iterable[int]) -> None:
        self.clusters = sorted(set(clusters))

    @classmethod
    def merge(cls, bitmaps: Iterable[Bitmap]) -> "DirtyMap":
        """What is dirty in any of the bitmaps now."""
        return cls(cluster for bitmap in bitmaps for cluster in bitmap.dirty_clusters())

    @property
    def count(self) -> int:
        """Dirty bytes in whole units of the granularity."""
        return len(self.clusters) * self.granularity

    def extents(self, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        """The range cut into (length, whether dirty)."""
        for _, size, dirty in spans(self.clusters, offset, length):
            yield size, dirty
