"""Beginning a backup: what is filled in, what is refused, and that a refusal leaves no trace."""

import re
from pathlib import Path
from uuid import UUID

import pytest
from contract import Subject, ask, push_xml, refused

from virtbackupd.drivers.errors import (
    CheckpointInconsistent,
    ConfigUnsupported,
    DriverError,
    InternalError,
    InvalidArgument,
    NoDomainBackup,
    NoDomainCheckpoint,
    NoSecret,
    OperationFailed,
    OperationTimeout,
    OperationUnsupported,
    Origin,
    SystemFailure,
    UnsupportedFlags,
    XmlDetail,
    XmlError,
    XmlInvalidSchema,
)

REUSE_EXTERNAL = 1
SERVER = "<server transport='unix' socket='/nowhere/nbd'/>"
SCRATCH = "<disk name='vda'><scratch file='{}'/></disk>"


def files(subject: Subject) -> set[Path]:
    return {path for path in subject.folder.rglob("*") if not path.is_dir()}


async def test_default_set_leaves_out_the_empty_drive(subject: Subject) -> None:
    await subject.pull()
    text = await subject.backup_dump()
    assert "<disk name='vdb' backup='yes' type='file' backupmode='full' exportname='vdb'" in text
    assert "<disk name='sda' backup='no'/>" in text


async def test_generated_files_end_in_the_checkpoint_name(subject: Subject) -> None:
    await subject.pull(new="c1")
    assert re.search(r"<scratch file='[^']*vda[^']*\.c1'/>", await subject.backup_dump())


async def test_modes_and_names_are_written_back(subject: Subject) -> None:
    await subject.checkpoint("c1")
    disks = "<disk name='vda' exportbitmap='changes'/><disk name='vdb' backupmode='full'/>"
    await subject.pull(disks, since="c1")
    text = await subject.backup_dump()
    assert (
        "backupmode='incremental' incremental='c1' exportname='vda' exportbitmap='changes'" in text
    )
    assert "<disk name='vdb' backup='yes' type='file' backupmode='full' exportname='vdb'" in text


async def test_index_follows_the_export(subject: Subject) -> None:
    await subject.pull("<disk name='vda'/>")
    assert re.search(r"exportname='vda' index='[1-9][0-9]*'>", await subject.backup_dump())


async def test_new_checkpoint_is_entered(subject: Subject) -> None:
    await subject.pull(new="c1")
    assert await subject.names() == ["c1"]


async def test_no_backup_to_show(subject: Subject) -> None:
    await refused(NoDomainBackup, subject.backup_dump, Origin.DRIVER)


async def test_inactive_domain_is_refused(subject: Subject) -> None:
    await ask(subject.domain.destroy())
    await refused(OperationUnsupported, subject.pull, Origin.DRIVER)


async def test_unknown_flag_is_refused(subject: Subject) -> None:
    call = lambda: subject.begin("<domainbackup/>", flags=64)  # noqa: E731
    await refused(UnsupportedFlags, call, Origin.DRIVER)


@pytest.mark.parametrize(
    ("xml", "kind", "origin"),
    [
        ("<domainbackup>", XmlDetail, None),
        ("<domain/>", XmlError, Origin.XML),
        ("<domainbackup mode='pull'/>", XmlInvalidSchema, Origin.XML),
        (f"<domainbackup>{SERVER}</domainbackup>", XmlInvalidSchema, Origin.XML),
    ],
)
async def test_documents_are_refused(
    subject: Subject, xml: str, kind: type[DriverError], origin: Origin | None
) -> None:
    await refused(kind, lambda: subject.begin(xml), origin)


async def test_an_empty_checkpoint_document_is_not_none_at_all(subject: Subject) -> None:
    call = subject.domain.backup_begin
    await refused(XmlDetail, lambda: call("<domainbackup/>", "", 0), Origin.DOMAIN_CHECKPOINT)


@pytest.mark.parametrize(
    ("disks", "origin"),
    [
        ("<disk name='vdz'/>", Origin.DOMAIN),
        ("<disk name='sda'/>", Origin.DOMAIN),
        ("<disk name='vda'/><disk name='vda'/>", Origin.DOMAIN),
        ("<disk name='vda' backupmode='incremental'/>", Origin.DOMAIN),
        ("<disk name='vda' backup='no'/>", Origin.DRIVER),
    ],
)
async def test_disks_are_refused(subject: Subject, disks: str, origin: Origin) -> None:
    await refused(ConfigUnsupported, lambda: subject.pull(disks), origin)


async def test_tcp_needs_a_port(subject: Subject) -> None:
    xml = "<domainbackup mode='pull'><server name='localhost'/></domainbackup>"
    await refused(OperationUnsupported, lambda: subject.begin(xml), Origin.DRIVER)


async def test_unknown_start_is_refused(subject: Subject) -> None:
    await refused(NoDomainCheckpoint, lambda: subject.pull(since="none"), Origin.DRIVER)


async def test_disk_outside_the_checkpoint_is_refused(subject: Subject) -> None:
    await subject.checkpoint("c1", "<disks><disk name='vda'/></disks>")
    call = lambda: subject.pull("<disk name='vdb'/>", since="c1")  # noqa: E731
    await refused(CheckpointInconsistent, call, Origin.DRIVER)


async def test_second_backup_is_refused_while_one_runs(subject: Subject) -> None:
    await subject.pull()
    error = await refused(OperationTimeout, subject.pull)
    assert "virDomainBackupBegin" in error.message


async def test_backup_can_follow_an_abort_at_once(subject: Subject) -> None:
    await subject.pull()
    await subject.abort()
    await subject.pull()
    assert "mode='pull'" in await subject.backup_dump()


async def leaves_no_trace(subject: Subject, kind: type[DriverError], xml: str) -> None:
    """Refuse a begin with a checkpoint, and find everything as before."""
    before = files(subject)
    await refused(kind, lambda: subject.begin(xml, "new"), Origin.DRIVER)
    assert files(subject) == before
    assert await subject.names() == []
    assert (await subject.stats()).type == 0
    assert (await subject.stats(1)).type == 0
    assert subject.events == []
    await subject.pull(new="new")


async def test_existing_scratch(subject: Subject) -> None:
    scratch = subject.folder / "scratch"
    scratch.touch()
    xml = subject.pull_xml("<disk name='vdb'/>" + SCRATCH.format(scratch))
    await leaves_no_trace(subject, InvalidArgument, xml)


async def test_missing_folder_of_scratch(subject: Subject) -> None:
    xml = subject.pull_xml("<disk name='vdb'/>" + SCRATCH.format("/nowhere/scratch"))
    await leaves_no_trace(subject, SystemFailure, xml)


async def test_unusable_socket(subject: Subject) -> None:
    await leaves_no_trace(
        subject, InternalError, f"<domainbackup mode='pull'>{SERVER}</domainbackup>"
    )


async def test_two_exports_of_one_name(subject: Subject) -> None:
    xml = subject.pull_xml("<disk name='vda'/><disk name='vdb' exportname='vda'/>")
    await leaves_no_trace(subject, InternalError, xml)


async def test_an_export_name_that_no_client_could_send_is_refused(subject: Subject) -> None:
    xml = subject.pull_xml(f"<disk name='vda' exportname='{'e' * 4097}'/>")
    await leaves_no_trace(subject, InternalError, xml)


@pytest.mark.parametrize("length", [0, 1024])
async def test_an_export_bitmap_that_cannot_be_made(subject: Subject, length: int) -> None:
    await subject.checkpoint()
    name = "b" * length
    xml = subject.pull_xml(f"<disk name='vda' exportbitmap='{name}'/>", since="c1")
    await refused(InternalError, lambda: subject.domain.backup_begin(xml, None, 0))


async def test_an_empty_export_name(subject: Subject) -> None:
    await subject.pull("<disk name='vda' exportname=''/>")
    assert "exportname=''" in await subject.backup_dump()


@pytest.mark.parametrize("secret", [f"uuid='{UUID(int=7)}'", "usage='nowhere'"])
@pytest.mark.parametrize("pull", [True, False])
async def test_a_store_with_an_unknown_secret(subject: Subject, secret: str, *, pull: bool) -> None:
    luks = f"<encryption format='luks'><secret type='passphrase' {secret}/></encryption>"
    tag, path = ("scratch" if pull else "target"), subject.folder / "store"
    disk = f"<disk name='vda' type='file'><{tag} file='{path}'>{luks}</{tag}></disk>"
    document = f"<domainbackup><disks>{disk}</disks></domainbackup>"
    xml = subject.pull_xml(disk) if pull else document
    await refused(NoSecret, lambda: subject.domain.backup_begin(xml, None, 0), Origin.SECRET)
    assert not path.exists()


async def test_existing_target(subject: Subject) -> None:
    target = subject.folder / "target"
    target.touch()
    await leaves_no_trace(subject, InvalidArgument, push_xml(target))


async def test_unwritable_format(subject: Subject) -> None:
    await leaves_no_trace(
        subject, OperationFailed, push_xml(subject.folder / "target", driver="bochs")
    )


async def test_missing_file_to_reuse(subject: Subject) -> None:
    xml = push_xml(subject.folder / "none")
    call = lambda: subject.begin(xml, flags=REUSE_EXTERNAL)  # noqa: E731
    await refused(SystemFailure, call, Origin.SECURITY)


async def test_checkpoint_name_in_use(subject: Subject) -> None:
    await subject.checkpoint("c1")
    await refused(OperationFailed, lambda: subject.pull(new="c1"), Origin.DOMAIN)
    await refused(NoDomainBackup, subject.backup_dump)
