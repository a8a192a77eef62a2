"""Bitmaps by themselves, fed through the change log as an image feeds them."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtbackupd.drivers.memory.bitmap import (
    Bitmap,
    BitmapExists,
    BitmapSet,
    ChangeLog,
    DirtyMap,
    NoSuchBitmap,
)
from virtbackupd.drivers.memory.clusters import CLUSTER


@pytest.fixture
def log() -> ChangeLog:
    return ChangeLog()


@pytest.fixture
def bitmaps(log: ChangeLog) -> BitmapSet:
    return BitmapSet("/images/a", log)


def stamp(log: ChangeLog, clusters: Iterable[int]) -> None:
    """Whole clusters, each by itself."""
    for cluster in clusters:
        log.stamp(cluster * CLUSTER, CLUSTER)


def test_a_new_bitmap_is_clean(bitmaps: BitmapSet) -> None:
    assert bitmaps.add("a").count == 0


def test_changes_before_the_bitmap_are_not_in_it(bitmaps: BitmapSet, log: ChangeLog) -> None:
    older = bitmaps.add("older")
    stamp(log, [7])
    newer = bitmaps.add("newer")
    stamp(log, [3])
    assert (older.dirty_clusters(), newer.dirty_clusters()) == ([3, 7], [3])


def test_a_change_again_moves_into_the_newer_bitmap(bitmaps: BitmapSet, log: ChangeLog) -> None:
    bitmaps.add("older")
    stamp(log, [7, 8])
    newer = bitmaps.add("newer")
    stamp(log, [7])
    assert newer.dirty_clusters() == [7]


def test_count_is_in_bytes(bitmaps: BitmapSet, log: ChangeLog) -> None:
    bitmap = bitmaps.add("a")
    stamp(log, [1, 5, 5])
    assert bitmap.count == 2 * CLUSTER


def test_a_disabled_bitmap_keeps_what_it_had(bitmaps: BitmapSet, log: ChangeLog) -> None:
    bitmap = bitmaps.add("a")
    stamp(log, [1])
    bitmap.disable()
    stamp(log, [2])
    assert (bitmap.recording, bitmap.dirty_clusters()) == (False, [1])


def test_an_enabled_bitmap_goes_on_from_there(bitmaps: BitmapSet, log: ChangeLog) -> None:
    bitmap = bitmaps.add("a", recording=False)
    stamp(log, [1])
    bitmap.enable()
    stamp(log, [2])
    assert bitmap.dirty_clusters() == [2]


def test_enabling_twice_loses_nothing(bitmaps: BitmapSet, log: ChangeLog) -> None:
    bitmap = bitmaps.add("a")
    stamp(log, [1])
    bitmap.enable()
    assert bitmap.dirty_clusters() == [1]


def test_clusters_dirty_from_the_outset(bitmaps: BitmapSet) -> None:
    assert bitmaps.add("a", dirty=[9, 4]).dirty_clusters() == [4, 9]


def test_merge_adds_the_others(bitmaps: BitmapSet) -> None:
    target = bitmaps.add("t", dirty=[1])
    target.merge([bitmaps.add("a", dirty=[2]), bitmaps.add("b", dirty=[2, 3])])
    assert target.dirty_clusters() == [1, 2, 3]


def test_a_name_is_given_once(bitmaps: BitmapSet) -> None:
    bitmaps.add("a")
    with pytest.raises(BitmapExists, match=r"/images/a already has a bitmap named a"):
        bitmaps.add("a")


def test_removing_what_is_not_there(bitmaps: BitmapSet) -> None:
    with pytest.raises(NoSuchBitmap, match="no bitmap named a"):
        bitmaps.remove("a")


def test_a_removed_bitmap_is_gone(bitmaps: BitmapSet) -> None:
    bitmaps.add("a")
    bitmaps.add("b")
    bitmaps.remove("a")
    assert (bitmaps.names(), bitmaps.get("a"), len(bitmaps)) == (["b"], None, 1)


def test_nothing_is_stamped_for_nobody(bitmaps: BitmapSet, log: ChangeLog) -> None:
    bitmaps.add("a")
    bitmaps.remove("a")
    stamp(log, [1])
    assert list(log.since(0)) == []


def test_a_crash_marks_a_bitmap(bitmaps: BitmapSet) -> None:
    bitmap = bitmaps.add("a")
    bitmaps.mark_inconsistent("a")
    assert bitmap.inconsistent


def test_marking_what_is_not_there(bitmaps: BitmapSet) -> None:
    with pytest.raises(NoSuchBitmap):
        bitmaps.mark_inconsistent("a")


def test_membership_and_order(bitmaps: BitmapSet) -> None:
    made = [bitmaps.add(name) for name in ("z", "a")]
    assert "z" in bitmaps
    assert list(bitmaps) == made


def test_finding_dirty_clusters_stops_at_the_start(bitmaps: BitmapSet, log: ChangeLog) -> None:
    bitmaps.add("old")
    stamp(log, range(1000))
    start = log.advance()
    stamp(log, [4, 2])
    assert list(log.since(start)) == [2, 4]


def test_a_shrunk_disk_forgets_its_end(bitmaps: BitmapSet, log: ChangeLog) -> None:
    bitmap = bitmaps.add("a", dirty=[8])
    stamp(log, [9, 1])
    log.truncate(5)
    bitmap.truncate(5)
    assert bitmap.dirty_clusters() == [1]


changes = st.lists(st.integers(0, 9) | st.sampled_from(["add", "disable", "enable"]), max_size=60)


@given(changes)
def test_bitmaps_agree_with_plain_sets(script: list[int | str]) -> None:
    log = ChangeLog()
    bitmaps = BitmapSet("a", log)
    model: list[tuple[Bitmap, set[int]]] = []
    for step in script:
        play(step, log, bitmaps, model)
    for bitmap, wanted in model:
        assert bitmap.dirty_clusters() == sorted(wanted)


def play(
    step: int | str, log: ChangeLog, bitmaps: BitmapSet, model: list[tuple[Bitmap, set[int]]]
) -> None:
    if isinstance(step, int):
        stamp(log, [step])
        for bitmap, wanted in model:
            wanted.update([step] if bitmap.recording else [])
    elif step == "add":
        model.append((bitmaps.add(str(len(bitmaps))), set()))
    elif model:
        bitmap = model[len(model) // 2][0]
        bitmap.disable() if step == "disable" else bitmap.enable()


def test_a_dirty_map_does_not_change(bitmaps: BitmapSet, log: ChangeLog) -> None:
    bitmap = bitmaps.add("a", dirty=[3])
    frozen = DirtyMap.merge([bitmap])
    stamp(log, [5])
    assert frozen.clusters == [3]


def test_a_dirty_map_unites_bitmaps(bitmaps: BitmapSet) -> None:
    pair = [bitmaps.add("a", dirty=[3, 1]), bitmaps.add("b", dirty=[3, 4])]
    united = DirtyMap.merge(pair)
    assert (united.clusters, united.count) == ([1, 3, 4], 3 * CLUSTER)


def test_dirty_extents_cover_the_range() -> None:
    extents = list(DirtyMap([1, 2]).extents(CLUSTER - 10, 2 * CLUSTER))
    assert extents == [(10, False), (2 * CLUSTER - 10, True)]


def test_a_lost_bitmap_leaves_a_shadow_that_goes_on(bitmaps: BitmapSet, log: ChangeLog) -> None:
    bitmaps.add("a")
    stamp(log, [1])
    bitmaps.lose("a")
    stamp(log, [2])
    shadow = bitmaps.shadow("a")
    assert "a" not in bitmaps
    assert shadow is not None
    assert shadow.dirty_clusters() == [1, 2]


def test_a_removed_bitmap_leaves_none(bitmaps: BitmapSet) -> None:
    bitmaps.add("a")
    bitmaps.remove("a")
    assert bitmaps.shadow("a") is None


def test_merging_and_disabling_do_not_mislead_the_shadow(
    bitmaps: BitmapSet, log: ChangeLog
) -> None:
    bitmap = bitmaps.add("a", dirty=[9])
    bitmap.merge([bitmaps.add("b", dirty=[5])])
    bitmap.disable()
    stamp(log, [1])
    shadow = bitmaps.shadow("a")
    assert shadow is not None
    assert shadow.dirty_clusters() == [1, 9]


def test_nothing_is_stamped_when_the_last_shadow_has_gone(
    bitmaps: BitmapSet, log: ChangeLog
) -> None:
    bitmaps.add("a")
    bitmaps.lose("a")
    assert log.active
    bitmaps.add("a")
    bitmaps.remove("a")
    assert not log.active
