"""Real files at the paths of disks: read when a domain starts, never written."""

import errno
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
import trio
import trio.testing
from contract import ask

from virtbackupd.drivers.definitions.disk import DiskDefinition
from virtbackupd.drivers.errors import InternalError, OperationInvalid, SystemFailure
from virtbackupd.drivers.interface import BlockInfo
from virtbackupd.drivers.memory import media
from virtbackupd.drivers.memory.define import create_transient, define
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.host import Host
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.images import DEFAULT_CAPACITY, file_stamp
from virtbackupd.drivers.qcow2 import ImageFormatError

KIB = 1024
DISK = (
    "<disk type='file'><driver type='{format}'/><source file='{path}'/>{more}"
    "<target dev='vda'/></disk>"
)
XML = (
    "<domain type='test'><name>new</name><memory>1024</memory><os><type>hvm</type></os>"
    "<devices>{disk}</devices></domain>"
)


def domain_xml(path: Path, format_: str = "raw", more: str = "") -> str:
    return XML.format(disk=DISK.format(path=path, format=format_, more=more))


def backing(path: Path) -> str:
    return f"<backingStore type='file'><format type='raw'/><source file='{path}'/></backingStore>"


def qemu_img(*arguments: object) -> None:
    subprocess.run(["qemu-img", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "a.raw"
    path.write_bytes(b"1" * 64 * KIB + bytes(64 * KIB))
    return path


@pytest.fixture
def overlay(raw: Path) -> Path:
    qemu_img("create", "-f", "qcow2", "-b", raw, "-F", "raw", raw.with_name("top"))
    return raw.with_name("top")


def size_of(path: Path) -> int:
    return path.stat().st_size


def rewrite(path: Path) -> None:
    path.write_bytes(b"2" * 512)


async def started(host: Host, xml: str) -> MemoryDomain:
    domain = define(host, xml, 0)
    await domain.create()
    return domain


def byte(domain: MemoryDomain, offset: int = 0) -> bytes:
    image = domain.disk_image("vda")
    assert image is not None
    return image.read(offset, 1)


async def test_a_start_takes_the_contents_over(host: Host, raw: Path) -> None:
    domain = await started(host, domain_xml(raw))
    assert [byte(domain), byte(domain, 64 * KIB)] == [b"1", b"\0"]
    assert await ask(domain.get_block_info("vda", 0)) == BlockInfo(64 * KIB, 128 * KIB, 128 * KIB)


async def test_so_does_create_from_xml(host: Host, raw: Path) -> None:
    assert byte(await create_transient(host, domain_xml(raw), 0)) == b"1"


async def test_the_file_is_never_written(host: Host, raw: Path) -> None:
    before = file_stamp(str(raw))
    domain = await started(host, domain_xml(raw))
    domain.monitor_command('qemu-io vda "write -P 7 0 64k"', 1)
    domain.destroy()
    assert file_stamp(str(raw)) == before


async def test_what_the_guest_wrote_is_there_at_the_next_start(host: Host, raw: Path) -> None:
    domain = await started(host, domain_xml(raw))
    domain.monitor_command('qemu-io vda "write -P 7 0 64k"', 1)
    domain.destroy()
    await domain.create()
    assert byte(domain) == b"\7"


async def test_a_file_written_anew_is_read_anew(host: Host, raw: Path) -> None:
    domain = await started(host, domain_xml(raw))
    domain.destroy()
    rewrite(raw)
    await domain.create()
    assert byte(domain) == b"2"


async def test_not_while_another_domain_uses_it(host: Host, raw: Path) -> None:
    first = await started(host, domain_xml(raw))
    rewrite(raw)
    second = await started(host, domain_xml(raw).replace("new", "other"))
    assert second.disk_image("vda") is first.disk_image("vda")


async def test_a_backing_file_is_read_too(host: Host, overlay: Path) -> None:
    assert byte(await started(host, domain_xml(overlay, "qcow2"))) == b"1"


async def test_a_backing_file_that_the_definition_names(host: Host, raw: Path) -> None:
    qemu_img("create", "-f", "qcow2", raw.with_name("top"), "128k")
    xml = domain_xml(raw.with_name("top"), "qcow2", backing(raw))
    assert byte(await started(host, xml)) == b"1"


async def test_a_blank_disk_on_a_backing_file(host: Host, raw: Path) -> None:
    domain = await started(host, domain_xml(raw.with_name("none"), "qcow2", backing(raw)))
    assert byte(domain) == b"1"


async def test_a_backing_image_in_memory_goes_before_its_file(
    host: Host, raw: Path, overlay: Path
) -> None:
    domain = await started(host, domain_xml(raw))
    domain.monitor_command('qemu-io vda "write -P 7 0 64k"', 1)
    above = await started(host, domain_xml(overlay, "qcow2").replace("new", "above"))
    assert byte(above) == b"\7"


async def test_a_path_without_file_is_blank(host: Host, tmp_path: Path) -> None:
    domain = await started(host, domain_xml(tmp_path / "none"))
    assert await ask(domain.get_block_info("vda", 0)) == BlockInfo(
        0, DEFAULT_CAPACITY, DEFAULT_CAPACITY
    )


async def test_a_file_in_another_format_refuses_the_start(host: Host, raw: Path) -> None:
    with pytest.raises(InternalError, match=r"a\.raw is not a qcow2 image"):
        await started(host, domain_xml(raw, "qcow2"))
    assert not host.domains.by_name("new").active


async def test_a_format_that_cannot_be_read(host: Host, raw: Path) -> None:
    with pytest.raises(InternalError, match="convert it to qcow2 or raw"):
        await started(host, domain_xml(raw, "vmdk"))


async def test_a_missing_backing_file_refuses_the_start(
    host: Host, raw: Path, overlay: Path
) -> None:
    qemu_img("rebase", "-u", "-b", raw.with_name("gone"), "-F", "raw", overlay)
    with pytest.raises(SystemFailure, match=r"gone: No such file"):
        await started(host, domain_xml(overlay, "qcow2"))


async def test_too_much_data_refuses_the_start(
    host: Host, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "MAX_DATA", 4 * KIB)
    with pytest.raises(InternalError, match=r"a\.raw brings more than the 4 KiB of data"):
        await started(host, domain_xml(raw))


async def test_a_refused_start_can_be_repeated(host: Host, raw: Path) -> None:
    with pytest.raises(InternalError):
        await started(host, domain_xml(raw, "vmdk"))
    define(host, host.domains.by_name("new").get_xml_desc(0).replace("vmdk", "raw"), 0)
    await host.domains.by_name("new").create()
    assert host.domains.by_name("new").active


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> trio.Event:
    """Reading a file takes until this is set."""
    opened, take_files = trio.Event(), media.take_files

    async def wait_and_take(host: Host, disks: Iterable[DiskDefinition]) -> None:
        await opened.wait()
        await take_files(host, disks)

    monkeypatch.setattr(media, "take_files", wait_and_take)
    return opened


async def test_a_second_start_meanwhile_is_refused(
    host: Host, raw: Path, gate: trio.Event, nursery: trio.Nursery
) -> None:
    domain = define(host, domain_xml(raw), 0)
    nursery.start_soon(domain.create)
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(OperationInvalid, match="already being started"):
        await domain.create()
    gate.set()


async def test_a_change_of_the_disks_meanwhile_is_noticed(
    host: Host, raw: Path, gate: trio.Event, nursery: trio.Nursery
) -> None:
    domain = define(host, domain_xml(raw), 0)

    async def change() -> None:
        define(host, domain.get_xml_desc(0).replace("a.raw", "b.raw"), 0)
        gate.set()

    nursery.start_soon(change)
    with pytest.raises(OperationInvalid, match="start it again"):
        await domain.create()
    assert not domain.active


async def test_an_inactive_disk_has_the_size_of_its_file(host: Host, overlay: Path) -> None:
    domain = define(host, domain_xml(overlay, "qcow2"), 0)
    info = await ask(domain.get_block_info("vda", 0))
    assert (info.capacity, info.physical) == (128 * KIB, size_of(overlay))


async def test_asking_does_not_take_the_file_over(host: Host, raw: Path) -> None:
    domain = define(host, domain_xml(raw), 0)
    await ask(domain.get_block_info("vda", 0))
    assert host.images.get(str(raw)) is None


def test_a_refusal_names_the_file_that_was_missing() -> None:
    error = FileNotFoundError(errno.ENOENT, "No such file or directory", "/below")
    assert "/below" in media.refusal("/top", error).message
    assert "no" in media.refusal("/top", ImageFormatError("no")).message


def test_a_chain_is_listed_from_the_top() -> None:
    base = Image(512, path="/base")
    top = Image(512, path="/top", backing=base)
    assert list(media.chain(top)) == [top, base]
