"""libvirt's filters and outputs, and which level holds for which category."""

import logging

import pytest

from virtbackupd.server.log_syntax import (
    AUDIT,
    Filter,
    Levels,
    LogSyntaxError,
    Output,
    level_of,
    parse_filters,
    parse_outputs,
    spell,
)


@pytest.mark.parametrize("text", ["1:qemu 3:event", "4:*json", "2:a.b"])
def test_filters_come_back_as_they_went_in(text: str) -> None:
    assert spell(parse_filters(text)) == text


@pytest.mark.parametrize("text", ["5:qemu", "qemu", "1:", ":qemu", "1 :qemu"])
def test_wrong_filter_is_named(text: str) -> None:
    with pytest.raises(LogSyntaxError, match="is no log filter; write LEVEL:MATCH"):
        parse_filters(text)


@pytest.mark.parametrize(
    "text", ["1:stderr", "2:journald", "3:file:/var/log/a:b.log 4:syslog:me", ""]
)
def test_outputs_come_back_as_they_went_in(text: str) -> None:
    assert spell(parse_outputs(text)) == text


@pytest.mark.parametrize(
    "text", ["0:stderr", "1:stderr:x", "1:file", "1:file:", "1:file:relative", "1:syslog", "1:tape"]
)
def test_wrong_output_is_named(text: str) -> None:
    with pytest.raises(LogSyntaxError, match="is no log output; write LEVEL:stderr"):
        parse_outputs(text)


def test_parts_of_an_output() -> None:
    assert parse_outputs("3:file:/a:b") == (Output(logging.WARNING, "file", "/a:b"),)


@pytest.mark.parametrize(("value", "level"), [(1, 10), (4, 40), ("debug", 10), ("warning", 30)])
def test_level_by_number_and_by_name(value: int | str, level: int) -> None:
    assert level_of(value) == level


def test_first_filter_that_matches_counts() -> None:
    levels = Levels(logging.WARNING, parse_filters("1:qemu 4:drivers"))
    assert levels.of("virtbackupd.drivers.qemu.process") == logging.DEBUG
    assert levels.of("virtbackupd.drivers.memory") == logging.ERROR
    assert levels.of("virtbackupd.server") == logging.WARNING


def test_filter_is_a_shell_pattern_within_the_category() -> None:
    rule = Filter(logging.DEBUG, "drivers.*.nbd")
    assert rule.matches("virtbackupd.drivers.memory.nbd_export")
    assert not rule.matches("virtbackupd.drivers.nbd")


def test_general_level_does_not_hold_back_audit_lines() -> None:
    assert Levels(logging.ERROR).of(AUDIT) == logging.INFO


def test_filter_for_audit_lines_counts() -> None:
    assert Levels(logging.ERROR, parse_filters("4:audit")).of(AUDIT) == logging.ERROR


def test_lowest_level_is_that_of_the_most_talkative() -> None:
    assert Levels(logging.ERROR, parse_filters("3:a 1:b")).lowest == logging.DEBUG
