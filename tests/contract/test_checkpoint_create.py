"""Creating checkpoints: what they cover, what they are called, and what is refused."""

import pytest
from contract import Subject, ask, refused

from virtbackupd.drivers.errors import (
    ConfigUnsupported,
    DriverError,
    InternalError,
    OperationFailed,
    OperationUnsupported,
    Origin,
    UnsupportedFlags,
    XmlDetail,
    XmlError,
    XmlInvalidSchema,
)

REDEFINE, QUIESCE, VALIDATE = 1, 2, 4
SECURE, NO_DOMAIN, SIZE = 1, 2, 4


def listed(disks: str) -> str:
    return f"<disks>{disks}</disks>"


async def test_name_is_returned(subject: Subject) -> None:
    assert await subject.checkpoint("c1") == "c1"


async def test_default_name_is_the_creation_time(subject: Subject) -> None:
    name = await ask(subject.domain.checkpoint_create_xml("<domaincheckpoint/>", 0))
    assert f"<creationTime>{name}</creationTime>" in await subject.dump(name)


async def test_default_set_leaves_out_the_empty_drive(subject: Subject) -> None:
    await subject.checkpoint("c1")
    text = await subject.dump("c1")
    assert "<disk name='vda' checkpoint='bitmap' bitmap='c1'/>" in text
    assert "<disk name='sda' checkpoint='no'/>" in text


async def test_listed_disks_leave_out_the_others(subject: Subject) -> None:
    await subject.checkpoint("c1", listed("<disk name='vda'/>"))
    assert "<disk name='vdb' checkpoint='no'/>" in await subject.dump("c1")


async def test_description_is_kept(subject: Subject) -> None:
    await subject.checkpoint("c1", "<description>before &lt;upgrade&gt;</description>")
    assert "<description>before &lt;upgrade&gt;</description>" in await subject.dump("c1")


async def test_next_one_has_the_current_as_parent(subject: Subject) -> None:
    await subject.checkpoint("c1")
    await subject.checkpoint("c2", "<parent><name>ignored</name></parent>")
    assert await ask(subject.domain.checkpoint_get_parent("c2", 0)) == "c1"


async def test_domain_is_embedded_unless_unwanted(subject: Subject) -> None:
    await subject.checkpoint("c1")
    assert "<domain type=" in await subject.dump("c1")
    assert "<domain type=" not in await subject.dump("c1", NO_DOMAIN)


async def test_no_event_is_published(subject: Subject) -> None:
    await subject.checkpoint("c1")
    assert subject.events == []


async def test_paused_domain_counts_as_running(subject: Subject) -> None:
    await ask(subject.domain.suspend())
    assert await subject.checkpoint("c1") == "c1"


async def test_size_is_counted_when_asked(subject: Subject) -> None:
    await subject.checkpoint("c1")
    await subject.write("vda", "0 64k")
    assert "size='65536'" in await subject.dump("c1", SIZE)
    await subject.write("vda", "1M 64k")
    assert "size='131072'" in await subject.dump("c1", SIZE)


async def test_size_is_not_stored(subject: Subject) -> None:
    await subject.checkpoint("c1")
    await subject.dump("c1", SIZE)
    assert "size=" not in await subject.dump("c1")


async def test_older_checkpoints_go_on_recording(subject: Subject) -> None:
    await subject.checkpoint("c1")
    await subject.write("vda", "0 64k")
    await subject.checkpoint("c2")
    await subject.write("vda", "1M 64k")
    assert "size='131072'" in await subject.dump("c1", SIZE)
    assert "size='65536'" in await subject.dump("c2", SIZE)


async def test_inactive_domain_is_refused(subject: Subject) -> None:
    await ask(subject.domain.destroy())
    await refused(OperationUnsupported, lambda: subject.checkpoint("c1"), Origin.DRIVER)


async def test_size_of_inactive_domain_is_refused(subject: Subject) -> None:
    await subject.checkpoint("c1")
    await ask(subject.domain.destroy())
    with pytest.raises(DriverError):
        await subject.dump("c1", SIZE)


async def test_name_in_use_is_refused(subject: Subject) -> None:
    await subject.checkpoint("c1")
    await refused(OperationFailed, lambda: subject.checkpoint("c1"), Origin.DOMAIN)


async def test_orphaned_bitmap_is_refused_and_nothing_remains(subject: Subject) -> None:
    await subject.checkpoint("c1", listed("<disk name='vdb'/>"))
    await subject.delete("c1", 2)
    await refused(InternalError, lambda: subject.checkpoint("c1"), Origin.DRIVER)
    assert await subject.names() == []
    assert await subject.checkpoint("c1", listed("<disk name='vda'/>")) == "c1"


@pytest.mark.parametrize(
    ("flags", "origin"),
    [
        (QUIESCE, Origin.DRIVER),
        (64, Origin.DRIVER),
        (REDEFINE | QUIESCE, Origin.DOMAIN_CHECKPOINT),
        (VALIDATE, Origin.DOMAIN_CHECKPOINT),
    ],
)
async def test_flags_are_refused(subject: Subject, flags: int, origin: Origin) -> None:
    await refused(UnsupportedFlags, lambda: subject.checkpoint("c1", flags=flags), origin)


@pytest.mark.parametrize(
    ("xml", "kind", "origin"),
    [
        ("<domaincheckpoint>", XmlDetail, Origin.DOMAIN_CHECKPOINT),
        ("<domain/>", XmlError, Origin.XML),
        ("<domaincheckpoint><name>a/b</name></domaincheckpoint>", XmlInvalidSchema, Origin.XML),
        ("<domaincheckpoint><disks/></domaincheckpoint>", XmlInvalidSchema, Origin.XML),
    ],
)
async def test_documents_are_refused(
    subject: Subject, xml: str, kind: type[DriverError], origin: Origin
) -> None:
    await refused(kind, lambda: subject.domain.checkpoint_create_xml(xml, 0), origin)


@pytest.mark.parametrize(
    ("disks", "origin"),
    [
        ("<disk name='vdz'/>", Origin.DOMAIN_CHECKPOINT),
        ("<disk name='sda'/>", Origin.DOMAIN_CHECKPOINT),
        ("<disk name='vda'/><disk name='vda'/>", Origin.DOMAIN_CHECKPOINT),
        ("<disk name='vda' bitmap='other'/>", Origin.DRIVER),
        ("<disk name='vda' bitmap=''/>", Origin.DRIVER),
    ],
)
async def test_disks_are_refused(subject: Subject, disks: str, origin: Origin) -> None:
    await refused(ConfigUnsupported, lambda: subject.checkpoint("c1", listed(disks)), origin)
