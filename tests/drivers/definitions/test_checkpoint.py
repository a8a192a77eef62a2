"""The checkpoint document: defaults of both modes, refusals, and the exact output."""

import pytest

from virtbackupd.drivers.definitions.checkpoint import (
    CheckpointDefinition,
    CheckpointDisk,
    format_checkpoint,
    parse_checkpoint,
)
from virtbackupd.drivers.errors import (
    DriverError,
    InternalError,
    Origin,
    XmlDetail,
    XmlError,
    XmlInvalidSchema,
)

NOW = 1_700_000_000
DOMAIN = (
    "<domain type='test'><name>d</name><uuid>00000000-0000-4000-8000-000000000001</uuid>"
    "<description>two\nlines</description><memory>1</memory>"
    "<devices><graphics type='vnc' passwd='secret'/></devices></domain>"
)


def document(inner: str) -> str:
    return f"<domaincheckpoint>{inner}</domaincheckpoint>"


def created(inner: str = "") -> CheckpointDefinition:
    return parse_checkpoint(document(inner), redefine=False, now=NOW)


def redefined(inner: str) -> CheckpointDefinition:
    return parse_checkpoint(document(inner), redefine=True, now=NOW)


def test_an_empty_document_has_a_name_from_the_time() -> None:
    assert created() == CheckpointDefinition(name=str(NOW), creation_time=NOW)


def test_name_and_description_are_kept() -> None:
    found = created("<name>c1</name><description>why\nso</description>")
    assert (found.name, found.description) == ("c1", "why\nso")


@pytest.mark.parametrize(
    "ignored",
    [
        "<creationTime>5</creationTime>",
        "<parent><name>p</name></parent>",
        "<domain><no-domain/></domain>",
    ],
)
def test_what_is_ignored_on_create(ignored: str) -> None:
    assert created(ignored) == created()


def test_disks() -> None:
    found = created(
        "<disks><disk name='vda'/><disk name='/b' checkpoint='no'/>"
        "<disk name='vdc' checkpoint='bitmap' bitmap='b' size='7'/></disks>"
    )
    assert found.disks == (
        CheckpointDisk("vda", "bitmap", None),
        CheckpointDisk("/b", "no", None),
        CheckpointDisk("vdc", "bitmap", "b"),
    )


def test_an_empty_bitmap_name_is_not_a_missing_one() -> None:
    (disk,) = created("<disks><disk name='vda' bitmap=''/></disks>").disks or ()
    assert disk.bitmap == ""


def test_disks_that_carry_a_bitmap() -> None:
    found = created("<disks><disk name='vda'/><disk name='vdb' checkpoint='no'/></disks>")
    assert [disk.name for disk in found.bitmap_disks] == ["vda"]


def test_finding_a_disk() -> None:
    found = created("<disks><disk name='vda' checkpoint='no'/></disks>")
    assert found.find_disk("vda") == CheckpointDisk("vda", "no")
    assert found.find_disk("vdb") is None


def test_redefine_takes_everything() -> None:
    found = redefined(
        "<name>c</name><parent><name>p</name></parent><creationTime>5</creationTime>"
        "<disks><disk name='vdz'/></disks>"
    )
    assert (found.name, found.parent, found.creation_time) == ("c", "p", 5)
    assert found.disks == (CheckpointDisk("vdz"),)
    assert found.domain_xml is None


def test_redefine_keeps_the_domain_with_its_secrets() -> None:
    found = redefined(f"<name>c</name><creationTime>5</creationTime>{DOMAIN}")
    assert found.domain_xml is not None
    assert found.domain_xml.startswith("<domain type='test'>\n  <name>d</name>\n")
    assert "passwd='secret'" in found.domain_xml


@pytest.mark.parametrize(
    ("xml", "error", "origin"),
    [
        ("<domaincheckpoint>", XmlDetail, Origin.DOMAIN_CHECKPOINT),
        ("<domainbackup/>", XmlError, Origin.XML),
        ("<domaincheckpoint><disks/></domaincheckpoint>", XmlInvalidSchema, Origin.XML),
        ("<domaincheckpoint><name>.a</name></domaincheckpoint>", XmlInvalidSchema, Origin.XML),
    ],
)
def test_refused_documents(xml: str, error: type[DriverError], origin: Origin) -> None:
    with pytest.raises(error) as caught:
        parse_checkpoint(xml, redefine=False, now=NOW)
    assert caught.value.origin is origin


def test_redefine_needs_a_name() -> None:
    with pytest.raises(XmlError) as caught:
        redefined("<creationTime>5</creationTime>")
    assert caught.value.origin is Origin.DOMAIN_CHECKPOINT


def test_redefine_needs_a_time() -> None:
    with pytest.raises(InternalError, match="creationTime") as caught:
        redefined("<name>c</name>")
    assert caught.value.origin is Origin.DOMAIN_CHECKPOINT


def test_redefine_checks_the_domain() -> None:
    with pytest.raises(XmlInvalidSchema, match="name") as caught:
        redefined("<name>c</name><creationTime>5</creationTime><domain type='x'/>")
    assert caught.value.origin is Origin.XML


def test_the_shortest_output() -> None:
    text = format_checkpoint(CheckpointDefinition("c", 0))
    assert text == "<domaincheckpoint>\n  <name>c</name>\n</domaincheckpoint>\n"


def test_the_full_output() -> None:
    definition = CheckpointDefinition(
        "c1",
        NOW,
        description="a < b",
        parent="c0",
        disks=(CheckpointDisk("vda", "bitmap", "c1"), CheckpointDisk("sda", "no")),
    )
    assert format_checkpoint(definition, sizes={"vda": 65536, "sda": 1}) == (
        "<domaincheckpoint>\n"
        "  <name>c1</name>\n"
        "  <description>a &lt; b</description>\n"
        "  <parent>\n"
        "    <name>c0</name>\n"
        "  </parent>\n"
        "  <creationTime>1700000000</creationTime>\n"
        "  <disks>\n"
        "    <disk name='vda' checkpoint='bitmap' bitmap='c1' size='65536'/>\n"
        "    <disk name='sda' checkpoint='no'/>\n"
        "  </disks>\n"
        "</domaincheckpoint>\n"
    )


def with_domain(*, secure: bool) -> str:
    found = redefined(f"<name>c</name><creationTime>5</creationTime>{DOMAIN}")
    return format_checkpoint(found, domain_xml=found.domain_xml, secure=secure)


def test_the_domain_is_indented_but_its_text_is_not() -> None:
    text = with_domain(secure=False)
    assert "\n  <domain type='test'>\n    <name>d</name>\n" in text
    assert "<description>two\nlines</description>" in text
    assert text.endswith("    </devices>\n  </domain>\n</domaincheckpoint>\n")


@pytest.mark.parametrize("secure", [True, False])
def test_secrets_are_shown_on_demand(*, secure: bool) -> None:
    assert ("passwd" in with_domain(secure=secure)) is secure


def test_the_output_can_be_redefined() -> None:
    once = with_domain(secure=True)
    again = parse_checkpoint(once, redefine=True, now=NOW)
    assert format_checkpoint(again, domain_xml=again.domain_xml, secure=True) == once
