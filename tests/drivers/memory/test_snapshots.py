"""Named states: each name once, and a clear word when there is none."""

import pytest

from virtbackupd.drivers.errors import InvalidArgument, OperationFailed
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.host import Host
from virtbackupd.drivers.memory.snapshots import MAX_SNAPSHOTS, Snapshots
from virtbackupd.drivers.memory.world_state import take


async def test_names_are_listed_in_order(host: Host, guest: MemoryDomain) -> None:
    snapshots, state = Snapshots(), take(host)
    for name in ("b", "a"):
        snapshots.add(name, state)
    assert (snapshots.names(), guest.active) == (["b", "a"], True)
    snapshots.drop("b")
    assert snapshots.names() == ["a"]


async def test_a_name_that_is_taken_is_refused(host: Host) -> None:
    snapshots = Snapshots()
    snapshots.add("a", take(host))
    with pytest.raises(OperationFailed, match="'a' already"):
        snapshots.check_new("a")


@pytest.mark.parametrize("name", ["", "x" * 300])
def test_a_name_has_a_length(name: str) -> None:
    with pytest.raises(InvalidArgument, match="1 to 256"):
        Snapshots().check_new(name)


async def test_there_are_not_too_many(host: Host) -> None:
    snapshots, state = Snapshots(), take(host)
    for number in range(MAX_SNAPSHOTS):
        snapshots.add(str(number), state)
    with pytest.raises(OperationFailed, match="1000 snapshots already"):
        snapshots.check_new("one more")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InvalidArgument, match="no snapshot 'x'; known are: none"):
        Snapshots().drop("x")
