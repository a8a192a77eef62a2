"""Small typed reads and edits on an lxml tree that every definition shares.

No element is known here by name.
"""

from collections.abc import Sequence

from lxml import etree

from virtbackupd.drivers.errors import Origin, XmlError


def child_text(element: etree._Element, path: str) -> str | None:
    """The text at `path`, or None when the element is absent or empty."""
    return element.findtext(path) or None


def child_attribute(element: etree._Element, path: str, name: str) -> str | None:
    found = element.find(path)
    return None if found is None else found.get(name)


def is_element(node: etree._Element) -> bool:
    """False for the comments and processing instructions among an element's children."""
    return isinstance(node.tag, str)


def attribute_pairs(element: etree._Element) -> list[tuple[str, str]]:
    return [(str(name), str(value)) for name, value in element.attrib.items()]


def drop_attribute(element: etree._Element, name: str) -> None:
    if name in element.attrib:
        del element.attrib[name]


def has_child(element: etree._Element, path: str) -> bool:
    return element.find(path) is not None


def number(text: str, what: str, *, limit: int = 2**64 - 1, origin: Origin | None = None) -> int:
    """An unsigned decimal number up to `limit`; anything else is an `XmlError` naming `what`."""
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 20 and int(digits) <= limit):
        raise XmlError(
            f"{what} is {text!r}, it must be a whole number from 0 to {limit}", origin=origin
        )
    return int(digits)


def insert_in_order(root: etree._Element, child: etree._Element, order: Sequence[str]) -> None:
    """Put `child` behind the nearest element that precedes it in `order`, else first."""
    for tag in reversed(order[: order.index(str(child.tag))]):
        earlier = root.findall(tag)
        if earlier:
            root.insert(root.index(earlier[-1]) + 1, child)
            return
    root.insert(0, child)


def set_child_text(
    root: etree._Element, tag: str, text: str | None, order: Sequence[str]
) -> etree._Element | None:
    """Make `tag` hold `text`, creating it in its place; None removes it."""
    child = root.find(tag)
    if text is None:
        if child is not None:
            root.remove(child)
        return None
    if child is None:
        child = etree.Element(tag)
        insert_in_order(root, child, order)
    child.text = text
    return child
