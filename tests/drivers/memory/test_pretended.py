"""What a domain of an older release refuses, and that newer ones do not."""

import pytest
import trio

from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.enums import CheckpointCreate, DomainState
from virtbackupd.drivers.errors import OperationUnsupported, XmlError, XmlInvalidSchema
from virtbackupd.drivers.memory.define import adopt, define
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.host import Host
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.pretended import check_backup
from virtbackupd.drivers.memory.qmp import run
from virtbackupd.drivers.profiles import PROFILES

REDEFINE = int(CheckpointCreate.REDEFINE)
ASK = """<qemu:capabilities xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<qemu:add capability='{}'/></qemu:capabilities>"""
XML = """<domain type='test'><name>d</name><memory>1024</memory><os><type>hvm</type></os>
<devices><disk type='file'><driver type='qcow2'/><source file='/i/a'/><target dev='vda'/></disk>
</devices>{}</domain>"""
BARE = """<domaincheckpoint><name>c</name><creationTime>1</creationTime>
<disks><disk name='vda' checkpoint='bitmap'/></disks></domaincheckpoint>"""


def make(
    nursery: trio.Nursery, profile: str, asked: str = "", state: DomainState = DomainState.RUNNING
) -> MemoryDomain:
    host = Host(nursery, profile=PROFILES[profile])
    host.images.add(Image(1 << 20, path="/i/a"))
    extra = ASK.format(asked) if asked else ""
    return adopt(host, DomainDefinition.parse(XML.format(extra)), state)


async def test_checkpoints_before_7_6_have_to_be_asked_for(nursery: trio.Nursery) -> None:
    with pytest.raises(OperationUnsupported, match="incremental-backup"):
        make(nursery, "6.0").checkpoint_create_xml("<domaincheckpoint/>", 0)


async def test_asking_for_something_else_does_not_help(nursery: trio.Nursery) -> None:
    with pytest.raises(OperationUnsupported):
        make(nursery, "6.0", "blockdev").checkpoint_create_xml("<domaincheckpoint/>", 0)


@pytest.mark.parametrize(("profile", "asked"), [("6.0", "incremental-backup"), ("7.6", "")])
async def test_checkpoints_that_are_made(nursery: trio.Nursery, profile: str, asked: str) -> None:
    domain = make(nursery, profile, asked)
    name = domain.checkpoint_create_xml("<domaincheckpoint/>", 0)
    assert domain.list_all_checkpoints(0) == [name]


async def test_an_inactive_domain_is_told_so_first(nursery: trio.Nursery) -> None:
    domain = make(nursery, "6.0", state=DomainState.SHUTOFF)
    with pytest.raises(OperationUnsupported, match="not running"):
        domain.checkpoint_create_xml("<domaincheckpoint/>", 0)


async def test_redefining_before_7_0_needs_the_domain(nursery: trio.Nursery) -> None:
    domain = make(nursery, "6.0", "incremental-backup")
    with pytest.raises(XmlError, match="<domain>"):
        domain.checkpoint_create_xml(BARE, REDEFINE)
    whole = BARE.replace("</domaincheckpoint>", domain.get_xml_desc(0) + "</domaincheckpoint>")
    assert domain.checkpoint_create_xml(whole, REDEFINE) == "c"


async def test_redefining_later_does_not(nursery: trio.Nursery) -> None:
    domain = make(nursery, "7.6", state=DomainState.SHUTOFF)
    assert domain.checkpoint_create_xml(BARE, REDEFINE) == "c"


@pytest.mark.parametrize("disk", ["<disk name='vda'/>", "<disk name='vda' backup='yes'/>"])
async def test_a_push_needs_types_before_11_3(nursery: trio.Nursery, disk: str) -> None:
    with pytest.raises(XmlInvalidSchema, match="needs a type"):
        await make(nursery, "9.0").backup_begin(
            f"<domainbackup><disks>{disk}</disks></domainbackup>", None, 0
        )


async def test_what_needs_no_type(nursery: trio.Nursery) -> None:
    domain = make(nursery, "9.0")
    for inside in ("", "<disks><disk name='vdb' backup='no'/></disks>"):
        check_backup(domain, f"<domainbackup>{inside}</domainbackup>")


async def test_a_pull_needs_no_type(nursery: trio.Nursery) -> None:
    disks = "<disks><disk name='vda'/></disks>"
    check_backup(make(nursery, "9.0"), f"<domainbackup mode='pull'>{disks}</domainbackup>")


@pytest.mark.parametrize(("profile", "kept"), [("9.0", False), ("11.10", True)])
async def test_a_data_store_is_unknown_before_10_10(
    nursery: trio.Nursery, profile: str, *, kept: bool
) -> None:
    store = "<dataStore type='file'><format type='raw'/><source file='/i/raw'/></dataStore>"
    disk = f"<source file='/i/a'>{store}</source>"
    xml = XML.format("").replace("<source file='/i/a'/>", disk)
    domain = define(Host(nursery, profile=PROFILES[profile]), xml, 0)
    assert ("<dataStore" in domain.get_xml_desc(0)) == kept


@pytest.mark.parametrize(("profile", "version"), [("6.0", '"major": 4'), ("newest", '"major": 10')])
async def test_the_monitor_tells_the_qemu_of_the_time(
    nursery: trio.Nursery, profile: str, version: str
) -> None:
    answer = run(make(nursery, profile), '{"execute": "query-version"}', lambda *_: "")
    assert isinstance(answer, str)
    assert version in answer
