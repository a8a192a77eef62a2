"""Reading text from outside: every fault has its code, its origin and a line. No schema here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtbackupd.drivers.definitions.document import (
    parse_document,
    parse_fragment,
)
from virtbackupd.drivers.errors import DriverError, Origin, XmlDetail, XmlError
from virtbackupd.drivers.limits import DriverLimits

BILLION_LAUGHS = (
    '<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><r x="&c;">&c;&c;</r>'
)


def nested(levels: int) -> str:
    return "<r>" * levels + "</r>" * levels


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "no xml at all",
        "<r>",
        "<r></s>",
        "<r/><r/>",
        "<r a='1' a='2'/>",
        "<r>&unknown;</r>",
        "<r>\0</r>",
        "<r>&#0;</r>",
        "<r>\ud800</r>",
        "<x:r/>",
    ],
)
def test_what_is_not_well_formed_is_35(text: str) -> None:
    with pytest.raises(XmlDetail) as caught:
        parse_document(text, "r", origin=Origin.DOMAIN_CHECKPOINT)
    assert caught.value.origin is Origin.DOMAIN_CHECKPOINT


def test_the_line_of_the_fault_is_named() -> None:
    with pytest.raises(XmlDetail, match=r"^\(r document\):3: "):
        parse_document("<r>\n\n<s></r>", "r")


def test_the_line_of_a_lone_surrogate_is_named() -> None:
    with pytest.raises(XmlDetail, match=r"\):2: .*UTF-8"):
        parse_document("<r>\n\udc80</r>", "r")


def test_another_root_is_27_from_xml() -> None:
    with pytest.raises(XmlError, match="<s> where <r> is expected") as caught:
        parse_document("<s/>", "r", origin=Origin.DOMAIN_CHECKPOINT)
    assert caught.value.origin is Origin.XML


def test_an_encoding_declaration_does_not_matter() -> None:
    root = parse_document("<?xml version='1.0' encoding='ISO-8859-1'?><r>ä</r>", "r")
    assert root.text == "ä"


@pytest.mark.parametrize(
    "text",
    [
        "<!DOCTYPE r><r/>",
        '<!DOCTYPE r SYSTEM "file:///etc/passwd"><r/>',
        '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r>&x;</r>',
        BILLION_LAUGHS,
    ],
)
def test_a_doctype_is_refused(text: str) -> None:
    with pytest.raises(XmlDetail):
        parse_document(text, "r")


def test_the_deepest_allowed_document() -> None:
    assert parse_document(nested(DriverLimits().max_xml_depth), "r").tag == "r"


@pytest.mark.parametrize("levels", [DriverLimits().max_xml_depth + 1, 300, 100_000])
def test_deeper_documents_are_refused(levels: int) -> None:
    with pytest.raises(XmlDetail):
        parse_document(nested(levels), "r")


def test_the_largest_allowed_document() -> None:
    text = "<r>" + "x" * (DriverLimits().max_xml - 7) + "</r>"
    assert parse_document(text, "r").tag == "r"


def test_a_larger_document_is_refused() -> None:
    with pytest.raises(XmlDetail, match="at most 4194304"):
        parse_document("<r>" + "x" * DriverLimits().max_xml + "</r>", "r")


def test_a_fragment_may_have_any_root() -> None:
    assert parse_fragment("<disk/>", "device document").tag == "disk"


@given(st.text(st.characters(), max_size=40))
def test_only_driver_errors_come_out(noise: str) -> None:
    for text in (noise, f"<r>{noise}</r>", f"<r a='{noise}'/>"):
        try:
            parse_document(text, "r")
        except DriverError:
            continue
