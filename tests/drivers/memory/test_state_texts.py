"""Definitions from the texts of a saved world: many of a kind are read as each would be alone."""

from dataclasses import fields
from uuid import UUID

import pytest

from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.memory.state_texts import TextReader

DISK = """<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{}'/>
<backingStore type='file'><format type='raw'/><source file='{}'/></backingStore>
<target dev='{}' bus='virtio'/></disk>"""


def domain(number: int, *disks: str, more: str = "", name: str = "vm{}") -> str:
    """Canonical, as it stands in a file."""
    xml = f"""<domain type='kvm'><name>{name.format(number)}</name>
    <uuid>{UUID(int=number)}</uuid>{more}<memory>1024</memory><os><type>hvm</type></os><devices>{"".join(disks)}</devices></domain>"""
    return DomainDefinition.parse(xml).to_xml()


def disk(path: str, below: str = "/base", target: str = "vda") -> str:
    return DISK.format(path, below, target)


def known(definition: DomainDefinition) -> list[object]:
    """All that can be asked of it."""
    typed = [getattr(definition, each.name) for each in fields(definition) if each.compare]
    return [*typed, definition.to_xml(), definition.to_xml(secure=False, depth=1)]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that the reader could not make from another."""
    found: list[str] = []
    parse = DomainDefinition.parse

    def counted(xml: str) -> DomainDefinition:
        found.append(xml)
        return parse(xml)

    monkeypatch.setattr(DomainDefinition, "parse", staticmethod(counted))
    return found


def check(texts: list[str]) -> None:
    reader = TextReader()
    found = [known(reader.read(text)) for text in texts]
    assert found == [known(DomainDefinition.parse(text)) for text in texts]


ALIKE = [
    domain(1, disk("/a/1", "/x"), disk("/b/1", "/y", target="vdb")),
    domain(2, disk("/a/2", "/c"), disk("/b/2", "/d", target="vdb")),
    domain(3, disk("/same", "/c"), disk("/same", "/d", target="vdb")),
]
PARTED = [
    domain(1, disk("/same"), disk("/same", target="vdb")),
    domain(2, disk("/one"), disk("/two", target="vdb")),
]
STRANGE_PATHS = [domain(1, disk("/a&amp;b")), domain(2, disk("/c&apos;d")), domain(3, disk("/ä"))]
STRANGE_NAMES = [domain(number, disk("/a"), name="a &amp; {}") for number in (1, 2)]
WORDS = "<description> file='/a'\n  <![CDATA[<name>x</name>]]>\n</description>"
DESCRIBED = [domain(number, disk(f"/a/{number}"), more=WORDS) for number in (1, 2)]
METADATA = "<metadata><x xmlns='urn:x' file='/in'><name>other</name></x></metadata>"
ANNOTATED = [domain(number, disk(f"/a/{number}"), more=METADATA) for number in (1, 2)]
COMMENT = "<!-- file='/not/one' -->"
COMMENTED = [domain(number, disk(f"/a/{number}"), more=COMMENT) for number in (1, 2)]
NETWORK = """<disk type='network' device='disk'><source protocol='rbd' name='{}'/>
<target dev='vdc' bus='virtio'/></disk>"""
NAMED_ALIKE = [
    domain(number, disk("rbd/x" if number == 1 else "/y"), NETWORK.format("x")) for number in (1, 2)
]


@pytest.mark.parametrize(
    "texts",
    [ALIKE, PARTED, STRANGE_PATHS, STRANGE_NAMES, DESCRIBED, ANNOTATED, NAMED_ALIKE],
    ids=["alike", "parted", "paths", "names", "described", "annotated", "named-alike"],
)
def test_each_is_read_as_if_it_were_alone(texts: list[str]) -> None:
    check(texts)
    check(texts[::-1])


def test_those_of_a_kind_are_parsed_once(parsed: list[str]) -> None:
    reader = TextReader()
    assert [reader.read(text).name for text in ALIKE] == ["vm1", "vm2", "vm3"]
    assert parsed == ALIKE[:1]


def test_a_file_that_became_two_is_parsed(parsed: list[str]) -> None:
    reader = TextReader()
    for text in PARTED:
        reader.read(text)
    assert parsed == PARTED


def test_words_that_only_look_like_a_file_are_not_taken_for_one(parsed: list[str]) -> None:
    """A comment alone can hold them, since the writer replaces quotes everywhere else."""
    reader = TextReader()
    for text in COMMENTED:
        reader.read(text)
    assert parsed == COMMENTED


def test_a_text_that_no_writer_makes_is_parsed_each_time(parsed: list[str]) -> None:
    texts = [text.replace("<driver name='qemu' ", "<driver  name='qemu' ") for text in ALIKE]
    reader = TextReader()
    assert [reader.read(text).to_xml() for text in texts] == ALIKE
    assert parsed == texts


@pytest.mark.parametrize("name", ["..", "a/b", "a\0b", "\0"])
def test_a_name_that_is_refused_is_refused_behind_another(name: str) -> None:
    first = domain(1, disk("/a"))
    reader = TextReader()
    reader.read(first)
    with pytest.raises(DriverError):
        reader.read(first.replace("vm1", name))


def test_a_text_that_pretends_to_be_a_shape_is_refused() -> None:
    first = domain(1, disk("/a"))
    reader = TextReader()
    reader.read(first)
    with pytest.raises(DriverError):
        reader.read(first.replace("vm1", "\0").replace("/a", "\0").replace("/base", "\0"))
