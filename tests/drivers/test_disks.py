"""Which disk is meant, and what it has counted."""

from types import SimpleNamespace

import pytest

from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.disks import (
    block_stats,
    block_stats_params,
    place_of,
    require_disk,
)
from virtbackupd.drivers.errors import InvalidArgument

COUNTED = SimpleNamespace(
    read_requests=1, read_bytes=512, write_requests=2, write_bytes=1024, flush_requests=3
)


@pytest.fixture
def definition() -> DomainDefinition:
    return DomainDefinition.parse("""<domain type='test'><name>vm</name><memory>1024</memory>
<os><type>hvm</type></os><devices>
<disk type='file'><source file='/images/a'/><target dev='vda'/></disk>
<disk type='file'><target dev='vdb'/></disk></devices></domain>""")


@pytest.mark.parametrize("name", ["vda", "/images/a"])
def test_disk_is_known_by_target_and_source(definition: DomainDefinition, name: str) -> None:
    assert require_disk(definition, name).target == "vda"


def test_unknown_disk_is_refused_with_those_there_are(definition: DomainDefinition) -> None:
    with pytest.raises(InvalidArgument, match="domain vm has no disk 'vdz'; its disks: vda, vdb"):
        require_disk(definition, "vdz")


@pytest.mark.parametrize(("letters", "place"), [("a", 0), ("z", 25), ("aa", 26), ("ba", 52)])
def test_letters_count_on_after_z(letters: str, place: int) -> None:
    assert place_of(letters) == place


def test_counters_in_the_old_form() -> None:
    assert block_stats(COUNTED) == (1, 512, 2, 1024, -1)


def test_counters_by_name() -> None:
    found = {name: value for name, _, value in block_stats_params(COUNTED, read_times=7)}
    assert (found["rd_operations"], found["wr_bytes"], found["flush_operations"]) == (1, 1024, 3)
    assert (found["rd_total_times"], found["wr_total_times"]) == (7, 0)
