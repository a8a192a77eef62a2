"""An lxml tree as text the way libvirt prints it: single quotes, two-space indent, no prolog.

Scripts in the field match on that form. Elements that hold text beside child elements are printed
as they are; only white space between elements is ours to choose. Knows no element by name.
"""

from collections.abc import Iterable, Mapping

from lxml import etree

from virtbackupd.drivers.definitions.tree import attribute_pairs, is_element

INDENT = "  "
_XML_NAMESPACE = "http://www.w3.org/XML/1998/namespace"
_TEXT_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&apos;", '"': "&quot;", "\r": "&#13;"}
)
# A literal line break or tab in an attribute would come back as a space (XML 1.0, 3.3.3).
_ATTRIBUTE_ESCAPES = _TEXT_ESCAPES | {ord("\n"): "&#10;", ord("\t"): "&#9;"}


def escape_text(value: str) -> str:
    return value.translate(_TEXT_ESCAPES)


def attributes(pairs: Iterable[tuple[str, str | None]]) -> str:
    """The attributes that have a value, each with its leading space."""
    return "".join(
        f" {name}='{value.translate(_ATTRIBUTE_ESCAPES)}'"
        for name, value in pairs
        if value is not None
    )


def element_line(depth: int, tag: str, text: str) -> str:
    return f"{INDENT * depth}<{tag}>{escape_text(text)}</{tag}>\n"


def format_element(element: etree._Element, depth: int = 0) -> str:
    """The element and all below it; every line ends with a line feed."""
    pieces: list[str] = []
    _write(element, depth, dict(_outer_namespaces(element)), pieces)
    return "".join(pieces)


def _outer_namespaces(element: etree._Element) -> Mapping[str | None, str]:
    parent = element.getparent()
    return {} if parent is None else parent.nsmap


def _write(
    node: etree._Element, depth: int, scope: Mapping[str | None, str], out: list[str]
) -> None:
    pad = INDENT * depth
    if not is_element(node):
        out.append(f"{pad}{_opaque(node)}\n")
        return
    scope, start, name = _start_tag(node, scope)
    if len(node) == 0:
        out.append(f"{pad}{start}{_leaf_end(node, name)}\n")
    elif _is_mixed(node):
        out.append(f"{pad}{start}>")
        _write_verbatim_content(node, scope, out)
        out.append(f"</{name}>\n")
    else:
        out.append(f"{pad}{start}>\n")
        for child in node:
            _write(child, depth + 1, scope, out)
        out.append(f"{pad}</{name}>\n")


def _leaf_end(node: etree._Element, name: str) -> str:
    text = node.text or ""
    if text.isspace() and "\n" in text:  # indentation left over from children that are gone
        text = ""
    return f">{escape_text(text)}</{name}>" if text else "/>"


def _is_mixed(node: etree._Element) -> bool:
    if node.text and not node.text.isspace():
        return True
    return any(child.tail and not child.tail.isspace() for child in node)


def _write_verbatim_content(
    node: etree._Element, scope: Mapping[str | None, str], out: list[str]
) -> None:
    out.append(escape_text(node.text or ""))
    for child in node:
        if is_element(child):
            inner, start, name = _start_tag(child, scope)
            out.append(f"{start}>")
            _write_verbatim_content(child, inner, out)
            out.append(f"</{name}>")
        else:
            out.append(_opaque(child))
        out.append(escape_text(child.tail or ""))


def _opaque(node: etree._Element) -> str:
    """A comment or a processing instruction, as it was written."""
    return etree.tostring(node, encoding="unicode", with_tail=False)


def _start_tag(
    node: etree._Element, scope: Mapping[str | None, str]
) -> tuple[Mapping[str | None, str], str, str]:
    """The namespaces in force inside, the start tag without its closing bracket, and its name."""
    mine = node.nsmap if node.nsmap != scope else scope
    name = _qualified(node.tag, node.prefix)
    start = f"<{name}{attributes(_plain_attributes(node, mine))}"
    return mine, start + attributes(_declarations(mine, scope)), name


def _plain_attributes(
    node: etree._Element, scope: Mapping[str | None, str]
) -> Iterable[tuple[str, str]]:
    for key, value in attribute_pairs(node):
        yield (key if key[0] != "{" else _attribute_name(key, scope)), value


def _declarations(
    mine: Mapping[str | None, str], outer: Mapping[str | None, str]
) -> Iterable[tuple[str, str]]:
    for prefix, uri in mine.items():
        if outer.get(prefix) != uri:
            yield (f"xmlns:{prefix}" if prefix else "xmlns"), uri
    if None in outer and None not in mine:
        yield "xmlns", ""


def _qualified(tag: str, prefix: str | None) -> str:
    local = tag.rpartition("}")[2]
    return f"{prefix}:{local}" if prefix else local


def _attribute_name(key: str, scope: Mapping[str | None, str]) -> str:
    uri, _, local = key[1:].partition("}")
    if uri == _XML_NAMESPACE:
        return f"xml:{local}"
    prefix = next((prefix for prefix, known in scope.items() if prefix and known == uri), None)
    return _qualified(local, prefix)
