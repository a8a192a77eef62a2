"""Text from outside to a checked lxml tree: size, depth, entities, root element, schema.

Every failure is a `DriverError` with libvirt's code and origin for it (a caller's document can
never raise anything else). This module knows no element of any particular document.
"""

from functools import cache

from lxml import etree

from virtbackupd.drivers.definitions.schema import Schema
from virtbackupd.drivers.errors import Origin, XmlDetail, XmlError
from virtbackupd.drivers.limits import limits


def parse_document(
    text: str,
    root_tag: str,
    *,
    origin: Origin = Origin.DOMAIN,
    schema: Schema | None = None,
) -> etree._Element:
    """Return the root element, or refuse: 35 (with `origin`), 27 or 92 (both with Origin.XML)."""
    root = parse_fragment(text, f"{root_tag} document", origin=origin)
    if root.tag != root_tag:
        raise XmlError(
            f"the root element is <{root.tag}> where <{root_tag}> is expected", origin=Origin.XML
        )
    if schema is not None:
        schema.validate(root)
    return root


def parse_fragment(text: str, what: str, *, origin: Origin = Origin.DOMAIN) -> etree._Element:
    """Parse one element of any name; `what` is how errors call the text."""
    data = _encoded(text, what, origin)
    try:
        root = etree.fromstring(data, _parser())
    except etree.XMLSyntaxError as error:
        raise XmlDetail(f"({what}):{error.lineno or 1}: {_reason(error)}", origin=origin) from None
    _check_tree(root, what, origin)
    return root


def _encoded(text: str, what: str, origin: Origin) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise XmlDetail(f"({what}):{line}: the text is not valid UTF-8", origin=origin) from None
    allowed = limits()
    if len(data) > allowed.max_xml:
        allowed.reached["max_xml"] += 1
        raise XmlDetail(
            f"({what}):1: the text has {len(data)} bytes, at most {allowed.max_xml} are"
            " read (max_xml)",
            origin=origin,
        )
    return data


def _parser() -> etree.XMLParser:
    # One parser each time: lxml parsers keep an error log and lock, and making one costs 10 us.
    return etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
    )


def _check_tree(root: etree._Element, what: str, origin: Origin) -> None:
    if root.getroottree().docinfo.doctype:  # type: ignore[attr-defined]  # lxml-stubs
        raise XmlDetail(f"({what}):1: a DOCTYPE is not allowed, remove it", origin=origin)
    check_depth(root, what, origin=origin)


def check_depth(
    root: etree._Element, what: str, *, outside: int = 0, origin: Origin = Origin.DOMAIN
) -> None:
    """Refuse what is too deep, given that so many elements stand around it."""
    allowed = limits()
    limit = allowed.max_xml_depth - outside
    if _deeper_than(limit)(root):
        allowed.reached["max_xml_depth"] += 1
        raise XmlDetail(
            f"({what}):1: more than {limit} nested elements (max_xml_depth)", origin=origin
        )


@cache
def _deeper_than(limit: int) -> etree.XPath:
    return etree.XPath("boolean(self::*" + "/*" * limit + ")")


def _reason(error: etree.XMLSyntaxError) -> str:
    return (error.msg or "not well formed").split(", line ")[0].strip()
