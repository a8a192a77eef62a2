"""Single questions to the agent."""

import pytest

from virtbackupd.drivers.errors import ArgumentUnsupported, InternalError, UnsupportedFlags
from virtbackupd.drivers.interface import InterfaceAddresses
from virtbackupd.drivers.memory.domain import MemoryDomain

LEASE, AGENT = 0, 1


async def test_file_systems(guest: MemoryDomain) -> None:
    assert [tuple(system) for system in guest.get_fsinfo(0)] == [
        ("/", "vda", "ext4", ["vda"]),
        ("/mnt/vdb", "vdb", "ext4", ["vdb"]),
    ]


async def test_host_name(guest: MemoryDomain) -> None:
    assert guest.get_hostname(0) == "guest"
    with pytest.raises(UnsupportedFlags):
        guest.get_hostname(4)


async def test_interfaces_have_no_addresses(guest: MemoryDomain) -> None:
    card = InterfaceAddresses("eth0", "52:54:00:00:00:01", [])
    assert guest.interface_addresses(AGENT, 0) == [card]
    assert guest.interface_addresses(LEASE, 0) == []


async def test_an_unknown_source_of_addresses(guest: MemoryDomain) -> None:
    with pytest.raises(ArgumentUnsupported):
        guest.interface_addresses(3, 0)


async def test_nobody_answers_without_an_agent(mute_guest: MemoryDomain) -> None:
    with pytest.raises(ArgumentUnsupported):
        mute_guest.get_fsinfo(0)


async def test_a_frozen_guest_answers_nothing(guest: MemoryDomain) -> None:
    guest.fsfreeze([], 0)
    with pytest.raises(InternalError, match="thaw"):
        guest.get_hostname(0)
