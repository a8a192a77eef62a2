"""Which bitmaps of a chain count, from QEMU's answer to one query."""

from typing import Any

import pytest

from virtbackupd.drivers.qemu.bitmaps import Images, layers_with, merged_copy, valid_chain
from virtbackupd.drivers.qemu.block_nodes import DiskNodes, Layer
from virtbackupd.drivers.qemu.image_chain import Image

DISK = DiskNodes("vda", tuple(Layer(n, Image("file", f"/{n}", "qcow2")) for n in (1, 2, 3)))
GOOD = {"recording": True, "persistent": True, "granularity": 65536, "count": 0}


def images(*bitmaps: dict[str, Any] | None) -> Images:
    """Nodes from the active image down, each with the bitmap `c` or none."""
    return Images(
        {
            "node-name": f"libvirt-{number}-format",
            "dirty-bitmaps": [{"granularity": 65536, "count": 0}]
            + ([] if bitmap is None else [{"name": "c"} | bitmap]),
        }
        for number, bitmap in enumerate(bitmaps, 1)
    )


@pytest.mark.parametrize(
    ("found", "length"),
    [
        ((GOOD, None, None), 1),
        ((GOOD, GOOD, None), 2),
        ((GOOD, GOOD, GOOD), 3),
        ((None, GOOD, GOOD), None),
        ((GOOD, None, GOOD), None),
        ((None, None, None), None),
    ],
)
def test_images_with_the_bitmap_are_consecutive_from_the_top(
    found: tuple[dict[str, Any] | None, ...], length: int | None
) -> None:
    chain = valid_chain(images(*found), DISK, "c")
    assert (None if chain is None else len(chain)) == length


@pytest.mark.parametrize(
    "flaw", [{"inconsistent": True}, {"recording": False}, {"persistent": False}]
)
def test_every_bitmap_of_a_chain_is_usable(flaw: dict[str, bool]) -> None:
    assert valid_chain(images(GOOD, GOOD | flaw, None), DISK, "c") is None


def test_a_busy_bitmap_is_usable() -> None:
    assert valid_chain(images(GOOD | {"busy": True}, None, None), DISK, "c") is not None


def test_deletion_finds_every_instance() -> None:
    found = layers_with(images(None, GOOD | {"inconsistent": True}, GOOD), DISK, "c")
    assert [layer.number for layer in found] == [2, 3]


def test_bitmaps_without_a_name_are_passed_over() -> None:
    assert images(None, None, None).all("libvirt-1-format") == []


def test_a_merged_copy_takes_all_of_a_chain() -> None:
    chain = valid_chain(images(GOOD, GOOD, None), DISK, "c") or []
    add, merge = merged_copy("scratch", "temporary", chain)
    assert (add["data"]["disabled"], add["data"]["granularity"]) == (True, 65536)
    assert [source["node"] for source in merge["data"]["bitmaps"]] == [
        "libvirt-1-format", "libvirt-2-format"
    ]  # fmt: skip
