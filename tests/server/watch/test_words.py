"""Sizes, durations and names as people read them."""

import pytest

from virtbackupd.server.watch.words import duration, moment, printable, size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (1 << 30, "1.0 GiB"),
        (3 << 70, "3072.0 EiB"),
    ],
)
def test_sizes_count_in_steps_of_1024(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3_605, "1 h"),
        (90_000, "1 d 1 h"),
        (-5, "0 s"),
    ],
)
def test_durations_show_their_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_moment_that_no_calendar_has_is_a_number() -> None:
    assert moment(1e20) == "@100000000000000000000"


def test_names_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x9bc\n") == "a?[2Jb?c?"
