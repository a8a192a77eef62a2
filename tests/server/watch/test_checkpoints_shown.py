"""Checkpoints as a tree of lines and as data, and what is said of their bitmaps."""

import re

import click
import pytest

from virtbackupd.drivers.enums import DomainState
from virtbackupd.server.remote_host import CheckpointDisk, CheckpointReport
from virtbackupd.server.watch.bitmaps import BitmapState, bitmap_state
from virtbackupd.server.watch.checkpoints import DomainTree, as_data, as_lines


def report(
    name: str, parent: str | None = None, created: int = 0, *disks: CheckpointDisk
) -> CheckpointReport:
    return CheckpointReport(name, parent, None, created, disks, "", sized=True)


def tree(*checkpoints: CheckpointReport) -> DomainTree:
    return DomainTree("vm", DomainState.RUNNING, checkpoints, None, 100.0)


def shapes(*checkpoints: CheckpointReport) -> list[str]:
    lines = [click.unstyle(line) for line in as_lines(tree(*checkpoints))]
    return [re.split(r"  \d{4}-", line[2:])[0].rstrip() for line in lines[1:]]


def test_a_chain_stays_at_the_edge() -> None:
    assert shapes(report("a"), report("b", "a"), report("c", "b")) == ["a", "b", "c"]


def test_a_branch_is_drawn() -> None:
    forked = (report("a"), report("b", "a"), report("b2", "b"), report("c", "a"), report("d", "c"))
    assert shapes(*forked) == ["a", "├─ b", "│  b2", "└─ c", "   d"]


def test_an_orphan_is_a_root() -> None:
    assert shapes(report("a"), report("b", "gone")) == ["├─ a", "└─ b"]


def test_a_chain_of_thousands_is_no_trouble() -> None:
    chain = [report("c0")] + [report(f"c{n}", f"c{n - 1}") for n in range(1, 3000)]
    assert shapes(*chain)[-1] == "c2999"


def test_no_checkpoints_are_said_to_be_none() -> None:
    assert list(as_lines(tree()))[-1] == "  no checkpoints"


def test_the_newest_leaf_is_current() -> None:
    found = tree(report("a", None, 1), report("b", "a", 3), report("c", "a", 2))
    assert found.current == "b"
    (marked,) = [click.unstyle(line) for line in as_lines(found) if line.endswith("current")]
    assert marked.split()[:2] == ["├─", "b"]


def test_names_are_shown_without_control_characters() -> None:
    assert "\x1b[2J" not in click.unstyle("\n".join(as_lines(tree(report("a\x1b[2J")))))


def test_data_has_sizes_ages_and_states() -> None:
    disk = CheckpointDisk("vda", "a", 65536)
    assert as_data(tree(report("a", None, 40, disk)))["checkpoints"] == [
        {
            "name": "a",
            "parent": None,
            "current": True,
            "description": None,
            "created": 40,
            "age": 60,
            "disks": [{"target": "vda", "bitmap": "a", "size": 65536, "state": "valid"}],
        }
    ]


@pytest.mark.parametrize(
    ("bitmap", "size", "sized", "consistent", "state"),
    [
        ("a", 1, True, None, BitmapState.VALID),
        ("", None, True, None, BitmapState.NONE),
        ("a", None, True, None, BitmapState.UNUSABLE),
        ("a", None, False, None, BitmapState.UNKNOWN),
        ("a", None, True, {"vda": {}}, BitmapState.MISSING),
        ("a", None, True, {"vda": {"a": False}}, BitmapState.INCONSISTENT),
        ("a", None, True, {"vda": {"a": True}}, BitmapState.UNUSABLE),
        ("a", None, False, {"vda": {"a": True}}, BitmapState.VALID),
        ("a", None, True, {"vdb": {}}, BitmapState.UNUSABLE),
    ],
)
def test_bitmaps_are_called_what_the_server_tells(
    bitmap: str,
    size: int | None,
    sized: bool,
    consistent: dict[str, dict[str, bool]] | None,
    state: BitmapState,
) -> None:
    disk = CheckpointDisk("vda", bitmap, size)
    checkpoint = CheckpointReport("a", None, None, 0, (disk,), "", sized)
    assert bitmap_state(checkpoint, disk, consistent) is state
