"""Memory and processors: shown, and set in the definition, the running domain, or both."""

import pytest

from virtbackupd.drivers.errors import InvalidArgument, OperationInvalid
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.node import cpu_count

LIVE, CONFIG, MAXIMUM = 1, 2, 4
MIB = 1024


async def test_the_balloon_of_a_running_domain(guest: MemoryDomain) -> None:
    guest.set_memory_flags(256 * MIB, 0)
    assert guest.get_info().memory == 256 * MIB
    assert "<currentMemory unit='KiB'>262144" not in guest.get_xml_desc(2)
    assert dict(guest.memory_stats(0)) == {6: 256 * MIB, 7: 256 * MIB}


async def test_memory_for_good(guest: MemoryDomain) -> None:
    guest.set_memory_flags(256 * MIB, LIVE | CONFIG)
    assert "<currentMemory unit='KiB'>262144" in guest.get_xml_desc(2)


async def test_the_largest_memory_of_the_stored_definition(guest: MemoryDomain) -> None:
    guest.set_memory_flags(1024 * MIB, MAXIMUM | CONFIG)
    assert guest.get_max_memory() == 512 * MIB
    guest.destroy()
    assert guest.get_max_memory() == 1024 * MIB
    guest.set_max_memory(768 * MIB)
    assert guest.get_max_memory() == 768 * MIB


@pytest.mark.parametrize("memory", [0, 513 * MIB])
async def test_memory_that_cannot_be(guest: MemoryDomain, memory: int) -> None:
    with pytest.raises(InvalidArgument):
        guest.set_memory(memory)


async def test_processors(guest: MemoryDomain) -> None:
    guest.set_vcpus(1)
    assert (guest.get_vcpus_flags(LIVE), guest.get_vcpus_flags(CONFIG)) == (1, 2)
    assert [vcpu.number for vcpu in guest.get_vcpus()] == [0]


async def test_the_largest_number_of_processors(guest: MemoryDomain) -> None:
    guest.set_vcpus_flags(4, MAXIMUM | CONFIG)
    assert guest.get_vcpus_flags(MAXIMUM | CONFIG) == 4


@pytest.mark.parametrize("count", [0, 3])
async def test_processors_that_cannot_be(guest: MemoryDomain, count: int) -> None:
    with pytest.raises(InvalidArgument):
        guest.set_vcpus(count)


async def test_maxima_are_fixed_while_running(guest: MemoryDomain) -> None:
    with pytest.raises(OperationInvalid, match="flag CONFIG"):
        guest.set_max_memory(1024 * MIB)
    with pytest.raises(OperationInvalid, match="flag CONFIG"):
        guest.set_vcpus_flags(4, LIVE | MAXIMUM)


async def test_a_transient_domain_stores_nothing(guest: MemoryDomain) -> None:
    guest.undefine()
    with pytest.raises(OperationInvalid, match="transient"):
        guest.set_memory_flags(256 * MIB, CONFIG)


async def test_processor_time(guest: MemoryDomain) -> None:
    (total,) = guest.get_cpu_stats(-1, 0)
    assert [param.field for param in total] == ["cpu_time", "user_time", "system_time"]
    each = guest.get_cpu_stats(0, 0)
    assert len(each) == cpu_count()
    assert [params[0].value for params in each][:2] == [total[0].value, 0][: len(each)]


async def test_a_processor_that_the_host_does_not_have(guest: MemoryDomain) -> None:
    with pytest.raises(InvalidArgument):
        guest.get_cpu_stats(cpu_count(), 0)


async def test_an_inactive_domain_shows_nothing(guest: MemoryDomain) -> None:
    guest.destroy()
    calls = (guest.get_vcpus, guest.get_scheduler_type, lambda: guest.get_control_info(0))
    for call in (*calls, lambda: guest.memory_stats(0), lambda: guest.get_disk_errors(0)):
        with pytest.raises(OperationInvalid):
            call()


async def test_nothing_is_wrong_with_a_running_domain(guest: MemoryDomain) -> None:
    assert guest.get_control_info(0) == (0, 0, 0)
    assert guest.get_disk_errors(0) == []
    assert guest.get_scheduler_type() == ("posix", 0)
