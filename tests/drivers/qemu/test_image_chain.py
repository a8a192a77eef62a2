"""Chains of images as definitions and headers tell of them; no QEMU runs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from virtbackupd.drivers.definitions.disk import DiskDefinition
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.definitions.secret import SecretName
from virtbackupd.drivers.errors import ConfigUnsupported, InternalError, SystemFailure
from virtbackupd.drivers.qemu.image_chain import Image, read_chain

Make = Callable[..., str]


def disk(source: str, kind: str = "qcow2", type_: str = "file") -> DiskDefinition:
    xml = (
        "<domain type='qemu'><name>a</name><memory>1</memory><os><type>hvm</type></os><devices>"
        f"<disk type='{type_}'><driver name='qemu' type='{kind}'/>{source}<target dev='vda'/>"
        "</disk></devices></domain>"
    )
    return DomainDefinition.parse(xml).disks[0]


def on_file(path: str, kind: str = "qcow2") -> DiskDefinition:
    return disk(f"<source file='{path}'/>", kind)


def test_an_empty_drive_has_no_images() -> None:
    assert read_chain(disk("")) == []


def test_a_single_image(make_image: Make) -> None:
    path = make_image("a")
    assert read_chain(on_file(path)) == [Image("file", path, "qcow2")]


def test_headers_tell_what_is_below(make_image: Make) -> None:
    base = make_image("a")
    top = make_image("b", "-F", "qcow2", "-b", "a")
    assert [image.path for image in read_chain(on_file(top))] == [top, base]


def test_a_raw_image_has_nothing_below(make_image: Make) -> None:
    path = make_image("a", format="raw")
    assert read_chain(on_file(path, "raw")) == [Image("file", path, "raw")]


def with_base(top: str, base: str) -> DiskDefinition:
    store = f"<format type='raw'/><source file='{base}'/><backingStore/>"
    return disk(f"<source file='{top}'/><backingStore type='file'>{store}</backingStore>")


def test_the_definition_comes_first(make_image: Make) -> None:
    top, base = make_image("a"), make_image("b", format="raw")
    chain = read_chain(with_base(top, base))
    assert [(image.path, image.format) for image in chain] == [(top, "qcow2"), (base, "raw")]


def test_the_definition_can_end_a_chain(make_image: Make) -> None:
    make_image("a")
    top = make_image("b", "-F", "qcow2", "-b", "a")
    assert len(read_chain(disk(f"<source file='{top}'/><backingStore/>"))) == 1


def test_what_is_not_local_is_left_to_qemu(make_image: Make) -> None:
    top = make_image("b", "-u", "-F", "raw", "-b", "nbd://localhost:1/x")
    assert [image.implicit_backing for image in read_chain(on_file(top))] == [True]


def test_a_ring_is_refused(make_image: Make) -> None:
    make_image("a", "-u", "-F", "qcow2", "-b", "b")
    top = make_image("b", "-u", "-F", "qcow2", "-b", "a")
    with pytest.raises(InternalError, match="ring"):
        read_chain(on_file(top))


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure, match="gone"):
        read_chain(on_file(str(tmp_path / "gone")))


def test_a_missing_raw_image_is_named_too(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure, match="gone"):
        read_chain(on_file(str(tmp_path / "gone"), "raw"))


def test_a_missing_image_that_the_definition_puts_below_is_named(
    make_image: Make, tmp_path: Path
) -> None:
    with pytest.raises(SystemFailure, match="gone"):
        read_chain(with_base(make_image("a"), str(tmp_path / "gone")))


def luks(attribute: str) -> str:
    secret = f"<secret type='passphrase' {attribute}='it'/>"
    return f"<encryption format='luks'>{secret}</encryption>"


def test_each_image_has_the_secret_that_the_definition_gives_it(make_image: Make) -> None:
    top, base = make_image("a"), make_image("b", format="raw")
    source = f"<source file='{top}'>{luks('usage')}</source>"
    below = f"<source file='{base}'>{luks('uuid')}</source><backingStore/>"
    chain = read_chain(disk(
        f"{source}<backingStore type='file'><format type='raw'/>{below}</backingStore>"
    ))  # fmt: skip
    assert [image.secret for image in chain] == [SecretName(usage="it"), SecretName("it")]
    assert [image.driver for image in chain] == ["qcow2", "luks"]


def test_network_sources_are_refused() -> None:
    source = "<source protocol='nbd' name='x'><host name='h'/></source>"
    with pytest.raises(ConfigUnsupported, match="network"):
        read_chain(disk(source, type_="network"))
