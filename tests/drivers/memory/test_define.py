"""Defining and creating domains in memory, beyond what the contract asks."""

import pytest

from virtbackupd.drivers.enums import DomainState
from virtbackupd.drivers.errors import NoName, OperationInvalid, UnsupportedFlags
from virtbackupd.drivers.events import Event
from virtbackupd.drivers.memory.define import adopt, create_transient, define
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.host import Host

XML = "<domain type='test'><name>new</name><memory>1024</memory><os><type>hvm</type></os></domain>"
VALIDATE, PAUSED = 1, 1


async def test_define(host: Host) -> None:
    domain = define(host, XML, VALIDATE)
    assert host.domains.by_name("new") is domain
    assert not domain.active


async def test_define_makes_a_transient_domain_persistent(host: Host) -> None:
    domain = await create_transient(host, XML, 0)
    assert define(host, domain.get_xml_desc(0), 0) is domain
    assert domain.is_persistent() == 1


async def test_create_paused(host: Host) -> None:
    assert (await create_transient(host, XML, PAUSED)).state == DomainState.PAUSED


async def test_create_of_a_running_domain(guest: MemoryDomain, host: Host) -> None:
    with pytest.raises(OperationInvalid):
        await create_transient(host, guest.get_xml_desc(0), 0)


async def test_create_keeps_a_defined_domain(host: Host) -> None:
    domain = define(host, XML, 0)
    assert await create_transient(host, domain.get_xml_desc(0), 0) is domain
    domain.destroy()
    assert host.domains.by_name("new") is domain


async def test_unknown_flags(host: Host) -> None:
    with pytest.raises(UnsupportedFlags):
        define(host, XML, 2)
    with pytest.raises(UnsupportedFlags):
        await create_transient(host, XML, 1 << 20)


async def test_refused_document_leaves_nothing(host: Host) -> None:
    with pytest.raises(NoName):
        define(host, XML.replace("<name>new</name>", ""), 0)
    assert len(host.domains) == 0


@pytest.mark.parametrize("state", [DomainState.RUNNING, DomainState.PAUSED, DomainState.SHUTOFF])
async def test_adopted_state(host: Host, state: DomainState) -> None:
    domain = define(host, XML, 0)
    domain.undefine()
    assert domain.persistent is None
    again = define(host, XML, 0).persistent
    assert again is not None
    host.domains.remove(host.domains.by_name("new"))
    assert adopt(host, again, state).state == state


async def test_defining_is_told(host: Host, events: list[Event]) -> None:
    domain = define(host, XML, 0)
    domain.undefine()
    assert len(events) == 2
