"""Disks that a domain may start without."""

from pathlib import Path

import pytest

from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.errors import SystemFailure
from virtbackupd.drivers.qemu.driver import QemuDriver
from virtbackupd.drivers.qemu.startup_policy import without_missing

XML = """<domain type='qemu'><name>a</name><memory unit='MiB'>32</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>
<disk type='file' device='{device}'><source file='{path}' startupPolicy='{policy}'/>
<target dev='sda' bus='sata'/></disk></devices></domain>"""


def sources(
    path: Path, policy: str, device: str = "cdrom", *, restored: bool = False
) -> list[str | None]:
    """What is left of the one disk."""
    definition = DomainDefinition.parse(XML.format(path=path, policy=policy, device=device))
    return [disk.source for disk in without_missing(definition, restored=restored).disks]


def test_a_drive_is_left_empty(tmp_path: Path) -> None:
    assert sources(tmp_path / "gone", "optional") == [None]


def test_any_other_disk_is_left_out(tmp_path: Path) -> None:
    assert sources(tmp_path / "gone", "optional", "disk") == []


def test_what_cannot_be_looked_for_is_not_there(tmp_path: Path) -> None:
    assert sources(tmp_path / ("x" * 300), "optional") == [None]


def test_an_image_that_is_there_stays(tmp_path: Path) -> None:
    assert sources(tmp_path, "optional") == [str(tmp_path)]


@pytest.mark.parametrize("policy", ["mandatory", "requisite"])
def test_others_must_be_there_at_the_start(tmp_path: Path, policy: str) -> None:
    assert sources(tmp_path / "gone", policy) == [str(tmp_path / "gone")]


def test_a_requisite_may_be_gone_when_a_saved_machine_goes_on(tmp_path: Path) -> None:
    assert sources(tmp_path / "gone", "requisite", restored=True) == [None]


async def test_the_next_start_looks_for_it_again(qemu: QemuDriver, tmp_path: Path) -> None:
    path = tmp_path / "gone"
    xml = XML.format(path=path, policy="optional", device="cdrom")
    domain = qemu.domain_by_uuid((await qemu.domain_define_xml(xml)).uuid)
    await domain.create()
    assert domain.definition.disks[0].source is None
    assert domain.persistent is not None
    assert domain.persistent.disks[0].source == str(path)


async def test_a_medium_that_must_be_there_is_named(qemu: QemuDriver, tmp_path: Path) -> None:
    xml = XML.format(path=tmp_path / "gone", policy="mandatory", device="cdrom")
    domain = qemu.domain_by_uuid((await qemu.domain_define_xml(xml)).uuid)
    with pytest.raises(SystemFailure, match="gone: No such file"):
        await domain.create()
    assert not domain.active
