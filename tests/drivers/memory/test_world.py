"""Worlds: the default one, everything a file may say, and each complaint with its line."""

from pathlib import Path

import pytest

from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.enums import DomainState
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.world import World, WorldDomain, load_world
from virtbackupd.drivers.memory.world_file import WorldError

MIB = 1024 * 1024
XML = """\
xml = '''
<domain type='kvm'>
  <name>a</name>
  <memory>1024</memory>
  <os><type>hvm</type></os>
  <devices><disk type='file'><source file='/images/own'/><target dev='hda'/></disk></devices>
</domain>'''
"""
DISK = '[[domains.disks]]\ntarget = "vda"\nsize = "1 MiB"\n'
BARE_DISK = '[[domains.disks]]\ntarget = "vdb"\nsize = 512\n'
BARE = '[[domains]]\nname = "a"\n[[domains.disks]]\ntarget = "vda"\nsize = 512\n'
CHECKPOINT = '[[domains.checkpoints]]\nname = "c1"\n'


def load(tmp_path: Path, text: str) -> World:
    file = tmp_path / "world.toml"
    file.write_text(text)
    return load_world(file, tmp_path / "images")


def load_domain(tmp_path: Path, text: str) -> WorldDomain:
    (domain,) = load(tmp_path, f'[[domains]]\nname = "a"\n{text}').domains
    return domain


def image_of(domain: WorldDomain, index: int = 0) -> Image:
    image = domain.disks[index].image
    assert image is not None
    return image


def test_the_default_world_runs_one_domain(tmp_path: Path) -> None:
    (domain,) = load_world(None, tmp_path / "images").domains
    definition = DomainDefinition.parse(domain.xml)
    assert (definition.name, domain.state) == ("test", DomainState.RUNNING)
    assert definition.has_guest_agent
    assert [disk.type for disk in definition.consoles] == ["pty"]
    assert [disk.target for disk in definition.disks] == ["vda", "vdb", "sda"]


def test_the_default_disks_seem_to_lie_in_the_folder(tmp_path: Path) -> None:
    (domain,) = load_world(None, tmp_path / "images").domains
    assert domain.disks[0].path == str(tmp_path / "images" / "test-vda.qcow2")


def test_reading_a_world_makes_nothing(tmp_path: Path) -> None:
    load_world(None, tmp_path / "images")
    assert list(tmp_path.iterdir()) == []


def test_the_default_contents_are_the_same_each_time(tmp_path: Path) -> None:
    first, second = (load_world(None, tmp_path).domains[0] for _ in range(2))
    assert image_of(first).read(0, MIB) == image_of(second).read(0, MIB)
    assert len(set(image_of(first).read(0, MIB))) > 200


def test_an_empty_file_is_an_empty_world(tmp_path: Path) -> None:
    assert load(tmp_path, "") == World((), (), 0)


def test_a_name_is_enough(tmp_path: Path) -> None:
    domain = load_domain(tmp_path, "")
    definition = DomainDefinition.parse(domain.xml)
    assert (definition.memory, definition.vcpus) == (512 * 1024, 1)
    assert (domain.state, domain.autostart, domain.disks) == (DomainState.RUNNING, False, ())


def test_the_keys_of_a_domain(tmp_path: Path) -> None:
    uuid = "6695eb01-f6a4-8304-79aa-97f2502e193f"
    text = f'uuid="{uuid}"\nstate="paused"\nmemory="1 GiB"\nvcpus=4\nautostart=true\nagent=false\n'
    domain = load_domain(tmp_path, text)
    definition = DomainDefinition.parse(domain.xml)
    assert definition.uuid_text == uuid
    assert (definition.memory, definition.vcpus) == (1 << 20, 4)
    assert (domain.state, domain.autostart) == (DomainState.PAUSED, True)
    assert not definition.has_guest_agent


@pytest.mark.parametrize("xml", ["", XML])
def test_a_uuid_that_is_not_given_follows_from_the_name(tmp_path: Path, xml: str) -> None:
    first, second = (DomainDefinition.parse(load_domain(tmp_path, xml).xml) for _ in range(2))
    assert first.uuid == second.uuid


def test_the_keys_of_a_disk(tmp_path: Path) -> None:
    text = 'path="/images/x"\nformat="raw"\nbus="scsi"\nread_only=true\nseed=3\n'
    domain = load_domain(tmp_path, DISK + text)
    (disk,) = DomainDefinition.parse(domain.xml).disks
    assert (disk.source, disk.format, disk.bus, disk.read_only) == (
        "/images/x",
        "raw",
        "scsi",
        True,
    )
    assert image_of(domain).allocation == MIB


def test_a_disk_without_size_has_the_default_one(tmp_path: Path) -> None:
    domain = load_domain(tmp_path, '[[domains.disks]]\ntarget = "vda"\n')
    assert image_of(domain).capacity == 1 << 30


def test_written_ranges_hold_bytes_and_patterns(tmp_path: Path) -> None:
    text = 'written = [{offset="64 KiB", length=10, byte=7}, {offset=131072, length="64k", seed=1}]'
    image = image_of(load_domain(tmp_path, DISK + text))
    assert image.read(65535, 12) == b"\0" + b"\7" * 10 + b"\0"
    assert image.allocation == 2 * 65536


@pytest.mark.parametrize(("device", "bus"), [("cdrom", "sata"), ("floppy", "fdc")])
def test_a_drive_without_path_and_size_is_empty(tmp_path: Path, device: str, bus: str) -> None:
    domain = load_domain(tmp_path, f'[[domains.disks]]\ntarget="sda"\ndevice="{device}"\n')
    (disk,) = DomainDefinition.parse(domain.xml).disks
    assert (disk.empty, disk.device, disk.bus) == (True, device, bus)
    assert domain.disks[0].image is None


def test_a_backing_image_shows_through(tmp_path: Path) -> None:
    text = 'backing = {path = "/images/base", seed = 5, format = "raw"}\n'
    world = load(tmp_path, f'[[domains]]\nname="a"\n{DISK}{text}')
    image = image_of(world.domains[0])
    (disk,) = DomainDefinition.parse(world.domains[0].xml).disks
    assert [layer.source for layer in disk.backing] == ["/images/base"]
    assert image.allocation == 0
    assert image.read(0, MIB) == world.images[0].read(0, MIB) != bytes(MIB)
    assert [one.path for one in world.images] == ["/images/base", image.path]


def test_two_disks_with_one_path_share_the_image(tmp_path: Path) -> None:
    shared = '[[domains.disks]]\ntarget = "vdb"\npath = "/images/x"\n'
    domain = load_domain(tmp_path, DISK + 'path = "/images/x"\n' + shared)
    assert image_of(domain, 0) is image_of(domain, 1)


def test_a_domain_may_bring_its_own_xml(tmp_path: Path) -> None:
    domain = load_domain(tmp_path, XML + '[[domains.disks]]\ntarget = "hda"\nsize = "2 MiB"\n')
    assert DomainDefinition.parse(domain.xml).type == "kvm"
    assert (domain.disks[0].path, image_of(domain).capacity) == ("/images/own", 2 * MIB)


def test_checkpoints_follow_one_another(tmp_path: Path) -> None:
    names = '[[domains.checkpoints]]\nname="c2"\n[[domains.checkpoints]]\nname="c3"\nparent="c1"\n'
    domain = load_domain(tmp_path, DISK + CHECKPOINT + names)
    found = [(checkpoint.name, checkpoint.parent) for checkpoint in domain.checkpoints]
    assert found == [("c1", None), ("c2", "c1"), ("c3", "c1")]


def test_checkpoints_can_be_redefined_from_their_xml(tmp_path: Path) -> None:
    domain = load_domain(tmp_path, DISK + CHECKPOINT + 'description = "a < b"\ncreated = 5\n')
    read = domain.checkpoints[0]
    assert (read.name, read.description, read.creation_time) == ("c1", "a < b", 5)
    assert [(disk.name, disk.bitmap) for disk in read.bitmap_disks] == [("vda", "c1")]


def test_bitmaps_record_what_was_written_after_their_checkpoint(tmp_path: Path) -> None:
    write = 'written = [{{disk="vda", offset="{} KiB", length=1, byte=1}}]\n'
    text = CHECKPOINT + write.format(0) + '[[domains.checkpoints]]\nname="c2"\n' + write.format(64)
    image = image_of(load_domain(tmp_path, DISK + "seed = 1\n" + text))
    dirty = {bitmap.name: bitmap.dirty_clusters() for bitmap in image.bitmaps}
    assert dirty == {"c1": [0, 1], "c2": [1]}


def test_checkpoints_cover_the_disks_that_can_hold_bitmaps(tmp_path: Path) -> None:
    others = (
        '[[domains.disks]]\ntarget="vdb"\nsize=512\nformat="raw"\n'
        '[[domains.disks]]\ntarget="vdc"\nsize=512\n'
    )
    domain = load_domain(tmp_path, DISK + others + CHECKPOINT)
    names = [image_of(domain, index).bitmaps.names() for index in range(3)]
    assert names == [["c1"], [], ["c1"]]


def test_a_checkpoint_may_name_its_disks(tmp_path: Path) -> None:
    other = '[[domains.disks]]\ntarget="vdb"\nsize=512\n'
    domain = load_domain(tmp_path, DISK + other + CHECKPOINT + 'disks = ["vdb"]\n')
    assert [len(image_of(domain, index).bitmaps) for index in range(2)] == [0, 1]


def test_a_bitmap_may_be_missing_or_inconsistent(tmp_path: Path) -> None:
    disks = "".join(f'[[domains.disks]]\ntarget="vd{c}"\nsize=65536\n' for c in "abc")
    text = CHECKPOINT + 'bitmaps = { vda = "missing", vdb = "inconsistent", vdc = "valid" }\n'
    domain = load_domain(tmp_path, disks + text)
    found = [[bitmap.inconsistent for bitmap in image_of(domain, i).bitmaps] for i in range(3)]
    assert found == [[], [True], [False]]
    assert [disk.name for disk in domain.checkpoints[0].bitmap_disks] == ["vda", "vdb", "vdc"]


def test_a_missing_bitmap_does_not_hide_what_was_written_from_older_ones(tmp_path: Path) -> None:
    write = 'written = [{disk="vda", offset=0, length=1, byte=1}]\n'
    text = CHECKPOINT + '[[domains.checkpoints]]\nname="c2"\nbitmaps={vda="missing"}\n' + write
    image = image_of(load_domain(tmp_path, DISK + text))
    assert {bitmap.name: bitmap.count for bitmap in image.bitmaps} == {"c1": 65536}


def test_the_data_of_a_disk_may_lie_in_a_raw_file(tmp_path: Path) -> None:
    domain = load_domain(tmp_path, DISK + "data_store = {}\nseed = 1\n" + CHECKPOINT)
    data = str(tmp_path / "images" / "a-vda.raw")
    assert image_of(domain).data_store == data
    inner = domain.xml.partition("<dataStore type='file'>")[2].partition("</dataStore>")[0]
    assert [line.strip() for line in inner.split("\n")] == [
        "",
        "<format type='raw'/>",
        f"<source file='{data}'/>",
        "",
    ]
    assert (domain.definition.disks[0].format, image_of(domain).bitmaps.names()) == (
        "qcow2",
        ["c1"],
    )


def test_the_data_file_may_have_a_path(tmp_path: Path) -> None:
    domain = load_domain(tmp_path, DISK + 'data_store = { path = "/lvm/a" }\n')
    assert image_of(domain).data_store == "/lvm/a"


def test_a_backing_chain_may_be_long(tmp_path: Path) -> None:
    text = DISK.replace('size = "1 MiB"\n', "") + (
        "[domains.disks.backing]\n"
        '[domains.disks.backing.backing]\nsize = "2 MiB"\nformat = "raw"\nseed = 1\n'
    )
    domain = load_domain(tmp_path, text)
    folder = tmp_path / "images"
    assert [(layer.source, layer.format) for layer in domain.definition.disks[0].backing] == [
        (str(folder / "a-vda-base.qcow2"), "qcow2"),
        (str(folder / "a-vda-base-base.raw"), "raw"),
    ]
    assert image_of(domain).capacity == 2 * MIB
    assert any(image_of(domain).read(0, MIB))


def test_the_default_rate_of_backups(tmp_path: Path) -> None:
    assert load(tmp_path, '[backup]\nrate = "10 MiB"\n').backup_rate == 10 * MIB


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name = \n", "1: not TOML: Invalid value"),
        ("a = [\n\n", "3: not TOML: "),
        ("\ndomain = 1\n", "2: domain: unknown key"),
        ("[[domains]]\n", "1: domains[0]: the key 'name' is missing"),
        ('[[domains]]\nname = "a"\nmemoy = 1\n', "3: domains[0].memoy: unknown key"),
        ("[[domains]]\nname = 1\n", "2: domains[0].name: expected `str`, got `int`"),
        (BARE + 'format="raw"\ndata_store={}\n', "7: domains[0].disks[0].data_store: only a qcow2"),
        (
            BARE + 'data_store={path="/d"}\n' + BARE_DISK + 'data_store={path="/d"}\n',
            "10: domains[0].disks[1].data_store.path: /d is in use already",
        ),
        (
            BARE + 'backing.format="raw"\nbacking.backing.size=512\n',
            "7: domains[0].disks[0].backing.backing: a raw image has none below it",
        ),
        (
            BARE + CHECKPOINT + 'bitmaps={vdb="missing"}\n',
            "8: domains[0].checkpoints[0].bitmaps.vdb: the checkpoint has no bitmap of disk 'vdb'",
        ),
        (
            BARE + CHECKPOINT + 'bitmaps={vda="gone"}\n',
            "8: domains[0].checkpoints[0].bitmaps: invalid enum value 'gone'",
        ),
        ('[[domains]]\nname="a"\nstate="on"\n', "3: domains[0].state: invalid enum value 'on'"),
        ('[[domains]]\nname="a"\nuuid="x"\n', "3: domains[0].uuid: 'x' is not a UUID"),
        ('[[domains]]\nname="a"\nmemory="x"\n', "3: domains[0].memory: 'x' is not a size"),
        ('[[domains]]\nname="a/b"\n', "1: domains[0]: "),
        ('[[domains]]\nname="a"\n' * 2, "4: domains[1].name: there are two domains named 'a'"),
        ("[backup]\nrate = -1\n", "2: backup.rate: '-1' is not a size"),
    ],
)
def test_complaints_name_line_and_key(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(WorldError) as refusal:
        load(tmp_path, text)
    assert refusal.value.message.startswith(f"{tmp_path}/world.toml:{complaint}")
    assert "\n" not in refusal.value.message


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (DISK + DISK, "7: domains[0].disks[1].target: there are two disks 'vda'"),
        (DISK.replace("1 MiB", "1 Mole"), "5: domains[0].disks[0].size: '1 Mole' is not a size"),
        (DISK.replace("1 MiB", "1000"), "5: domains[0].disks[0].size: 1000 is not a positive"),
        (DISK.replace("1 MiB", "2 E"), "5: domains[0].disks[0].size: 2 E is more than"),
        (DISK.replace("1 MiB", "1 T") + "seed = 1\n", "6: domains[0].disks[0].seed: only disks up"),
        (
            DISK + "written = [{offset=0, length=9}]\n",
            "6: domains[0].disks[0].written[0]: give eit",
        ),
        (
            DISK + 'written = [\n  {offset=0, length="2M", byte=1}]\n',
            "6: domains[0].disks[0].written[0]: the range ends at 2 MiB, the disk at 1 MiB",
        ),
        (
            DISK + "written = [{offset=0, length=9, byte=256}]\n",
            "6: domains[0].disks[0].written[0].byte: 256 is not a byte",
        ),
        (
            DISK + "written = [{offset=1, length=9, seed=1}]\n",
            "6: domains[0].disks[0].written[0]: a range with a seed",
        ),
        (
            DISK + 'path="/x"\n' + DISK.replace("vda", "vdb") + 'path="/x"\n',
            "7: domains[0].disks[1]: image /x is described already",
        ),
        (CHECKPOINT, "3: domains[0].checkpoints[0]: no disk of the domain can hold bitmaps"),
        (
            DISK.replace("vda", "../vda"),
            "4: domains[0].disks[0].target: '../vda' is no disk target",
        ),
        (DISK + CHECKPOINT.replace("c1", ".c"), "7: domains[0].checkpoints[0].name: '.c' cannot"),
        (DISK + CHECKPOINT * 2, "9: domains[0].checkpoints[1].name: there are two checkpoints"),
        (
            DISK + CHECKPOINT + 'parent = "c0"\n',
            "8: domains[0].checkpoints[0].parent: no earlier checkpoint is named 'c0'",
        ),
        (
            DISK + CHECKPOINT + 'disks = ["vdb"]\n',
            "8: domains[0].checkpoints[0].disks: disk 'vdb' cannot hold bitmaps",
        ),
        (
            DISK + CHECKPOINT + 'written = [{disk="vdb", offset=0, length=1, byte=1}]\n',
            "8: domains[0].checkpoints[0].written[0].disk: the domain has no disk 'vdb'",
        ),
        ('xml = "<domain"\n', "3: domains[0].xml: "),
        (XML + "vcpus = 2\n", "10: domains[0].vcpus: the domain's XML says this"),
        (XML.replace("<name>a", "<name>b"), "2: domains[0].name: the domain's XML names it 'b'"),
        (XML + DISK, "11: domains[0].disks[0].target: the domain's XML has no medium in 'vda'"),
        (
            XML + DISK.replace("vda", "hda") + 'path = "/images/other"\n',
            "13: domains[0].disks[0].path: the domain's XML says /images/own",
        ),
        (
            XML.replace("<memory>", "<uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid><memory>")
            + 'uuid = "00000000-0000-0000-0000-000000000001"\n',
            "10: domains[0].uuid: the domain's XML says 6695eb01",
        ),
    ],
)
def test_complaints_about_a_domain(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(WorldError) as refusal:
        load_domain(tmp_path, text)
    assert refusal.value.message.startswith(f"{tmp_path}/world.toml:{complaint}")


def test_two_domains_with_one_uuid_are_refused(tmp_path: Path) -> None:
    uuid = 'uuid = "6695eb01-f6a4-8304-79aa-97f2502e193f"\n'
    with pytest.raises(WorldError, match="another domain has the same UUID"):
        load(tmp_path, "".join(f'[[domains]]\nname="{name}"\n{uuid}' for name in "ab"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match=r"none.toml: cannot read the world file: No such file"):
        load_world(tmp_path / "none.toml", tmp_path)


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "world.toml").write_bytes(b"\xff")
    with pytest.raises(WorldError, match="not UTF-8"):
        load_world(tmp_path / "world.toml", tmp_path)


def test_a_deeply_nested_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match=r"world.toml:1: not TOML"):
        load(tmp_path, "a = " + "[" * 100_000)
