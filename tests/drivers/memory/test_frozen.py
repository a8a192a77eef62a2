"""Frozen views: what they preserve, when they stop, and what happens when space runs out."""

import errno

import pytest

from virtbackupd.drivers.memory.clusters import CLUSTER
from virtbackupd.drivers.memory.frozen import Frozen, ScratchFull
from virtbackupd.drivers.memory.image import Image

CAPACITY = 4 * CLUSTER


@pytest.fixture
def image() -> Image:
    image = Image(CAPACITY, path="/images/a")
    image.fill(0, 2 * CLUSTER, 1)
    return image


def test_nothing_is_preserved_at_first(image: Image) -> None:
    assert image.freeze().preserved_bytes == 0


def test_an_overwritten_cluster_is_preserved_once(image: Image) -> None:
    frozen = image.freeze()
    image.write(0, b"a")
    image.write(5, b"b")
    assert (frozen.preserved_bytes, frozen.read(0, 6)) == (CLUSTER, b"\1" * 6)


def test_an_overwritten_hole_counts_as_qemu_counts_it(image: Image) -> None:
    frozen = image.freeze()
    image.write(3 * CLUSTER, b"a")
    assert (frozen.preserved_bytes, frozen.read(3 * CLUSTER, 1)) == (CLUSTER, b"\0")


def test_zeroes_over_a_hole_count_too_but_a_discard_there_does_not(image: Image) -> None:
    frozen = image.freeze()
    image.write_zeroes(2 * CLUSTER, CLUSTER)
    image.discard(3 * CLUSTER, CLUSTER)
    assert frozen.preserved_bytes == CLUSTER


def test_the_last_cluster_counts_as_far_as_the_disk_goes() -> None:
    image = Image(CLUSTER + 512, path="/images/odd")
    frozen = image.freeze()
    image.write(CLUSTER, b"a")
    assert frozen.preserved_bytes == 512


def test_views_of_different_instants_coexist(image: Image) -> None:
    first = image.freeze()
    image.write(0, b"a")
    second = image.freeze()
    image.write(0, b"b")
    assert [view.read(0, 1) for view in (first, second, image)] == [b"\1", b"a", b"b"]


def test_a_closed_view_preserves_nothing(image: Image) -> None:
    frozen = image.freeze()
    frozen.close()
    frozen.close()
    image.write(0, b"a")
    assert frozen.preserved_bytes == 0


def test_a_view_keeps_its_size(image: Image) -> None:
    frozen = image.freeze()
    image.resize(CLUSTER)
    assert frozen.read(CLUSTER, 1) == b"\1"
    assert [extent.length for extent in frozen.extents(0, CAPACITY)] == [2 * CLUSTER] * 2


def test_a_view_ends_where_the_disk_ended(image: Image) -> None:
    frozen = image.freeze()
    image.resize(9 * CLUSTER)
    image.write(8 * CLUSTER, b"x")
    assert frozen.data_clusters() == [0, 1]


def test_each_preserved_cluster_is_reported(image: Image) -> None:
    seen: list[int] = []
    frozen = image.freeze()
    frozen.on_preserve = lambda view: seen.append(view.preserved_bytes)
    image.write(CLUSTER - 1, b"ab")
    assert seen == [CLUSTER, 2 * CLUSTER]


def broken(image: Image) -> Frozen:
    frozen = image.freeze()
    frozen.preserve_limit = CLUSTER
    image.write(0, b"a")
    image.write(CLUSTER, b"b")
    return frozen


def test_a_full_scratch_breaks_the_view_not_the_guest(image: Image) -> None:
    frozen = broken(image)
    assert frozen.failed
    assert image.read(CLUSTER, 1) == b"b"


def test_a_broken_view_says_what_is_full(image: Image) -> None:
    with pytest.raises(ScratchFull, match=r"65536 bytes for image /images/a") as caught:
        broken(image).read(0, 1)
    assert caught.value.errno == errno.ENOSPC


def test_a_limit_that_is_just_met_holds(image: Image) -> None:
    frozen = image.freeze()
    frozen.preserve_limit = CLUSTER
    image.write(0, b"a")
    assert frozen.read(0, 1) == b"\1"


def test_a_closed_view_forgets_who_watched_it(image: Image) -> None:
    """The watcher holds the view: the two would keep each other, and the image, in memory."""
    frozen = image.freeze()
    frozen.on_preserve = lambda _: None
    frozen.close()
    assert frozen.on_preserve is None
