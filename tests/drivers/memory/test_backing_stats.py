"""Block statistics with backing images: their place, names and sizes."""

from virtbackupd.drivers.enums import DomainState, DomainStats
from virtbackupd.drivers.memory import backing_stats, stats
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.image import Image


def figures(guest: MemoryDomain, groups: int = 0) -> dict[str, object]:
    return {param.field: param.value for param in backing_stats.domain_stats(guest, groups)}


def put_below(guest: MemoryDomain) -> Image:
    """Swap vda's image for one on top of it."""
    below = guest.media["vda"]
    assert below is not None
    guest.media["vda"] = Image(below.capacity, path="/images/top.qcow2", backing=below)
    return below


async def test_without_backing_images_the_records_are_the_same(guest: MemoryDomain) -> None:
    usual = stats.domain_stats(guest, DomainStats.BLOCK)
    assert backing_stats.domain_stats(guest, DomainStats.BLOCK) == usual


async def test_no_group_means_all(guest: MemoryDomain) -> None:
    assert figures(guest) == figures(guest, stats.SUPPORTED_GROUPS)


async def test_other_groups_are_not_touched(guest: MemoryDomain) -> None:
    assert figures(guest, DomainStats.STATE) == {
        "state.state": DomainState.RUNNING,
        "state.reason": 1,
    }


async def test_a_backing_image_follows_its_disk(guest: MemoryDomain) -> None:
    below = put_below(guest)
    fields = figures(guest, DomainStats.BLOCK)
    assert fields["block.count"] == 4
    assert (fields["block.1.name"], fields["block.1.path"]) == ("vda", below.path)
    assert fields["block.2.name"] == "vdb"


async def test_a_backing_image_has_sizes_but_no_requests(guest: MemoryDomain) -> None:
    below = put_below(guest)
    fields = figures(guest, DomainStats.BLOCK)
    assert fields["block.1.capacity"] == below.capacity
    assert fields["block.1.allocation"] == fields["block.1.physical"] == below.allocation
    assert "block.1.rd.reqs" not in fields
