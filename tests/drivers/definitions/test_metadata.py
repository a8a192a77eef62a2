"""Applications' elements in `<metadata>`: in under a namespace, out without it."""

import pytest

from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.errors import InvalidArgument, XmlDetail

URI = "urn:app"


def domain(metadata: str = "") -> DomainDefinition:
    return DomainDefinition.parse(
        f"<domain type='test'><name>d</name><memory>1</memory>{metadata}</domain>"
    )


def test_what_was_set_is_found() -> None:
    changed = domain().with_metadata(URI, "app", "<state a='1'><deep>x</deep></state>")
    assert changed.metadata(URI) == "<state a='1'>\n  <deep>x</deep>\n</state>"


def test_it_stands_in_the_document_under_its_prefix() -> None:
    changed = domain().with_metadata(URI, "app", "<state/>")
    assert f"  <metadata>\n    <app:state xmlns:app='{URI}'/>\n  </metadata>\n" in changed.to_xml()


def test_it_survives_a_round_trip() -> None:
    changed = domain().with_metadata(URI, "app", "<state><deep/></state>")
    assert DomainDefinition.parse(changed.to_xml()).metadata(URI) == changed.metadata(URI)


def test_setting_again_replaces() -> None:
    changed = domain().with_metadata(URI, "app", "<one/>").with_metadata(URI, "app", "<two/>")
    assert changed.to_xml().count(URI) == 1
    assert changed.metadata(URI) == "<two/>"


def test_none_removes() -> None:
    changed = domain().with_metadata(URI, "app", "<one/>").with_metadata(URI, "app", None)
    assert changed.metadata(URI) is None


def test_removing_from_nothing() -> None:
    assert domain().with_metadata(URI, "app", None).metadata(URI) is None


def test_others_are_left_alone() -> None:
    before = domain("<metadata><!-- c --><o:other xmlns:o='urn:o'>t</o:other></metadata>")
    after = before.with_metadata(URI, "app", "<one/>").with_metadata(URI, "app", None)
    assert after.to_xml() == before.to_xml()


def test_foreign_namespaces_inside_stay() -> None:
    changed = domain().with_metadata(URI, "app", "<one><f:x xmlns:f='urn:f' f:a='1'/></one>")
    assert changed.metadata(URI) == "<one>\n  <f:x f:a='1' xmlns:f='urn:f'/>\n</one>"


def test_the_old_definition_is_unchanged() -> None:
    before = domain()
    before.with_metadata(URI, "app", "<one/>")
    assert before.metadata(URI) is None


def test_an_element_with_a_namespace_of_its_own_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="namespace of its own"):
        domain().with_metadata(URI, "app", "<one xmlns='urn:x'/>")


@pytest.mark.parametrize(
    ("uri", "prefix"), [(URI, "1a"), (URI, "a b"), (URI, ""), ("\0", "a"), ("", "a")]
)
def test_keys_and_uris_that_xml_cannot_hold(uri: str, prefix: str) -> None:
    with pytest.raises(InvalidArgument):
        domain().with_metadata(uri, prefix, "<one/>")


def test_malformed_text_is_refused() -> None:
    with pytest.raises(XmlDetail, match="metadata element"):
        domain().with_metadata(URI, "app", "<one>")


def test_too_deep_an_element_is_refused() -> None:
    with pytest.raises(XmlDetail, match="nested"):
        domain().with_metadata(URI, "app", "<a>" * 63 + "</a>" * 63)
