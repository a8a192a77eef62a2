"""Pull backups of domains of QEMU's, read by a stock NBD client."""

import os
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from virtbackupd.drivers.enums import BackupBegin, DomainStats, JobType
from virtbackupd.drivers.errors import (
    CheckpointInconsistent,
    InternalError,
    InvalidArgument,
    NoDomainBackup,
    NoDomainCheckpoint,
    OperationInvalid,
    OperationTimeout,
    SystemFailure,
)
from virtbackupd.drivers.events import (
    DomainBlockJob,
    DomainBlockThreshold,
    DomainJobCompleted,
    Event,
)
from virtbackupd.drivers.interface import JobStats
from virtbackupd.drivers.qemu.bitmaps import query_images
from virtbackupd.drivers.qemu.domain import QemuDomain
from virtbackupd.drivers.qemu.driver import QemuDriver
from virtbackupd.drivers.qemu.qmp import QmpError

QemuIo = Callable[[str, str], Awaitable[None]]
MIB = 1024 * 1024


@pytest.fixture
def folder(state_dir: Path) -> Path:
    return state_dir


def pull(folder: Path, *disks: str, since: str = "") -> str:
    """A document for disks by target, each with a scratch file of its own."""
    start = f"<incremental>{since}</incremental>" if since else ""
    listed = "".join(
        f"<disk name='{disk}' backup='yes' type='file'><scratch file='{folder}/{disk}.scratch'/>"
        "</disk>"
        for disk in disks
    )
    server = f"<server transport='unix' socket='{folder}/nbd.sock'/>"
    return f"<domainbackup mode='pull'>{start}{server}<disks>{listed}</disks></domainbackup>"


def checkpoint(name: str, *disks: str) -> str:
    listed = "".join(f"<disk name='{disk}'/>" for disk in disks)
    return f"<domaincheckpoint><name>{name}</name><disks>{listed}</disks></domaincheckpoint>"


async def end(guest: QemuDomain) -> JobStats:
    """Abort, which is the normal end, and see the record."""
    backup = guest.backup
    assert backup is not None
    await guest.abort_job()
    await backup.over.wait()
    return await guest.get_job_stats(1)


def values(stats: JobStats) -> dict[str, int | float | str]:
    return {param.field: param.value for param in stats.params}


async def read(folder: Path, disk: str, where: Path) -> bytes:
    uri = f"nbd+unix:///{disk}?socket={folder}/nbd.sock"
    await trio.run_process(["nbdcopy", uri, str(where)])
    return await trio.Path(where).read_bytes()


async def dirty(folder: Path, disk: str) -> str:
    uri = f"nbd+unix:///{disk}?socket={folder}/nbd.sock"
    command = ["nbdinfo", "--map=qemu:dirty-bitmap:backup-" + disk, uri]
    return (await trio.run_process(command, capture_stdout=True)).stdout.decode()


async def test_a_client_sees_the_instant_of_the_beginning(
    guest: QemuDomain, qemu_io: QemuIo, folder: Path, tmp_path: Path
) -> None:
    await qemu_io("vda", "write -P 1 0 64k")
    await guest.backup_begin(pull(folder, "vda"), None, 0)
    await qemu_io("vda", "write -P 2 0 128k")
    data = await read(folder, "vda", tmp_path / "copy")
    assert (data[:65536], data[65536:131072]) == (b"\1" * 65536, bytes(65536))


async def test_scratch_files_are_private_and_go_with_the_backup(
    guest: QemuDomain, folder: Path
) -> None:
    await guest.backup_begin(pull(folder, "vda", "vdb"), None, 0)
    scratch = folder / "vda.scratch"
    assert scratch.stat().st_mode & 0o777 == 0o600
    await end(guest)
    assert not scratch.exists()


async def test_the_end_of_a_pull_is_a_success(guest: QemuDomain, folder: Path) -> None:
    await guest.backup_begin(pull(folder, "vda"), None, 0)
    stats = await end(guest)
    assert stats.type == JobType.COMPLETED
    assert values(stats)["success"] == 1
    assert values(stats)["disk_temp_total"] == 64 * MIB


async def test_the_last_disk_tells_after_the_whole(guest: QemuDomain, folder: Path) -> None:
    events: list[Event] = []
    await guest.backup_begin(pull(folder, "vda", "vdb"), None, 0)
    with guest.events.subscribed(events.append):
        await end(guest)
    kinds = [type(event) for event in events]
    assert kinds == [DomainBlockJob, DomainJobCompleted, DomainBlockJob]


async def test_ends_are_told_in_the_order_of_the_disks(
    guest: QemuDomain, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever QEMU ends first: nobody looks before all have been asked to end."""
    concluded: defaultdict[str, trio.Event] = defaultdict(trio.Event)
    each = guest.monitor.execute_each

    def hear(data: dict[str, str]) -> None:
        if data["status"] == "concluded":
            concluded[data["id"]].set()

    async def backwards(command: str, arguments: list[dict[str, str]]) -> list[QmpError | None]:
        if command != "block-job-cancel":
            return await each(command, arguments)
        refusals = []
        for its in reversed(arguments):
            refusals += await each(command, [its])
            await concluded[its["device"]].wait()
        return refusals

    events: list[Event] = []
    await guest.backup_begin(pull(folder, "vda", "vdb", "vdc"), None, 0)
    guest.on_event("JOB_STATUS_CHANGE", hear)
    monkeypatch.setattr(guest.monitor, "execute_each", backwards)
    with guest.events.subscribed(events.append), trio.fail_after(60):
        await end(guest)
    told = [event.target for event in events if isinstance(event, DomainBlockJob)]
    assert told == ["vda", "vdb", "vdc"]


async def test_an_increment_shows_what_was_written_since(
    guest: QemuDomain, qemu_io: QemuIo, folder: Path
) -> None:
    await guest.backup_begin(pull(folder, "vda"), checkpoint("c1", "vda"), 0)
    await end(guest)
    await qemu_io("vda", "write 1M 64k")
    await guest.backup_begin(pull(folder, "vda", since="c1"), checkpoint("c2", "vda"), 0)
    found = [line.split() for line in (await dirty(folder, "vda")).splitlines()]
    assert ["1048576", "65536", "1", "dirty"] in found
    assert sum(line[-1] == "dirty" for line in found) == 1


async def test_full_and_incremental_disks_mix(
    guest: QemuDomain, qemu_io: QemuIo, folder: Path
) -> None:
    await guest.checkpoint_create_xml(checkpoint("c1", "vda"), 0)
    await qemu_io("vda", "write 1M 64k")
    text = pull(folder, "vda", "vdc").replace("type='file'", "type='file' incremental='c1'", 1)
    await guest.backup_begin(text, None, 0)
    assert "dirty" in await dirty(folder, "vda")
    assert "exportbitmap" not in guest.backup_get_xml_desc(0).split("vdc")[1]


async def test_the_document_shows_what_was_filled_in(guest: QemuDomain, folder: Path) -> None:
    await guest.backup_begin(pull(folder, "vda"), None, 0)
    text = guest.backup_get_xml_desc(0)
    assert "backupmode='full' exportname='vda' index='4'" in text
    assert "<disk name='vdb' backup='no'/>" in text


async def test_nothing_remains_in_qemu(guest: QemuDomain, folder: Path) -> None:
    before = set((await query_images(guest.monitor)).names())
    await guest.backup_begin(pull(folder, "vda", "vdb"), None, 0)
    await end(guest)
    assert set((await query_images(guest.monitor)).names()) == before
    assert await guest.monitor.execute("query-jobs") == []


async def test_one_backup_at_a_time(guest: QemuDomain, folder: Path) -> None:
    await guest.backup_begin(pull(folder, "vda"), None, 0)
    with pytest.raises(OperationTimeout, match="virDomainBackupBegin"):
        await guest.backup_begin(pull(folder, "vdb"), None, 0)


async def test_a_file_in_the_way(guest: QemuDomain, folder: Path) -> None:
    (folder / "vdb.scratch").write_text("mine")
    with pytest.raises(InvalidArgument, match="exists already"):
        await guest.backup_begin(pull(folder, "vda", "vdb"), checkpoint("c1", "vda"), 0)
    assert (folder / "vdb.scratch").read_text() == "mine"
    assert not (folder / "vda.scratch").exists()
    assert len(guest.checkpoints) == 0


async def test_a_socket_that_cannot_be_made(guest: QemuDomain, folder: Path) -> None:
    text = pull(folder, "vda").replace("nbd.sock", "none/nbd.sock")
    with pytest.raises(InternalError, match="nbd-server-start"):
        await guest.backup_begin(text, checkpoint("c1", "vda"), 0)
    assert not (folder / "vda.scratch").exists()
    assert len(guest.checkpoints) == 0
    await guest.backup_begin(pull(folder, "vda"), checkpoint("c1", "vda"), 0)


async def test_a_bitmap_in_the_way_undoes_everything(guest: QemuDomain, folder: Path) -> None:
    node = guest.nodes.disks["vdb"].node
    await guest.monitor.execute("block-dirty-bitmap-add", {"node": node, "name": "c1"})
    before = set((await query_images(guest.monitor)).names())
    with pytest.raises(InternalError, match="already exists"):
        await guest.backup_begin(pull(folder, "vda"), checkpoint("c1", "vda", "vdb"), 0)
    assert set((await query_images(guest.monitor)).names()) == before
    assert sorted(os.listdir(folder)) == ["qemu"]  # noqa: PTH208
    assert guest.jobs.job is None


async def test_an_unknown_checkpoint(guest: QemuDomain, folder: Path) -> None:
    with pytest.raises(NoDomainCheckpoint):
        await guest.backup_begin(pull(folder, "vda", since="c1"), None, 0)


async def test_a_disk_without_the_bitmap(guest: QemuDomain, folder: Path) -> None:
    await guest.checkpoint_create_xml(checkpoint("c1", "vda"), 0)
    with pytest.raises(CheckpointInconsistent, match="vdb"):
        await guest.backup_begin(pull(folder, "vdb", since="c1"), None, 0)


async def test_a_prepared_scratch_file_is_kept(
    guest: QemuDomain, folder: Path, make_image: Callable[..., str]
) -> None:
    prepared = Path(make_image("prepared.qcow2"))
    text = pull(folder, "vda").replace(f"{folder}/vda.scratch", str(prepared))
    await guest.backup_begin(text, None, BackupBegin.REUSE_EXTERNAL)
    await end(guest)
    assert await trio.Path(prepared).exists()


async def test_a_prepared_file_that_is_not_there(guest: QemuDomain, folder: Path) -> None:
    with pytest.raises(SystemFailure, match="No such file"):
        await guest.backup_begin(pull(folder, "vda"), None, BackupBegin.REUSE_EXTERNAL)


async def test_checkpoints_come_and_go_meanwhile(guest: QemuDomain, folder: Path) -> None:
    await guest.backup_begin(pull(folder, "vda"), None, 0)
    await guest.checkpoint_create_xml(checkpoint("c1", "vda"), 0)
    assert "size='0'" in await guest.checkpoint_get_xml_desc("c1", 4)
    await guest.checkpoint_delete("c1", 0)


async def test_the_end_of_the_domain_ends_the_backup(guest: QemuDomain, folder: Path) -> None:
    await guest.backup_begin(pull(folder, "vda"), None, 0)
    await guest.destroy()
    stats = guest.jobs.stats(1)
    assert (stats.type, values(stats)["success"]) == (JobType.CANCELLED, 0)
    assert not (folder / "vda.scratch").exists()


async def test_a_scratch_image_that_fills_up_is_told(
    guest: QemuDomain, qemu_io: QemuIo, folder: Path
) -> None:
    told, receive = trio.open_memory_channel[Event](10)
    await qemu_io("vda", "write -P 1 0 2M")
    await guest.backup_begin(pull(folder, "vda"), None, 0)
    await guest.set_block_threshold("vda[4]", MIB, 0)
    with guest.events.subscribed(told.send_nowait), trio.fail_after(60):
        await qemu_io("vda", "write -P 2 0 2M")
        event = await receive.receive()
    assert isinstance(event, DomainBlockThreshold)
    assert (event.device, event.path) == ("vda[4]", f"{folder}/vda.scratch")


async def stats_of(qemu: QemuDriver, backing: int) -> dict[str, int | float | str]:
    record, *_ = await qemu.get_all_domain_stats([], DomainStats.BLOCK, backing)
    return {param.field: param.value for param in record.params}


async def test_statistics_go_on(guest: QemuDomain, qemu: QemuDriver, folder: Path) -> None:
    before = await stats_of(qemu, 0)
    await guest.backup_begin(pull(folder, "vda"), None, 0)
    assert (await stats_of(qemu, 0)).keys() == before.keys()


async def test_statistics_show_scratch_images(
    guest: QemuDomain, qemu: QemuDriver, folder: Path
) -> None:
    await guest.backup_begin(pull(folder, "vda"), None, 0)
    found = await stats_of(qemu, 1 << 30)
    assert (found["block.count"], found["block.1.path"]) == (4, f"{folder}/vda.scratch")
    assert (found["block.1.name"], found["block.1.backingIndex"]) == ("vda", 4)


async def test_without_a_backup(guest: QemuDomain) -> None:
    with pytest.raises(NoDomainBackup):
        guest.backup_get_xml_desc(0)
    with pytest.raises(OperationInvalid):
        await guest.abort_job()


async def test_a_clients_disappearance_is_no_end(guest: QemuDomain, folder: Path) -> None:
    await guest.backup_begin(pull(folder, "vda"), None, 0)
    stream = await trio.open_unix_socket(str(folder / "nbd.sock"))
    await stream.receive_some(18)
    await stream.aclose()
    assert (await guest.get_job_stats(0)).type == JobType.UNBOUNDED
