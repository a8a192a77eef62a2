"""Push backups: what the files hold."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from contract import Subject, ask, push_disk, push_xml
from tiny_disk import mounted_tiny_disk


async def run(*command: str) -> bytes:
    done = await trio.run_process(command, capture_stdout=True)
    return done.stdout


async def raw(subject: Subject, path: Path) -> bytes:
    """The contents of an image as qemu-img reads them."""
    copy = subject.folder / "raw"
    await run("qemu-img", "convert", "-O", "raw", str(path), str(copy))
    return await trio.Path(copy).read_bytes()


async def test_full_copy_is_a_sound_image(subject: Subject) -> None:
    await subject.write("vda", "1M 64k", "0x5a")
    await subject.push(subject.folder / "full")
    assert (await subject.ended())["success"] == 1
    await run("qemu-img", "check", str(subject.folder / "full"))
    content = await raw(subject, subject.folder / "full")
    assert content[1 << 20 : (1 << 20) + 65536] == b"\x5a" * 65536


async def test_raw_target(subject: Subject) -> None:
    await subject.write("vda", "0 64k", "0x77")
    await subject.begin(push_xml(subject.folder / "raw-target", driver="raw"))
    await subject.ended()
    content = await trio.Path(subject.folder / "raw-target").read_bytes()
    assert content[:65536] == b"\x77" * 65536
    assert len(content) == (await ask(subject.domain.get_block_info("vda", 0))).capacity


async def test_target_holds_the_instant_of_begin(subject: Subject) -> None:
    await subject.write("vda", "0 64k", "0x11")
    await subject.push(subject.folder / "full")
    await subject.write("vda", "0 64k", "0x22")
    await subject.ended()
    assert (await raw(subject, subject.folder / "full"))[:65536] == b"\x11" * 65536


async def test_incremental_holds_the_changes(subject: Subject) -> None:
    await subject.push(subject.folder / "full", new="c1")
    await subject.ended()
    await subject.write("vda", "2M 64k", "0x66")
    await subject.push(subject.folder / "inc", since="c1")
    figures = await subject.ended()
    assert figures["disk_total"] == figures["disk_processed"] == 65536
    await run("qemu-img", "check", "-U", str(subject.folder / "inc"))


async def test_chain_equals_a_later_full_copy(subject: Subject) -> None:
    full, inc, later = (subject.folder / name for name in ("full", "inc", "later"))
    await subject.push(full, new="c1")
    await subject.ended()
    await subject.write("vda", "2M 64k", "0x66")
    await subject.push(inc, since="c1")
    await subject.ended()
    await subject.push(later)
    await subject.ended()
    await run("qemu-img", "rebase", "-u", "-b", str(full), "-F", "qcow2", str(inc))
    await run("qemu-img", "compare", str(inc), str(later))


async def test_nothing_changed_has_no_figures(subject: Subject) -> None:
    await subject.checkpoint("c1")
    await subject.push(subject.folder / "inc", since="c1")
    assert "disk_total" not in await subject.ended()


async def test_prepared_target_is_reused(subject: Subject) -> None:
    target = subject.folder / "prepared"
    capacity = (await ask(subject.domain.get_block_info("vda", 0))).capacity
    await run("qemu-img", "create", "-q", "-f", "qcow2", str(target), str(capacity))
    await subject.write("vda", "0 64k", "0x44")
    await subject.begin(push_xml(target), flags=1)
    await subject.ended()
    assert (await raw(subject, target))[:65536] == b"\x44" * 65536


@pytest.fixture
def tiny_disk(folder: Path) -> Iterator[Path]:
    with mounted_tiny_disk(folder) as path:
        yield path


async def test_one_full_disk_ends_all(subject: Subject, tiny_disk: Path) -> None:
    full, other = tiny_disk / "full", subject.folder / "other"
    await subject.write("vda", "0 8M")
    second = f"<disk name='vdb' type='file'><target file='{other}'/></disk>"
    await subject.begin(f"<domainbackup><disks>{push_disk(full)}{second}</disks></domainbackup>")
    figures = await subject.ended()
    assert (figures["success"], figures["errmsg"]) == (0, "No space left on device")
    assert (await subject.stats(1)).type == 4
    assert not full.exists()
    assert not other.exists()
