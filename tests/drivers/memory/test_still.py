"""Disks that stand still: an instant of a chain of images, and the sectors in which two differ."""

from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.still import Still, differences

CLUSTER = 65536


def image(clusters: int = 4, backing: Image | None = None) -> Image:
    return Image(clusters * CLUSTER, path="/i", backing=backing)


def test_writes_after_the_instant_are_not_seen() -> None:
    disk = image()
    disk.fill(0, 10, 1)
    still = Still(disk)
    disk.fill(0, 10, 2)
    assert still.read(0, 10) == b"\1" * 10


def test_writes_below_are_not_seen_either() -> None:
    below = image()
    below.fill(0, 10, 1)
    still = Still(image(backing=below))
    below.fill(0, 10, 2)
    assert still.read(0, 10) == b"\1" * 10


def test_zeroes_hide_what_is_below() -> None:
    below = image()
    below.fill(0, 2 * CLUSTER, 1)
    disk = image(backing=below)
    disk.write_zeroes(0, CLUSTER)
    still = Still(disk)
    assert still.data_clusters() == disk.data_clusters() == [1]
    assert still.read(0, CLUSTER) == bytes(CLUSTER)


def test_a_shorter_image_below_ends_where_it_ends() -> None:
    below = image(1)
    below.fill(0, CLUSTER, 1)
    still = Still(image(backing=below))
    assert still.data_clusters() == [0]
    assert still.read(CLUSTER, 1) == b"\0"


def test_equal_contents_differ_nowhere() -> None:
    one, other = image(), image()
    one.fill_pattern(3, 0, 2 * CLUSTER)
    other.write(0, one.read(0, 2 * CLUSTER))
    assert differences(one, other) == []


def test_written_zeroes_are_no_difference() -> None:
    one, other = image(), image()
    one.write(0, bytes(100))
    assert differences(one, other) == []


def test_differences_are_whole_sectors_and_touching_ones_are_one() -> None:
    one, other = image(), image()
    one.fill(CLUSTER - 1, 2, 7)
    assert differences(one, other) == [(CLUSTER - 512, CLUSTER + 512)]
    assert differences(other, one) == [(CLUSTER - 512, CLUSTER + 512)]


def test_a_longer_disk_differs_where_the_other_ends() -> None:
    one, other = Image(1000, path="/a"), Image(3000, path="/b")
    other.fill(2000, 10, 1)
    assert differences(one, other) == [(1000, 3000)]


def test_a_difference_ends_with_the_disk() -> None:
    one, other = Image(700, path="/a"), Image(700, path="/b")
    other.fill(600, 1, 1)
    assert differences(one, other) == [(512, 700)]
