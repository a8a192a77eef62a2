"""Claiming scratch files and targets: what is created, what is kept, what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from virtbackupd.drivers.definitions.backup import BackupDisk
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.definitions.secret import SecretName
from virtbackupd.drivers.errors import (
    ConfigUnsupported,
    DriverError,
    InvalidArgument,
    OperationFailed,
    Origin,
    SystemFailure,
)
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.running import Source
from virtbackupd.drivers.memory.stores import claim_scratch, claim_target

MIB = 1 << 20
XML = """<domain type='test'><name>d</name><memory>1024</memory><os><type>hvm</type></os><devices>
  <disk type='file'><driver type='qcow2'/><source file='/i/a'/><target dev='vda'/></disk>
</devices></domain>"""


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """vda, to be stored in `tmp_path/store`."""
    entry = BackupDisk("vda", backupmode="full", store_path=str(tmp_path / "store"))
    disk = DomainDefinition.parse(XML).disks[0]
    return Source(entry, disk, Image(MIB, path="/i/a"))


def with_entry(source: Source, **changes: object) -> Source:
    return source._replace(entry=replace(source.entry, **changes))  # type: ignore[arg-type]


def test_scratch_is_for_its_owner_only(source: Source, tmp_path: Path) -> None:
    claim_scratch(source, reuse=False)
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o600


def test_discarded_scratch_is_removed(source: Source, tmp_path: Path) -> None:
    claim_scratch(source, reuse=False).discard()
    assert not (tmp_path / "store").exists()


def test_reused_scratch_is_left_alone(source: Source, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("mine")
    claim_scratch(source, reuse=True).discard()
    assert (tmp_path / "store").read_text() == "mine"


def test_an_encrypted_target_is_refused(source: Source, tmp_path: Path) -> None:
    with pytest.raises(ConfigUnsupported, match="vda cannot be encrypted"):
        claim_target(with_entry(source, secret=SecretName(usage="u")), reuse=False)
    assert not (tmp_path / "store").exists()


def test_block_scratch_must_be_there(source: Source) -> None:
    with pytest.raises(SystemFailure) as caught:
        claim_scratch(with_entry(source, type="block"), reuse=False)
    assert caught.value.origin is Origin.SECURITY


@pytest.mark.parametrize("driver", ["qcow2", "raw"])
def test_discarded_target_is_removed(source: Source, tmp_path: Path, driver: str) -> None:
    claim_target(with_entry(source, driver_type=driver), reuse=False).discard()
    assert not (tmp_path / "store").exists()


def test_target_in_the_way(source: Source, tmp_path: Path) -> None:
    (tmp_path / "store").touch()
    with pytest.raises(InvalidArgument, match="REUSE_EXTERNAL"):
        claim_target(source, reuse=False)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"driver_type": "vmdk"}, OperationFailed),
        ({"store_path": "/nowhere/store"}, SystemFailure),
        ({"store_path": "/nowhere/store", "type": "block"}, SystemFailure),
    ],
)
def test_targets_that_are_refused(
    source: Source, changes: dict[str, object], kind: type[DriverError]
) -> None:
    with pytest.raises(kind):
        claim_target(with_entry(source, **changes), reuse=False)


def test_prepared_target_of_another_size(source: Source, tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(bytes(512))
    with pytest.raises(OperationFailed, match="512"):
        claim_target(with_entry(source, driver_type="raw"), reuse=True)


def test_block_target_is_formatted_and_kept(source: Source, tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(bytes(MIB))
    store = claim_target(with_entry(source, type="block"), reuse=False)
    store.discard()
    assert (tmp_path / "store").exists()
