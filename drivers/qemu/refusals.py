"""What of a domain document this driver models; anything else is refused by name, never dropped.

The grammar is a table: for each element, by its parent and its own name, the attributes and the
children that are known, and for some attributes the values. Whether the values fit together is for
the modules that build the machine.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from lxml import etree

from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.definitions.machine import QEMU_NAMESPACE
from virtbackupd.drivers.definitions.tree import attribute_pairs
from virtbackupd.drivers.errors import ConfigUnsupported
from virtbackupd.drivers.qemu.known_elements import ANY, ELEMENTS, REMEDIES, VALUES


class _Known(NamedTuple):
    attributes: frozenset[str]
    children: frozenset[str]


def check_supported(definition: DomainDefinition) -> None:
    """Refuse with 67 an element, attribute or value that this driver would have to ignore."""
    definition.view(lambda root: _check(root, "domain", f"domain {definition.name}"))


def check_device(device: etree._Element) -> None:
    """The same for one device that is to be plugged in."""
    _check(device, f"devices/{device.tag}", "the device document")


def _check(element: etree._Element, key: str, where: str) -> None:
    known = _GRAMMAR.get(key)
    if known is None:
        return
    _check_attributes(element, key, known, where)
    for child, name in _named_children(element):
        if name not in known.children:
            raise ConfigUnsupported(_message(f"<{name}> in <{_local(element)}>", name, where))
        _check(child, _key(element, name), where)


def _check_attributes(element: etree._Element, key: str, known: _Known, where: str) -> None:
    for name, value in attribute_pairs(element):
        if name not in known.attributes:
            what = f"attribute {name}={value!r} of <{_local(element)}>"
            raise ConfigUnsupported(_message(what, name, where))
        allowed = VALUES.get(f"{key}@{name}")
        if allowed is not None and value not in allowed.split():
            what = f"{name} {value!r} of <{_local(element)}>"
            raise ConfigUnsupported(_message(what, f"{key}@{name}={value}", where))


def _message(what: str, remedy: str, where: str) -> str:
    return f"{what} is not supported by this driver ({where}){REMEDIES.get(remedy, '')}"


def _named_children(element: etree._Element) -> Iterator[tuple[etree._Element, str]]:
    for child in element.iterchildren(tag=etree.Element):
        yield child, _qualified(child)


def _key(parent: etree._Element, name: str) -> str:
    return f"{_local(parent)}/{name}"


def _local(element: etree._Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _qualified(element: etree._Element) -> str:
    uri, _, local = str(element.tag).rpartition("}")
    if not uri:
        return local
    return f"qemu:{local}" if uri == f"{{{QEMU_NAMESPACE}" else f"{local} of {uri[1:]}"


def _grammar() -> Mapping[str, _Known]:
    """`ANY` as a child means that what is below is none of our business."""
    known = {}
    for key, text in ELEMENTS.items():
        attributes, _, children = text.partition("|")
        if children.strip() != ANY:
            known[key] = _Known(frozenset(attributes.split()), frozenset(children.split()))
    return MappingProxyType(known)


_GRAMMAR: Final = _grammar()
