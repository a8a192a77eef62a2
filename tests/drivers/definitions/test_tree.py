"""The small helpers on trees: numbers and the place of new elements."""

import pytest
from lxml import etree

from virtbackupd.drivers.definitions.tree import (
    child_attribute,
    child_text,
    number,
    set_child_text,
)
from virtbackupd.drivers.errors import Origin, XmlError

ORDER = ("one", "two", "three", "four")


def tags(root: etree._Element) -> list[str]:
    return [str(child.tag) for child in root]


@pytest.mark.parametrize(("text", "value"), [("0", 0), (" 7\n", 7), (str(2**64 - 1), 2**64 - 1)])
def test_numbers(text: str, value: int) -> None:
    assert number(text, "x") == value


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "0x1", "٣", "1 2", "9" * 5000, str(2**64)])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(XmlError, match=r"^x is "):
        number(text, "x")


def test_a_limit_and_an_origin() -> None:
    with pytest.raises(XmlError) as caught:
        number("11", "x", limit=10, origin=Origin.SECRET)
    assert caught.value.origin is Origin.SECRET


@pytest.mark.parametrize(
    ("before", "tag", "after"),
    [
        ("<r/>", "two", ["two"]),
        ("<r><other/></r>", "two", ["two", "other"]),
        ("<r><one/><other/></r>", "two", ["one", "two", "other"]),
        ("<r><one/><one/><four/></r>", "three", ["one", "one", "three", "four"]),
        ("<r><four/><two/><one/></r>", "three", ["four", "two", "three", "one"]),
        ("<r><two/></r>", "two", ["two"]),
    ],
)
def test_a_new_element_goes_to_its_place(before: str, tag: str, after: list[str]) -> None:
    root = etree.fromstring(before)
    set_child_text(root, tag, "t", ORDER)
    assert tags(root) == after
    assert root.findtext(tag) == "t"


def test_none_removes_an_element() -> None:
    root = etree.fromstring("<r><one>t</one></r>")
    set_child_text(root, "one", None, ORDER)
    assert tags(root) == []


def test_removing_what_is_absent_is_nothing() -> None:
    assert set_child_text(etree.fromstring("<r/>"), "one", None, ORDER) is None


def test_an_empty_element_has_no_text() -> None:
    assert child_text(etree.fromstring("<r><one/></r>"), "one") is None


def test_the_attribute_of_an_absent_child() -> None:
    assert child_attribute(etree.fromstring("<r/>"), "one", "a") is None
