"""Recordings as TOML: whatever stands in a document comes back as it was."""

import tomllib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtbackupd.server.recording import (
    Change,
    RecordedCheckpoint,
    RecordedDisk,
    RecordedDomain,
    RecordedHost,
    RecordedLayer,
    Recording,
)
from virtbackupd.server.world_text import Contents, world_text

GIB = 1 << 30
HOST = RecordedHost("h", "9.0.0", None, None, ())


def disk(path: str = "/a", *layers: RecordedLayer, allocation: int = 65_536) -> RecordedDisk:
    return RecordedDisk("vda", path, "qcow2", GIB, allocation, layers, None)


def domain(*disks: RecordedDisk, xml: str = "<domain/>", name: str = "a") -> RecordedDomain:
    return RecordedDomain(
        name=name, uuid="u", state="running", autostart=True, persistent=True, xml=xml,
        live_xml=None, disks=disks, checkpoints=(),
    )  # fmt: skip


def read(
    *domains: RecordedDomain, contents: Contents = "pattern", host: RecordedHost = HOST
) -> Any:  # noqa: ANN401 - what TOML holds
    return tomllib.loads(world_text(Recording(host, (), domains), "test:///default", contents))


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r")))
def test_any_text_comes_back_as_it_was(text: str) -> None:
    entry = read(domain(xml=text, name=text))["domains"][0]
    assert (entry["xml"], entry["name"]) == (text, text)


@pytest.mark.parametrize("text", ["a\r\nb", "\n'''\n", "ends\n'", "tab\t\nx", "\n\nx\n", 'q\n"""'])
def test_awkward_text_comes_back_as_it_was(text: str) -> None:
    assert read(domain(xml=text))["domains"][0]["xml"] == text


def test_a_source_cannot_leave_its_comment() -> None:
    text = world_text(Recording(HOST, (), ()), "test:///x\nseed = 1", "blank")
    assert "seed" not in tomllib.loads(text)


def test_what_the_host_does_not_tell_is_left_out() -> None:
    assert read()["host"] == {"hostname": "h", "libvirt": "9.0.0"}


def test_contents_are_a_pattern_as_large_as_what_is_allocated() -> None:
    (entry,) = read(domain(disk(allocation=3 * 65_536 + 1)))["domains"][0]["disks"]
    assert entry["written"] == [{"offset": 0, "length": 3 * 65_536, "seed": 1}]


def test_more_than_a_world_can_hold_is_cut() -> None:
    big = RecordedDisk("vda", "/a", "raw", 64 * GIB, 64 * GIB, (), None)
    (entry,) = read(domain(big))["domains"][0]["disks"]
    assert entry["written"][0]["length"] == 16 * GIB


def test_blank_disks_have_no_contents() -> None:
    assert "written" not in read(domain(disk()), contents="blank")["domains"][0]["disks"][0]


def test_disks_get_patterns_of_their_own() -> None:
    first, second = read(domain(disk("/a")), domain(disk("/b"), name="b"))["domains"]
    seeds = [entry["disks"][0]["written"][0]["seed"] for entry in (first, second)]
    assert len(set(seeds)) == 2


def test_an_image_that_two_disks_show_is_described_once() -> None:
    base = RecordedLayer("/base", "raw")
    first, second = read(domain(disk("/a", base)), domain(disk("/base"), name="b"))["domains"]
    assert first["disks"][0]["backing"] == {"path": "/base", "format": "raw", "size": GIB}
    assert second["disks"] == [{"target": "vda"}]


def test_a_chain_is_nested() -> None:
    layers = (RecordedLayer("/1", "qcow2"), RecordedLayer("/2", "raw"))
    (entry,) = read(domain(disk("/a", *layers)))["domains"][0]["disks"]
    assert entry["backing"]["backing"] == {"path": "/2", "format": "raw", "size": GIB}


def test_a_capacity_is_made_of_whole_sectors() -> None:
    odd = RecordedDisk("vda", "/a", "raw", 513, 0, (), None)
    assert read(domain(odd))["domains"][0]["disks"][0]["size"] == 1024


def test_a_checkpoint_has_its_changes_and_bad_bitmaps() -> None:
    point = RecordedCheckpoint("c", None, "<x/>", {"vda": "missing"}, (Change("vda", 0, 65_536),))
    recorded = replace(domain(), live_xml="<l/>", checkpoints=(point,))
    (entry,) = read(recorded)["domains"]
    assert entry["live_xml"] == "<l/>"
    assert entry["checkpoints"] == [
        {
            "name": "c",
            "xml": "<x/>",
            "bitmaps": {"vda": "missing"},
            "written": [{"disk": "vda", "offset": 0, "length": 65_536, "byte": 1}],
        }
    ]
