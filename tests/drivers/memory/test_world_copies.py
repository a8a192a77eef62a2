"""Worlds with `count`: names and paths with numbers, shared contents, and complaints."""

from pathlib import Path
from uuid import UUID

import pytest

from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.memory import world_disks
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.numbering import Numbered
from virtbackupd.drivers.memory.world import World, WorldDomain, load_world
from virtbackupd.drivers.memory.world_file import WorldError

MIB = 1024 * 1024
MANY = '[[domains]]\nname = "vm{n:03}"\ncount = 3\n'
DISK = '[[domains.disks]]\ntarget = "vda"\nsize = "1 MiB"\nseed = 1\n'


def load(tmp_path: Path, text: str) -> World:
    file = tmp_path / "world.toml"
    file.write_text(text)
    return load_world(file, tmp_path / "images")


def complaint(tmp_path: Path, text: str) -> str:
    with pytest.raises(WorldError) as refusal:
        load(tmp_path, text)
    return refusal.value.message.removeprefix(f"{tmp_path}/")


def image_of(domain: WorldDomain, index: int = 0) -> Image:
    image = domain.disks[index].image
    assert image is not None
    return image


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("vm{n}", "vm12"),
        ("vm{n:05}", "vm00012"),
        ("{n:4}", "  12"),
        ("a{n:02x}b{n:X}", "a0cbC"),
        ("{m}{{n}}{n:5d}", "{m}{12}{n:5d}"),
        ("plain", "plain"),
    ],
)
def test_numbers_in_texts(text: str, shown: str) -> None:
    assert Numbered(text).at(12) == shown


def test_names_follow_the_pattern(tmp_path: Path) -> None:
    domains = load(tmp_path, MANY).domains
    assert [domain.definition.name for domain in domains] == ["vm001", "vm002", "vm003"]


def test_a_copy_reads_like_a_domain_of_its_own(tmp_path: Path) -> None:
    text = 'vcpus = 2\nautostart = true\nstate = "paused"\n' + DISK
    copy = load(tmp_path, MANY + text).domains[2]
    alone = load(tmp_path, f'[[domains]]\nname = "vm003"\n{text}').domains[0]
    assert copy.xml == alone.xml
    assert copy.definition == alone.definition
    assert (copy.state, copy.autostart) == (alone.state, alone.autostart)
    assert image_of(copy).read(0, MIB) == image_of(alone).read(0, MIB)


def test_what_a_copy_makes_of_its_text_is_what_its_definition_says(tmp_path: Path) -> None:
    copy = load(tmp_path, MANY + DISK).domains[1]
    assert DomainDefinition.parse(copy.xml) == copy.definition
    renamed = copy.definition.with_title("new")
    assert (renamed.title, renamed.name) == ("new", "vm002")


def test_uuids_differ_and_are_the_same_each_time(tmp_path: Path) -> None:
    first, again = (
        [domain.definition.uuid for domain in load(tmp_path, MANY).domains] for _ in range(2)
    )
    assert (first, len(set(first))) == (again, 3)


def test_another_seed_gives_other_uuids_and_contents(tmp_path: Path) -> None:
    worlds = [load(tmp_path, f"seed = {seed}\n{MANY}{DISK}").domains[0] for seed in (1, 2, 1)]
    uuids = [domain.definition.uuid for domain in worlds]
    contents = [image_of(domain).read(0, MIB) for domain in worlds]
    assert (uuids[0] == uuids[2], uuids[0] == uuids[1]) == (True, False)
    assert (contents[0] == contents[2], contents[0] == contents[1]) == (True, False)


def test_a_uuid_can_have_the_number_in_it(tmp_path: Path) -> None:
    text = MANY + 'uuid = "6695eb01-f6a4-8304-79aa-{n:012x}"\n'
    found = load(tmp_path, text).domains[2].definition
    assert UUID(bytes=found.uuid) == UUID("6695eb01-f6a4-8304-79aa-000000000003")


def test_writing_to_one_copy_leaves_the_others_alone(tmp_path: Path) -> None:
    first, second, third = (image_of(domain) for domain in load(tmp_path, MANY + DISK).domains)
    before = first.read(0, MIB)
    first.fill(0, MIB, 1)
    second.fill(0, 65536, 2)
    assert third.read(0, MIB) == before
    assert second.read(65536, 65536) == before[65536:131072]


def test_paths_may_have_numbers_and_an_image_may_be_shared(tmp_path: Path) -> None:
    disks = (
        '[[domains.disks]]\ntarget = "vda"\npath = "/d/{n}.raw"\nsize = "1 MiB"\nformat = "raw"\n'
        '[domains.disks.backing]\npath = "/d/base"\n'
        '[[domains.disks]]\ntarget = "sda"\ndevice = "cdrom"\npath = "/d/iso"\nsize = "1 MiB"\n'
    )
    domains = load(tmp_path, MANY + disks).domains
    assert [domain.disks[0].path for domain in domains] == ["/d/1.raw", "/d/2.raw", "/d/3.raw"]
    assert image_of(domains[0], 1) is image_of(domains[2], 1)
    assert image_of(domains[0]).backing is image_of(domains[2]).backing
    assert domains[1].definition.disks[0].source == "/d/2.raw"


def test_a_backing_image_with_a_number_belongs_to_one_copy(tmp_path: Path) -> None:
    text = MANY + DISK + "[domains.disks.backing]\nseed = 2\n"
    first, second, _ = load(tmp_path, text).domains
    below = image_of(second).backing
    assert below is not None
    assert below.path == str(tmp_path / "images" / "vm002-vda-base.qcow2")
    assert below is not image_of(first).backing
    assert second.definition.disks[0].backing[0].source == below.path


def test_files_of_their_own_are_read_for_each(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        (tmp_path / f"{number}.raw").write_bytes(bytes([number]) * 4096)
    text = f'{MANY}[[domains.disks]]\ntarget = "vda"\npath = "{tmp_path}/{{n}}.raw"\nformat = "raw"'
    domains = load(tmp_path, text).domains
    assert [image_of(domain).read(0, 1) for domain in domains] == [b"\1", b"\2", b"\3"]


def test_numbers_stand_in_given_xml_too(tmp_path: Path) -> None:
    xml = "<domain type='kvm'><name>vm{n:03}</name><memory>1024</memory><os><type>hvm</type></os>"
    world = load(tmp_path, f'{MANY}xml = "{xml}<title>no {{n}}</title></domain>"')
    assert [domain.definition.title for domain in world.domains] == ["no 1", "no 2", "no 3"]


def test_checkpoints_are_copied_with_bitmaps(tmp_path: Path) -> None:
    text = (
        MANY + DISK + '[[domains.checkpoints]]\nname = "c1"\n'
        'written = [{ disk = "vda", offset = 0, length = 65536, byte = 1 }]\n'
    )
    first, _, third = load(tmp_path, text).domains
    (known,) = third.checkpoints
    assert known.domain_xml == third.xml
    image_of(first).fill(65536, 65536, 9)
    bitmap = image_of(third).bitmaps.get("c1")
    assert bitmap is not None
    assert bitmap.dirty_clusters() == [0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MANY.replace("3\n", "0\n"), ":3: domains[0].count: 0 is not a number from 1 to 100000"),
        (MANY.replace("{n:03}", ""), ":2: domains[0].name: with `count` a name needs a number"),
        (MANY + MANY, ":5: domains[1].name: there are two domains named 'vm001'"),
        (
            MANY + 'uuid = "6695eb01-f6a4-8304-79aa-97f2502e193f"\n',
            ":4: domains[0].uuid: another domain has the same UUID",
        ),
        (MANY + 'uuid = "{n}"\n', ":4: domains[0].uuid: '1' is not a UUID"),
        (
            MANY + DISK + 'path = "/x{n}"\n' + DISK.replace("vda", "vdb") + 'path = "/x1"\n',
            "image /x1 is described already",
        ),
        (
            MANY + DISK + 'path = "/x{n}"\n[[domains.disks]]\ntarget = "vdb"\npath = "/x1"\n',
            "two disks name /x1 in different ways",
        ),
        (
            '[[domains]]\nname = "a"\n' + DISK + 'path = "/x2"\n' + MANY + DISK + 'path = "/x{n}"',
            "image /x2 is described already",
        ),
    ],
)
def test_complaints(tmp_path: Path, text: str, message: str) -> None:
    assert message in complaint(tmp_path, text)


def test_there_are_not_too_many_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world_disks, "MAX_IMAGES", 2)
    message = ":1: domains[0]: a world may have at most 2 images"
    assert message in complaint(tmp_path, MANY + DISK)
