"""The `<metadata>` of a domain: one application's element for each namespace URI.

Callers hand over and receive elements without their namespace; inside the document each carries
its URI under the prefix that the caller chose. Any other content of `<metadata>` is left alone.
"""

from copy import deepcopy

from lxml import etree

from virtbackupd.drivers.definitions.document import parse_fragment
from virtbackupd.drivers.definitions.tree import attribute_pairs, insert_in_order, is_element
from virtbackupd.drivers.definitions.writer import format_element
from virtbackupd.drivers.errors import InvalidArgument, Origin

_ORDER = ("name", "uuid", "genid", "title", "description", "metadata")


def find_metadata(root: etree._Element, uri: str) -> str | None:
    """The element kept for `uri` with that namespace taken off, or None."""
    found = _find(root, uri)
    if found is None:
        return None
    plain = deepcopy(found)
    for element in plain.iter(f"{{{uri}}}*"):
        element.tag = etree.QName(element).localname
    etree.cleanup_namespaces(plain)
    return format_element(plain).rstrip("\n")


def set_metadata(root: etree._Element, uri: str, prefix: str, xml: str | None) -> None:
    """Put `xml` in place of what is kept for `uri`; None only removes that."""
    new = None if xml is None else _qualified(_parsed(xml), uri, prefix)
    old = _find(root, uri)
    if old is not None:
        _container(root).remove(old)
    if new is not None:
        _container(root).append(new)


def _find(root: etree._Element, uri: str) -> etree._Element | None:
    container = root.find("metadata")
    if container is None:
        return None
    return next((child for child in container if _namespace(child) == uri), None)


def _namespace(node: etree._Element) -> str | None:
    return etree.QName(node).namespace if is_element(node) else None


def _container(root: etree._Element) -> etree._Element:
    container = root.find("metadata")
    if container is None:
        container = etree.Element("metadata")
        insert_in_order(root, container, _ORDER)
    return container


def _parsed(xml: str) -> etree._Element:
    element = parse_fragment(xml, "metadata element", origin=Origin.DOMAIN)
    if _namespace(element) is not None:
        raise InvalidArgument(
            f"the metadata element <{etree.QName(element).localname}> has a namespace of its own,"
            " leave it out: it is set from the URI of the call"
        )
    return element


def _qualified(element: etree._Element, uri: str, prefix: str) -> etree._Element:
    """`element` and all below it without a namespace of their own, in the namespace `uri`."""
    nsmap = {key: known for key, known in element.nsmap.items() if key is not None}
    try:
        name = etree.QName(uri, element.tag)
        outer = etree.Element(name, dict(attribute_pairs(element)), nsmap=nsmap | {prefix: uri})
    except ValueError as error:
        raise InvalidArgument(
            f"the metadata key {prefix!r} with the URI {uri!r} cannot be used in XML: {error}"
        ) from None
    outer.text = element.text
    outer.extend(list(element))
    for inner in outer.iter():
        if is_element(inner) and _namespace(inner) is None:
            inner.tag = str(etree.QName(uri, inner.tag))
    return outer
