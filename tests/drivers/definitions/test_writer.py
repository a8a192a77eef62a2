"""Trees as text: libvirt's look, and never another meaning. Knows no particular document."""

import string
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from virtbackupd.drivers.definitions.writer import (
    attributes,
    element_line,
    escape_text,
    format_element,
)

NAMES = st.text(string.ascii_lowercase, min_size=1, max_size=5).filter(
    lambda name: not name.startswith("xml")  # reserved (XML 1.0, 2.3)
)
TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs"], include_characters="\n\t"))
VALUES = st.text(st.characters(exclude_categories=["Cc", "Cs"], include_characters="\n\t\r"))


@st.composite
def documents(draw: st.DrawFn, depth: int = 3) -> str:
    uri = draw(st.sampled_from([None, "urn:a", "urn:b"]))
    prefix = None if uri is None else draw(st.sampled_from([None, "p", "q"]))
    name = draw(NAMES) if prefix is None else f"{prefix}:{draw(NAMES)}"
    pairs = draw(st.dictionaries(NAMES, VALUES, max_size=3))
    if prefix is not None:
        pairs[f"{prefix}:marked"] = draw(VALUES)
    if uri is not None:
        pairs["xmlns" if prefix is None else f"xmlns:{prefix}"] = uri
    start = name + "".join(f" {key}={quoteattr(value)}" for key, value in pairs.items())
    inner = "".join(draw(st.lists(documents(depth=depth - 1), max_size=depth)))
    return f"<{start}>{escape(draw(TEXTS))}{inner}</{name}>"


Meaning = tuple[str, dict[str, str], list["str | Meaning"]]


def meaning(node: etree._Element) -> Meaning:
    """Equal for documents that mean the same, whatever white space stands between elements."""
    inner: list[str | Meaning] = [(node.text or "").strip()]
    for child in node:
        inner += [meaning(child), (child.tail or "").strip()]
    return node.tag, {str(key): str(value) for key, value in node.attrib.items()}, inner


@given(documents())
def test_a_written_tree_reads_back_as_the_same(text: str) -> None:
    read = etree.fromstring(text)
    assert meaning(etree.fromstring(format_element(read))) == meaning(read)


@given(documents())
def test_writing_again_changes_nothing(text: str) -> None:
    once = format_element(etree.fromstring(text))
    assert format_element(etree.fromstring(once)) == once


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("<a/>", "<a/>\n"),
        ("<a></a>", "<a/>\n"),
        ("<a> </a>", "<a> </a>\n"),
        ('<a b="1" c="2"/>', "<a b='1' c='2'/>\n"),
        ("<a><b/><c>t</c></a>", "<a>\n  <b/>\n  <c>t</c>\n</a>\n"),
        ("<a>\n\t\t<b/>\n</a>", "<a>\n  <b/>\n</a>\n"),
        ("<a>x<b> <c/> </b>y</a>", "<a>x<b> <c></c> </b>y</a>\n"),
        ("<a><!-- c --><b/></a>", "<a>\n  <!-- c -->\n  <b/>\n</a>\n"),
        ("<a><?p i?></a>", "<a>\n  <?p i?>\n</a>\n"),
        ("<a b='&lt;&quot;&apos;&#10;'/>", "<a b='&lt;&quot;&apos;&#10;'/>\n"),
        ("<a>&amp;&gt;\n  '</a>", "<a>&amp;&gt;\n  &apos;</a>\n"),
        ("<a xml:lang='de'/>", "<a xml:lang='de'/>\n"),
        ("<a xmlns='u'><b xmlns=''/></a>", "<a xmlns='u'>\n  <b xmlns=''/>\n</a>\n"),
        ("<a xmlns:p='u'><p:b p:c=''/></a>", "<a xmlns:p='u'>\n  <p:b p:c=''/>\n</a>\n"),
    ],
)
def test_forms(text: str, written: str) -> None:
    assert format_element(etree.fromstring(text)) == written


def test_depth_indents_lines_but_not_text() -> None:
    node = etree.fromstring("<a><b>one\ntwo</b></a>")
    assert format_element(node, 1) == "  <a>\n    <b>one\ntwo</b>\n  </a>\n"


def test_namespaces_of_an_outer_element_are_not_repeated() -> None:
    root = etree.fromstring("<a xmlns:p='u'><p:b/></a>")
    assert format_element(root[0]) == "<p:b/>\n"


def test_attributes_without_a_value_are_left_out() -> None:
    assert attributes((("a", "1"), ("b", None), ("c", ""))) == " a='1' c=''"


def test_element_line() -> None:
    assert element_line(2, "name", "a<b") == "    <name>a&lt;b</name>\n"


@given(VALUES)
def test_escaped_text_reads_back(text: str) -> None:
    assert (etree.fromstring(f"<a>{escape_text(text)}</a>").text or "") == text
