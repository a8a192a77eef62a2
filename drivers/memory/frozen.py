"""A disk as it was at one instant, kept by copy before write.

Taking it costs nothing: it reads the image itself, except for clusters that have changed since,
whose old content the image hands over before each change. It knows nothing of jobs or readers.
"""

import errno
from typing import TYPE_CHECKING, Final, Self

from virtbackupd.drivers.memory.clusters import CLUSTER, Cluster, View

if TYPE_CHECKING:
    from collections.abc import Callable

    from virtbackupd.drivers.memory.image import Image

_UNCHANGED: Final = b"unchanged"


class ScratchFull(OSError):
    """The space for old contents ran out, so the instant can no longer be read."""

    def __init__(self, path: str, limit: int) -> None:
        super().__init__(
            errno.ENOSPC, f"the scratch space of {limit} bytes for image {path} is used up"
        )


class Frozen(View):
    """The contents of an image at the instant of `Image.freeze`."""

    def __init__(self, image: "Image") -> None:
        self.capacity = image.capacity
        self.preserved_bytes = 0
        """What was kept because the guest has written there, holes included, as QEMU counts it."""
        self.preserve_limit: int | None = None
        """How many such bytes may be kept before the view breaks."""
        self.on_preserve: Callable[[Frozen], None] | None = None
        """Called after each cluster kept, with the view."""
        self.failed = False
        self._image = image
        self._preserved: dict[int, Cluster | None] = {}
        self._sorted: list[int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop keeping old contents. The view must not be read any more; may be called again."""
        self._image.thaw(self)
        self._preserved.clear()
        self.on_preserve = None

    def preserve(self, index: int, content: Cluster | None) -> None:
        """Keep what a cluster held until now, unless an older content is already kept."""
        if index in self._preserved or index * CLUSTER >= self.capacity:
            return
        if self._sorted is None:
            self._sorted = self._image.data_clusters()
        self._preserved[index] = content
        self._account(min(CLUSTER, self.capacity - index * CLUSTER))

    def cluster(self, index: int) -> Cluster | None:
        """The content a cluster had at the instant."""
        kept = self._preserved.get(index, _UNCHANGED)
        if kept is not _UNCHANGED:
            return kept
        if self.failed:
            raise ScratchFull(self._image.path, self.preserve_limit or 0)
        return self._image.cluster(index)

    def data_clusters(self) -> list[int]:
        """The sorted numbers of the clusters that held data at the instant."""
        if self._sorted is None:
            self._sorted = self._image.data_clusters()
        return self._sorted

    def _account(self, size: int) -> None:
        self.preserved_bytes += size
        if self.preserve_limit is not None and self.preserved_bytes > self.preserve_limit:
            self.failed = True
            self._preserved.clear()
            self._image.thaw(self)
        if self.on_preserve is not None:
            self.on_preserve(self)
