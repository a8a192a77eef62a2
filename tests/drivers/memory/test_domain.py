"""What a domain in memory says about itself."""

import pytest

from virtbackupd.drivers.errors import OperationInvalid, UnsupportedFlags
from virtbackupd.drivers.memory.domain import MemoryDomain

SECURE, INACTIVE = 1, 2
LIVE, CONFIG, MAXIMUM = 1, 2, 4
POSTCOPY = 1


async def test_live_xml_has_the_id(guest: MemoryDomain) -> None:
    assert f"id='{guest.ref.id}'" in guest.get_xml_desc(0)
    assert " id='" not in guest.get_xml_desc(INACTIVE).partition("\n")[0]


async def test_inactive_domain_has_no_id(guest: MemoryDomain) -> None:
    guest.destroy()
    assert " id='" not in guest.get_xml_desc(0).partition("\n")[0]


async def test_info(guest: MemoryDomain) -> None:
    info = guest.get_info()
    assert info[:4] == (1, 524288, 524288, 2)
    assert guest.get_os_type() == "hvm"
    assert guest.get_max_memory() == 524288


async def test_vcpus(guest: MemoryDomain) -> None:
    assert guest.get_max_vcpus() == guest.get_vcpus_flags(CONFIG) == 2


async def test_live_vcpus_need_a_running_domain(guest: MemoryDomain) -> None:
    guest.destroy()
    assert guest.get_vcpus_flags(CONFIG | MAXIMUM) == 2
    with pytest.raises(OperationInvalid):
        guest.get_vcpus_flags(LIVE)


async def test_transient_domain_is_not_autostarted(guest: MemoryDomain) -> None:
    guest.undefine()
    with pytest.raises(OperationInvalid):
        guest.set_autostart(1)


async def test_no_messages(guest: MemoryDomain) -> None:
    assert guest.get_messages(0) == []


async def test_abort_of_a_post_copy(guest: MemoryDomain) -> None:
    with pytest.raises(OperationInvalid):
        guest.abort_job_flags(POSTCOPY)


@pytest.mark.parametrize("call", ["get_xml_desc", "get_state", "abort_job_flags", "get_messages"])
async def test_unknown_flags(guest: MemoryDomain, call: str) -> None:
    with pytest.raises(UnsupportedFlags):
        getattr(guest, call)(1 << 20)


async def test_image_by_target_and_by_path(guest: MemoryDomain) -> None:
    assert guest.disk_image("vda") is guest.disk_image("/images/vda.qcow2") is not None


async def test_no_image_in_an_empty_drive(guest: MemoryDomain) -> None:
    assert guest.disk_image("sda") is None
    assert guest.disk_image("vdz") is None


async def test_image_of_an_inactive_domain(guest: MemoryDomain) -> None:
    image = guest.disk_image("vda")
    guest.destroy()
    assert guest.disk_image("vda") is image
