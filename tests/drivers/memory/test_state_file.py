"""Saved worlds: what a file keeps, and that a damaged one is refused with one line."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.enums import DomainState, JobType
from virtbackupd.drivers.events import TypedParameter
from virtbackupd.drivers.interface import JobStats
from virtbackupd.drivers.memory import checkpoint, define, state_file
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.host import Host
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.state_file import load_state, save_state
from virtbackupd.drivers.memory.state_records import SavedWorld
from virtbackupd.drivers.memory.world_file import WorldError
from virtbackupd.drivers.memory.world_state import restore, take

MIB = 1024 * 1024
KIB_64 = 64 * 1024
CHECKPOINT = "<domaincheckpoint><name>{}</name></domaincheckpoint>"
SECRET_XML = """<secret><uuid>8895eb01-f6a4-8304-79aa-97f2502e193f</uuid>
<usage type='volume'><volume>/images/vda.qcow2</volume></usage></secret>"""
Breakage = Callable[[bytes], bytes]
HEADER = struct.Struct("<8sIIQQI")


def again(host: Host, path: Path, image_dir: str = "/images") -> Host:
    """Another host with what the first one saved."""
    save_state(path, take(host), "/images")
    other = Host(host.nursery)
    restore(other, load_state(path, image_dir))
    return other


def image_of(host: Host, path: str = "/images/vda.qcow2") -> Image:
    image = host.images.get(path)
    assert image is not None
    return image


def status(path: Path) -> os.stat_result:
    return path.stat()


def change(path: Path, how: Breakage) -> None:
    path.write_bytes(how(path.read_bytes()))


def saved_index(path: Path) -> SavedWorld:
    data = path.read_bytes()
    packed = HEADER.unpack_from(data)[3]
    index = zlib.decompress(data[HEADER.size : HEADER.size + packed])
    return msgspec.msgpack.decode(index, type=SavedWorld)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "world.state"


async def test_contents_of_every_kind_come_back(
    host: Host, guest: MemoryDomain, path: Path
) -> None:
    image = image_of(host)
    image.fill_pattern(5, 0, MIB)
    image.fill(MIB, MIB, 7)
    image.write(3 * MIB - 5, b"across the edge")
    image.write_zeroes(0, KIB_64)
    found = image_of(again(host, path))
    assert found.read(0, 4 * MIB) == image.read(0, 4 * MIB)
    assert (found.allocation, guest.active) == (image.allocation, True)


async def test_what_follows_from_a_rule_takes_no_space(
    host: Host, guest: MemoryDomain, path: Path
) -> None:
    image_of(host).fill_pattern(5, 0, 2 * MIB)
    image_of(host).fill(2 * MIB, 2 * MIB, 7)
    again(host, path)
    assert (status(path).st_size < 8192, guest.active) == (True, True)


async def test_only_the_owner_may_read_the_file(
    host: Host, guest: MemoryDomain, path: Path
) -> None:
    again(host, path)
    assert (status(path).st_mode & 0o777, guest.active) == (0o600, True)


async def test_a_backing_chain_comes_back(host: Host, guest: MemoryDomain, path: Path) -> None:
    base = Image(MIB, path="/images/base")
    base.fill(0, MIB, 1)
    top = Image(MIB, path="/images/top", backing=base, data_store="/images/data")
    top.write_zeroes(0, KIB_64)
    host.images.add(top)
    host.images.add(base)
    found = image_of(again(host, path), "/images/top")
    assert found.read(0, MIB) == bytes(KIB_64) + b"\1" * (MIB - KIB_64)
    assert found.backing is not None
    assert (found.backing.path, found.data_store) == ("/images/base", "/images/data")
    assert guest.active


async def test_a_domain_comes_back_as_it_was(host: Host, guest: MemoryDomain, path: Path) -> None:
    guest.suspend()
    guest.autostart = True
    guest.frozen.add("/")
    guest.counters("vda").count_write(4096)
    found = again(host, path).domains.by_name("guest")
    assert (found.ref, found.state, found.reason) == (guest.ref, guest.state, guest.reason)
    assert (found.get_xml_desc(0), found.get_xml_desc(2)) == (
        guest.get_xml_desc(0),
        guest.get_xml_desc(2),
    )
    assert (found.autostart, found.frozen) == (True, {"/"})
    assert found.counted == guest.counted
    assert found.disk_image("vda") is found.host.images.get("/images/vda.qcow2")


async def test_checkpoints_and_bitmaps_come_back(
    host: Host, guest: MemoryDomain, path: Path
) -> None:
    for number, name in enumerate(("c1", "c2", "c3")):
        checkpoint.create_xml(guest, CHECKPOINT.format(name), 0)
        image_of(host).fill(number * MIB, KIB_64, 1)
    other = again(host, path)
    found = other.domains.by_name("guest")
    assert found.list_all_checkpoints(0) == ["c1", "c2", "c3"]
    assert found.checkpoints.current == "c3"
    for name in ("c1", "c2", "c3"):
        assert found.checkpoint_get_xml_desc(name, 4) == guest.checkpoint_get_xml_desc(name, 4)
    image_of(other).fill(3 * MIB, KIB_64, 1)
    bitmap = image_of(other).bitmaps.get("c2")
    assert bitmap is not None
    assert bitmap.dirty_clusters() == [16, 32, 48]


async def test_managed_save_job_record_and_secret_come_back(
    host: Host, guest: MemoryDomain, path: Path
) -> None:
    guest.managed_save(0)
    guest.jobs.completed = JobStats(JobType.COMPLETED, (TypedParameter("time_elapsed", 4, 5),))
    ref = host.secrets.secret_define_xml(SECRET_XML, 0)
    host.secrets.secret_set_value(ref.uuid, b"open", 0)
    other = again(host, path)
    found = other.domains.by_name("guest")
    assert (found.has_managed_save_image(0), found.active) == (1, False)
    assert found.jobs.completed == guest.jobs.completed
    assert other.secrets.secret_get_value(ref.uuid, 0) == b"open"
    await found.create()
    assert found.state == DomainState.RUNNING


async def test_images_without_a_path_of_their_own_move_to_the_new_folder(
    host: Host, guest: MemoryDomain, path: Path
) -> None:
    checkpoint.create_xml(guest, CHECKPOINT.format("c1"), 0)
    other = again(host, path, "/else/where's")
    found = other.domains.by_name("guest")
    assert "<source file='/else/where&apos;s/vda.qcow2'" in found.get_xml_desc(0)
    assert found.disk_image("vda") is image_of(other, "/else/where's/vda.qcow2")
    assert "/images/" not in found.checkpoint_get_xml_desc("c1", 1)


async def test_a_transient_domain_stays_one(host: Host, guest: MemoryDomain, path: Path) -> None:
    guest.undefine()
    found = again(host, path).domains.by_name("guest")
    assert (found.is_persistent(), found.active) == (0, True)


def with_index(edit: Callable[[dict[str, object]], object]) -> Breakage:
    """Make a file with a sound checksum around a changed index."""

    def changed(data: bytes) -> bytes:
        magic, version, _, packed, _, blobs = HEADER.unpack_from(data)
        index = msgspec.msgpack.decode(zlib.decompress(data[HEADER.size : HEADER.size + packed]))
        edit(index)
        new = msgspec.msgpack.encode(index)
        small = zlib.compress(new)
        head = HEADER.pack(magic, version, zlib.crc32(small), len(small), len(new), blobs)
        return head + small + data[HEADER.size + packed :]

    return changed


def item(index: dict[str, object], name: str) -> dict[str, object]:
    found = index[name]
    assert isinstance(found, list)
    assert isinstance(found[0], dict)
    return found[0]


BREAKAGES: dict[str, tuple[Breakage, str]] = {
    "short": (lambda data: data[:20], "ends too early"),
    "cut": (lambda data: data[:100], "ends too early"),
    "version": (lambda data: data[:8] + b"\3" + data[9:], "version 3, known are 1, 2"),
    "index": (lambda data: data[:60] + b"XX" + data[62:], "index is damaged"),
    "tail": (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "contents are damaged"),
    "longer": (lambda data: data + b"x", "another size"),
    "key": (with_index(lambda index: index.update(more=1)), "unknown field `more`"),
    "type": (with_index(lambda index: index.update(last_id="1")), "Expected `int`"),
    "id": (with_index(lambda index: index.update(last_id=0)), "impossible id"),
    "path": (with_index(lambda index: index.update(registry={"/x": 0})), "another path"),
    "image": (with_index(lambda index: index.update(registry={"/x": 9})), "no image 9"),
    "size": (with_index(lambda index: item(index, "images").update(capacity=0)), "impossible size"),
    "shrunk": (
        with_index(lambda index: item(index, "images").update(capacity=512)),
        "data past its end",
    ),
    "loop": (with_index(lambda index: item(index, "images").update(backing=0)), "no image 0"),
    "format": (with_index(lambda index: item(index, "images").update(format="x")), "unknown form"),
    "state": (with_index(lambda index: item(index, "domains").update(state=99)), "99 is not"),
    "tree": (
        with_index(lambda index: item(index, "domains").update(links=[["c1", None], ["c1", None]])),
        "do not form a tree",
    ),
    "stopped": (
        with_index(lambda index: item(index, "domains").update(live=None)),
        "an id without",
    ),
    "xml": (with_index(lambda index: index.update(texts=["<domain/>"] * 3)), "name"),
    "table": (
        with_index(
            lambda index: index.update(tables=[{"clusters": b"\0" * 8, "numbers": b"\xff" * 8}])
        ),
        "no cluster is stored",
    ),
}


@pytest.mark.parametrize("name", BREAKAGES)
async def test_a_broken_file_is_refused_with_one_line(
    host: Host, guest: MemoryDomain, path: Path, name: str
) -> None:
    image_of(host).write(MIB, b"some contents")
    save_state(path, take(host), "/images")
    breakage, message = BREAKAGES[name]
    change(path, breakage)
    with pytest.raises(WorldError, match=message) as refusal:
        load_state(path, "/images")
    assert refusal.value.message.startswith(f"{path}: this saved world cannot be used: ")
    assert "\n" not in refusal.value.message
    assert guest.active


async def test_more_than_fits_is_refused_before_it_is_read(
    host: Host, guest: MemoryDomain, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_of(host).write(MIB, b"some contents")
    save_state(path, take(host), "/images")
    monkeypatch.setattr(state_file, "room", lambda: 32 * 1024)
    with pytest.raises(WorldError, match="only 32 KiB of memory"):
        load_state(path, "/images")
    assert guest.active


async def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match="cannot read the saved world: No such file"):
        load_state(tmp_path / "none", "/images")


async def test_domains_of_one_template_share_their_clusters(host: Host, path: Path) -> None:
    first = Image(MIB, path="/images/1")
    first.fill_pattern(1, 0, MIB)
    second = Image(MIB, path="/images/2")
    second.restore(first.state())
    host.images.add(first)
    host.images.add(second)
    xml = "<domain type='test'><name>x</name><memory>1</memory><os><type>hvm</type></os></domain>"
    define.adopt(host, DomainDefinition.parse(xml), DomainState.SHUTOFF)
    save_state(path, take(host), "/images")
    tables = [image.table for image in saved_index(path).images]
    assert (len(tables), len(set(tables))) == (4, 3)
