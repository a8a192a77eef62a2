"""Pull backups: what stock NBD clients read, and how they end."""

import json
import struct
from pathlib import Path

import trio
from contract import PATIENCE, Subject, ask
from tools import free_port

MIB = 1 << 20
GREETING, EXPORT = 18, 10
ENTER_VDA = b"\0\0\0\3IHAVEOPT" + struct.pack(">II", 1, 3) + b"vda"
"""The NBD protocol's client flags and NBD_OPT_EXPORT_NAME."""


async def run(*command: str) -> bytes:
    done = await trio.run_process(command, capture_stdout=True)
    return done.stdout


def uri(subject: Subject, export: str = "vda") -> str:
    return f"nbd+unix:///{export}?socket={subject.socket}"


async def copied(subject: Subject, name: str = "copy", export: str = "vda") -> bytes:
    """The whole export as nbdcopy reads it."""
    path = subject.folder / name
    await run("nbdcopy", uri(subject, export), str(path))
    return await trio.Path(path).read_bytes()


async def dirty(subject: Subject, bitmap: str = "backup-vda") -> list[tuple[int, int]]:
    """Offset and length of what the bitmap marks."""
    context = f"--map=qemu:dirty-bitmap:{bitmap}"
    found = json.loads(await run("nbdinfo", "--json", context, uri(subject)))
    return [(row["offset"], row["length"]) for row in found if row["type"] == 1]


async def test_exports_are_named_after_disks(subject: Subject) -> None:
    await subject.pull()
    listed = json.loads(await run("nbdinfo", "--list", "--json", uri(subject)))
    assert {export["export-name"] for export in listed["exports"]} == {"vda", "vdb"}


async def test_export_shows_what_the_guest_wrote(subject: Subject) -> None:
    await subject.write("vda", "1M 64k", "0x5a")
    await subject.pull()
    assert (await copied(subject))[MIB : MIB + 65536] == b"\x5a" * 65536


async def test_export_is_frozen_while_the_guest_writes(subject: Subject) -> None:
    await subject.write("vda", "0 128k", "0x11")
    await subject.pull()
    await subject.write("vda", "64k 64k", "0x22")
    assert (await copied(subject))[:131072] == b"\x11" * 131072


async def test_bitmap_shows_changes_since_the_checkpoint(subject: Subject) -> None:
    await subject.checkpoint("c1")
    await subject.write("vda", "1M 64k")
    await subject.pull(since="c1")
    await subject.write("vda", "4M 64k")
    assert await dirty(subject) == [(MIB, 65536)]


async def test_new_checkpoint_begins_where_the_backup_stands(subject: Subject) -> None:
    await subject.pull(new="c1")
    await subject.write("vda", "2M 64k")
    await subject.finish()
    await subject.pull(since="c1")
    assert await dirty(subject) == [(2 * MIB, 65536)]


async def test_exportbitmap_can_be_chosen(subject: Subject) -> None:
    await subject.checkpoint("c1")
    await subject.write("vda", "0 64k")
    await subject.pull("<disk name='vda' exportbitmap='mine'/>", since="c1")
    assert await dirty(subject, "mine") == [(0, 65536)]


async def test_full_backup_has_no_bitmap(subject: Subject) -> None:
    await subject.pull()
    about = json.loads(await run("nbdinfo", "--json", uri(subject)))
    assert about["exports"][0]["contexts"] == ["base:allocation"]


async def test_tcp_server(subject: Subject) -> None:
    port = free_port()
    server = f"<server transport='tcp' name='127.0.0.1' port='{port}'/>"
    await subject.begin(f"<domainbackup mode='pull'>{server}</domainbackup>")
    assert await run("nbdinfo", "--size", f"nbd://127.0.0.1:{port}/vda")


async def test_scratch_exists_only_while_the_backup_runs(subject: Subject) -> None:
    scratch = subject.folder / "scratch"
    await subject.pull(f"<disk name='vda'><scratch file='{scratch}'/></disk>")
    assert scratch.exists()
    await subject.finish()
    assert not scratch.exists()


async def test_reused_scratch_is_kept(subject: Subject) -> None:
    scratch = subject.folder / "scratch"
    await run("qemu-img", "create", "-q", "-f", "qcow2", str(scratch), "64M")
    xml = subject.pull_xml(f"<disk name='vda'><scratch file='{scratch}'/></disk>")
    await subject.begin(xml, flags=1)
    await subject.finish()
    assert scratch.exists()


async def received(stream: trio.SocketStream, length: int) -> None:
    while length > 0:
        more = await stream.receive_some(length)
        assert more, "the server hung up"
        length -= len(more)


async def test_end_closes_connections(subject: Subject) -> None:
    await subject.pull()
    async with await trio.open_unix_socket(str(subject.socket)) as stream:
        await stream.send_all(ENTER_VDA)
        await received(stream, GREETING + EXPORT)
        await subject.finish()
        with trio.fail_after(PATIENCE):
            assert await stream.receive_some() == b""


async def test_end_removes_the_socket_file(subject: Subject) -> None:
    await subject.pull()
    await subject.finish()
    assert not await trio.Path(subject.socket).exists()


async def test_a_machine_that_ends_leaves_the_socket_file_for_the_next_to_replace(
    subject: Subject,
) -> None:
    await subject.pull()
    await ask(subject.domain.destroy())
    assert await trio.Path(subject.socket).is_socket()
    await ask(subject.domain.create())
    await subject.pull()
    assert len(await copied(subject)) > 0


async def test_end_hangs_up_on_a_client_that_says_nothing(subject: Subject) -> None:
    await subject.pull()
    async with await trio.open_unix_socket(str(subject.socket)) as stream:
        await received(stream, GREETING)
        assert (await subject.finish())["success"] == 1
        with trio.fail_after(PATIENCE):
            assert await stream.receive_some() == b""


async def test_end_hangs_up_on_a_client_that_says_nothing_over_tcp(subject: Subject) -> None:
    port = free_port()
    server = f"<server transport='tcp' name='127.0.0.1' port='{port}'/>"
    await subject.begin(f"<domainbackup mode='pull'>{server}</domainbackup>")
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await received(stream, GREETING)
        assert (await subject.finish())["success"] == 1


async def test_figures_count_preserved_data(subject: Subject) -> None:
    await subject.write("vda", "0 64k")
    await subject.pull("<disk name='vda'/>")
    await subject.write("vda", "0 64k", "0x33")
    figures = {param.field: param.value for param in (await subject.stats()).params}
    assert figures["disk_temp_used"] == 65536
    assert figures["disk_temp_total"] == await size(subject)


async def size(subject: Subject) -> int:
    return (await ask(subject.domain.get_block_info("vda", 0))).capacity


async def test_stop_of_the_domain_removes_scratch(subject: Subject, folder: Path) -> None:
    await subject.pull(f"<disk name='vda'><scratch file='{folder / 'scratch'}'/></disk>")
    await ask(subject.domain.destroy())
    assert not (folder / "scratch").exists()
