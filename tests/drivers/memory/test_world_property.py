"""Whatever a guest and its backups do: a state that is taken or saved comes back exactly."""

import struct
import zlib
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeAlias

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from virtbackupd.drivers.clock import Clock
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.enums import DomainState
from virtbackupd.drivers.memory import checkpoint, define
from virtbackupd.drivers.memory.domain import MemoryDomain
from virtbackupd.drivers.memory.host import Host
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.state_file import load_state, save_state
from virtbackupd.drivers.memory.world_file import WorldError
from virtbackupd.drivers.memory.world_state import restore, take

HEADER = struct.Struct("<8sIIQQI")
CLUSTER = 65536
CLUSTERS = 12
XML = """<domain type='test'><name>guest</name><memory>1024</memory><os><type>hvm</type></os>
<uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid><devices>{}</devices></domain>"""
DISK = """<disk type='file'><driver name='qemu' type='qcow2'/><source file='/images/{0}'/>
<target dev='{0}'/></disk>"""
NAMES = ("c0", "c1", "c2")


class Write(NamedTuple):
    disk: str
    offset: int
    length: int
    kind: str

    def do(self, domain: MemoryDomain) -> None:
        image = image_of(domain, self.disk)
        length = min(self.length, image.capacity - self.offset)
        if self.kind == "write":
            image.write(self.offset, (b"some data" * (length // 9 + 1))[:length])
        elif self.kind == "fill":
            image.fill(self.offset, length, 7)
        elif self.kind == "zero":
            image.write_zeroes(self.offset, length)
        else:
            image.discard(self.offset, length)


class Create(NamedTuple):
    name: str

    def do(self, domain: MemoryDomain) -> None:
        if self.name not in domain.checkpoints:
            xml = f"<domaincheckpoint><name>{self.name}</name></domaincheckpoint>"
            checkpoint.create_xml(domain, xml, 0)


class Delete(NamedTuple):
    name: str
    flags: int

    def do(self, domain: MemoryDomain) -> None:
        if self.name in domain.checkpoints:
            checkpoint.delete(domain, self.name, self.flags)


Step: TypeAlias = Write | Create | Delete

WRITES = st.builds(
    Write,
    st.sampled_from(["vda", "vdb"]),
    st.integers(0, CLUSTERS * CLUSTER - 1),
    st.integers(1, 3 * CLUSTER),
    st.sampled_from(["write", "fill", "zero", "discard"]),
)
STEPS = st.lists(
    st.one_of(
        WRITES,
        st.builds(Create, st.sampled_from(NAMES)),
        st.builds(Delete, st.sampled_from(NAMES), st.sampled_from([0, 1, 4])),
    ),
    max_size=12,
)


def image_of(domain: MemoryDomain, target: str) -> Image:
    image = domain.disk_image(target)
    assert image is not None
    return image


def new_guest(host: Host) -> MemoryDomain:
    for target in ("vda", "vdb"):
        image = Image(CLUSTERS * CLUSTER, path=f"/images/{target}")
        image.fill_pattern(3, 0, 5 * CLUSTER)
        host.images.add(image)
    xml = XML.format("".join(DISK.format(target) for target in ("vda", "vdb")))
    return define.adopt(host, DomainDefinition.parse(xml), DomainState.RUNNING)


def shown(host: Host) -> list[object]:
    """Everything that a client could find out."""
    domain = host.domains.by_name("guest")
    found: list[object] = [domain.ref, domain.get_xml_desc(0), domain.checkpoints.current]
    for name in domain.list_all_checkpoints(0):
        found.append(domain.checkpoint_get_xml_desc(name, 4))
        found.append(domain.checkpoint_list_all_children(name, 1))
    for target in ("vda", "vdb"):
        image = image_of(domain, target)
        found += [image.read(0, image.capacity), image.data_clusters(), image.allocation]
        found += [(bitmap.name, bitmap.dirty_clusters()) for bitmap in image.bitmaps]
    return found


async def there_and_back(before: list[Step], after: list[Step], path: Path) -> None:
    """On clocks that stand: checkpoints tell the second that they were made in."""
    async with trio.open_nursery() as nursery:
        host = Host(nursery, clock=Clock(0))
        guest = new_guest(host)
        for step in before:
            step.do(guest)
        expected, state = shown(host), take(host)
        save_state(path, state, "/images")
        for step in after:
            step.do(guest)
        restore(host, state)
        assert shown(host) == expected
        other = Host(nursery, clock=Clock(0))
        restore(other, load_state(path, "/images"))
        assert shown(other) == expected
        for step in after:
            step.do(guest)
            step.do(other.domains.by_name("guest"))
        assert shown(other) == shown(host)


@settings(max_examples=60, deadline=None)
@given(before=STEPS, after=STEPS)
def test_a_state_comes_back_and_goes_on_the_same(before: list[Step], after: list[Step]) -> None:
    with TemporaryDirectory() as folder:
        trio.run(there_and_back, before, after, Path(folder) / "state")


@settings(max_examples=150, deadline=None)
@given(places=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=3)), max_size=4))
def test_a_changed_index_is_a_world_or_a_complaint(places: list[tuple[float, bytes]]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        path.write_bytes(with_changed_index(saved_bytes(), places))
        assert "\n" not in complaint(path)


def complaint(path: Path) -> str:
    try:
        load_state(path, "/images")
    except WorldError as error:
        return error.message
    return ""


@cache
def saved_bytes() -> bytes:
    async def save(path: Path) -> None:
        async with trio.open_nursery() as nursery:
            host = Host(nursery)
            guest = new_guest(host)
            Create("c0").do(guest)
            Write("vda", 0, 100, "write").do(guest)
            save_state(path, take(host), "/images")

    with TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        trio.run(save, path)
        return path.read_bytes()


def with_changed_index(data: bytes, places: list[tuple[float, bytes]]) -> bytes:
    """Overwrite bytes of the unpacked index, and make its checksum right."""
    magic, version, _, packed, size, stored = HEADER.unpack_from(data)
    index = bytearray(zlib.decompress(data[HEADER.size : HEADER.size + packed]))
    for place, patch in places:
        at = int(place * (len(index) - len(patch)))
        index[at : at + len(patch)] = patch
    small = zlib.compress(index, 1)
    head = HEADER.pack(magic, version, zlib.crc32(small), len(small), size, stored)
    return head + small + data[HEADER.size + packed :]
