"""Dirty bitmaps: what changed on an image since an instant, at no cost per bitmap.

An image stamps each changed cluster with its current epoch and keeps the stamps in the order of
change. A bitmap is little more than the epoch it began in, so a write costs the same however many
bitmaps record, and adding one costs the same however many there are. The stamps are the image's;
this module never sees contents.
"""

from collections.abc import Iterable, Iterator

from virtbackupd.drivers.memory.clusters import CLUSTER, spans


class BitmapExists(ValueError):
    """An image already has a bitmap of that name."""


class NoSuchBitmap(KeyError):
    """An image has no bitmap of that name."""


class ChangeLog:
    """The clusters of one image in the order of their last change, each with its epoch."""

    __slots__ = ("_stamps", "active", "epoch")

    def __init__(self) -> None:
        self.epoch = 0
        self.active = False
        """Whether anybody will ask: without bitmaps nothing is stamped."""
        self._stamps: dict[int, int] = {}

    def advance(self) -> int:
        """Begin a new epoch; what was stamped so far lies before it."""
        self.epoch += 1
        return self.epoch

    def stamp(self, clusters: Iterable[int]) -> None:
        """Record that the clusters have just changed."""
        if not self.active:
            return
        stamps, epoch = self._stamps, self.epoch
        for cluster in clusters:
            if stamps.get(cluster) != epoch:
                stamps.pop(cluster, None)
                stamps[cluster] = epoch

    def since(self, epoch: int) -> Iterator[int]:
        """The clusters changed in `epoch` or later, the latest first."""
        for cluster, stamp in reversed(self._stamps.items()):
            if stamp < epoch:
                return
            yield cluster

    def truncate(self, clusters: int) -> None:
        """Drop the stamps of clusters from number `clusters` on."""
        self._stamps = {key: stamp for key, stamp in self._stamps.items() if key < clusters}

    def forget(self) -> None:
        """Drop every stamp, when the last bitmap has gone."""
        self.active = False
        self._stamps.clear()


class Bitmap:
    """One named record of changes on an image."""

    __slots__ = ("_log", "_start", "busy", "extra", "inconsistent", "name", "persistent")

    granularity = CLUSTER

    def __init__(self, log: ChangeLog, name: str, *, persistent: bool, recording: bool) -> None:
        self.name = name
        self.persistent = persistent
        self.inconsistent = False
        self.busy = False
        self.extra: set[int] = set()
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
        self.extra.update(*(other.dirty_clusters() for other in others))

    def dirty_clusters(self) -> list[int]:
        """The sorted numbers of the dirty clusters, found in time proportional to their count."""
        return sorted(self._dirty())

    @property
    def count(self) -> int:
        """Dirty bytes in whole units of the granularity."""
        return len(self._dirty()) * self.granularity

    def truncate(self, clusters: int) -> None:
        """Forget loaded or merged clusters from number `clusters` on."""
        self.extra = {cluster for cluster in self.extra if cluster < clusters}

    def _dirty(self) -> set[int]:
        if self._start is None:
            return set(self.extra)
        return self.extra.union(self._log.since(self._start))


class BitmapSet:
    """The bitmaps of one image by name."""

    __slots__ = ("_bitmaps", "_image", "_log")

    def __init__(self, image: str, log: ChangeLog) -> None:
        self._image = image
        self._log = log
        self._bitmaps: dict[str, Bitmap] = {}

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
        bitmap.extra.update(dirty)
        self._bitmaps[name] = bitmap
        self._log.active = True
        return bitmap

    def remove(self, name: str) -> None:
        """Drop a bitmap."""
        if self._bitmaps.pop(name, None) is None:
            raise NoSuchBitmap(f"image {self._image} has no bitmap named {name}")
        if not self._bitmaps:
            self._log.forget()

    def mark_inconsistent(self, name: str) -> None:
        """Make a bitmap unusable, as a crash does to those not stored in time."""
        bitmap = self._bitmaps.get(name)
        if bitmap is None:
            raise NoSuchBitmap(f"image {self._image} has no bitmap named {name}")
        bitmap.inconsistent = True


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
