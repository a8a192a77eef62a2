"""How images become nodes: numbers, names and the properties that QEMU is given."""

import pytest

from virtbackupd.drivers.definitions.secret import SecretName
from virtbackupd.drivers.qemu.block_nodes import (
    BlockNodes,
    DiskNodes,
    Layer,
    Options,
    read_layer,
    write_layer,
)
from virtbackupd.drivers.qemu.image_chain import Image

TOP, BASE = Image("file", "/top", "qcow2"), Image("block", "/dev/base", "raw")


def nodes(options: Options = Options()) -> DiskNodes:  # noqa: B008 - frozen
    return DiskNodes("vda", (Layer(1, TOP), Layer(2, BASE)), options)


def test_names_are_libvirts() -> None:
    assert (nodes().node, nodes().storage) == ("libvirt-1-format", "libvirt-1-storage")


def test_an_empty_drive_has_no_nodes() -> None:
    assert (DiskNodes("sda").node, DiskNodes("sda").blockdevs()) == (None, [])


def test_the_base_is_given_first() -> None:
    order = [props["node-name"] for props in nodes().blockdevs()]
    assert order == [
        "libvirt-2-storage", "libvirt-2-format", "libvirt-1-storage", "libvirt-1-format"
    ]  # fmt: skip


def test_only_the_active_image_is_written() -> None:
    top, base = nodes().format_props(0), nodes().format_props(1)
    assert (top["read-only"], base["read-only"]) == (False, True)


def test_a_layer_stands_on_the_next() -> None:
    assert nodes().format_props(0)["backing"] == "libvirt-2-format"
    assert "backing" not in nodes().format_props(1)


def test_devices_have_a_driver_of_their_own() -> None:
    drivers = [layer.storage_props(Options())["driver"] for layer in nodes().layers]
    assert drivers == ["file", "host_device"]


@pytest.mark.parametrize(
    ("mode", "direct", "no_flush"),
    [("none", True, False), ("writeback", False, False), ("unsafe", False, True)],
)
def test_cache_modes(mode: str, direct: bool, no_flush: bool) -> None:
    expected = {"direct": direct, "no-flush": no_flush}
    chain = nodes(Options(cache=mode))
    assert [props["cache"] for props in chain.blockdevs()] == [expected] * 4


def test_discard_is_for_the_active_image() -> None:
    chain = nodes(Options(discard="unmap", detect_zeroes="on"))
    assert chain.format_props(0)["detect-zeroes"] == "on"
    assert "detect-zeroes" not in chain.format_props(1)


def test_numbers_are_never_used_again() -> None:
    known = BlockNodes()
    assert [known.take_number(), known.take_number()] == [1, 2]


@pytest.mark.parametrize(
    "image",
    [
        TOP,
        BASE,
        Image("file", "/a'b", "qcow2", implicit_backing=True),
        Image("file", "/a", "raw", secret=SecretName(uuid="u")),
        Image("file", "/a", "qcow2", secret=SecretName(usage="/a'b")),
    ],
)
def test_a_layer_is_written_and_read(image: Image) -> None:
    assert read_layer(write_layer(Layer(7, image))) == Layer(7, image)
