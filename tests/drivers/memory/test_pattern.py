"""The deterministic contents of disks nobody wrote to."""

from virtbackupd.drivers.memory.clusters import CLUSTER
from virtbackupd.drivers.memory.pattern import pattern_cluster


def test_the_same_seed_gives_the_same_contents() -> None:
    assert pattern_cluster(7, 3) == pattern_cluster(7, 3)


def test_seeds_differ() -> None:
    assert pattern_cluster(1, 0) != pattern_cluster(2, 0)


def test_no_two_clusters_of_a_gibibyte_are_equal() -> None:
    assert len({bytes(pattern_cluster(1, index)[:32]) for index in range(16384)}) == 16384


def test_a_cluster_is_a_whole_one() -> None:
    assert len(pattern_cluster(1, 5)) == CLUSTER


def test_the_end_of_a_disk_is_padded_with_zeroes() -> None:
    cut = pattern_cluster(1, 5, 100)
    assert cut == bytes(pattern_cluster(1, 5)[:100]) + bytes(CLUSTER - 100)


def test_contents_are_noise() -> None:
    assert len(set(pattern_cluster(1, 0))) == 256
