"""Fills in what a domain document may leave out, and refuses what makes no sense.

The result is canonical: reading it again changes nothing. Only elements that clients rely on are
added; everything else in the tree stays as its author wrote it.
"""

import re
from uuid import UUID, uuid4

from lxml import etree

from virtbackupd.drivers.definitions.disk import normalise_disk
from virtbackupd.drivers.definitions.sizes import kibibytes
from virtbackupd.drivers.definitions.tree import (
    attribute_pairs,
    child_text,
    drop_attribute,
    number,
    set_child_text,
)
from virtbackupd.drivers.errors import NoName, XmlError

ORDER = (
    "name",
    "uuid",
    "genid",
    "title",
    "description",
    "metadata",
    "maxMemory",
    "memory",
    "currentMemory",
    "memoryBacking",
    "memtune",
    "numatune",
    "vcpu",
)
"""libvirt's order of the elements that we may have to add."""

_UUID = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
_MAX_VCPUS = 2**16 - 1


def normalise_domain(root: etree._Element) -> None:
    name = _checked_name(root)
    _normalise_type(root, name)
    _normalise_uuid(root, name)
    _check_title(root, name)
    _normalise_memory(root, name)
    most, count = read_vcpus(root)
    set_vcpus(root, count, most)
    _normalise_disks(root, name)


def devices_of(root: etree._Element) -> etree._Element:
    devices = root.find("devices")
    return etree.SubElement(root, "devices") if devices is None else devices


def read_vcpus(root: etree._Element) -> tuple[int, int]:
    """The maximum and the current number."""
    element = root.find("vcpu")
    if element is None:
        return 1, 1
    most = number(element.text or "1", "the number of virtual CPUs", limit=_MAX_VCPUS)
    count = number(element.get("current") or str(most), "the number of current virtual CPUs")
    if not 0 < count <= most:
        raise XmlError(f"{count} of {most} virtual CPUs cannot be in use, allowed is 1 to {most}")
    return most, count


def set_vcpus(root: etree._Element, count: int, most: int) -> None:
    element = set_child_text(root, "vcpu", str(most), ORDER)
    if element is None:
        return
    if element.get("placement") is None:
        _set_attribute_first(element, "placement", "static")
    drop_attribute(element, "current")
    if count != most:
        element.set("current", str(count))


def set_kibibytes(root: etree._Element, tag: str, size: int) -> None:
    element = set_child_text(root, tag, str(size), ORDER)
    if element is not None:
        element.set("unit", "KiB")


def _checked_name(root: etree._Element) -> str:
    name = root.findtext("name", "")
    if not name:
        raise NoName("the domain document: add a <name> element")
    if "/" in name or "\n" in name or name in (".", ".."):
        raise XmlError(
            f"the domain name {name!r} cannot be a file name: it has '/' or a line break"
        )
    return name


def _normalise_type(root: etree._Element, name: str) -> None:
    drop_attribute(root, "id")
    type_ = root.get("type")
    if not type_:
        raise XmlError(f"domain {name!r} has no type attribute, for example <domain type='test'>")
    _set_attribute_first(root, "type", type_)


def _set_attribute_first(element: etree._Element, name: str, value: str) -> None:
    others = attribute_pairs(element)
    element.attrib.clear()
    element.set(name, value)
    for key, old in others:
        if key != name:
            element.set(key, old)


def _normalise_uuid(root: etree._Element, name: str) -> None:
    text = child_text(root, "uuid")
    if text is not None and not _UUID.fullmatch(text.strip()):
        raise XmlError(f"domain {name!r} has the malformed UUID {text!r}")
    uuid = uuid4() if text is None else UUID(text.strip())
    set_child_text(root, "uuid", str(uuid), ORDER)


def _check_title(root: etree._Element, name: str) -> None:
    if "\n" in (child_text(root, "title") or ""):
        raise XmlError(f"the title of domain {name!r} has a line break, it must be a single line")


def _normalise_memory(root: etree._Element, name: str) -> None:
    most = _size(root, "memory")
    if not most:
        raise XmlError(f"domain {name!r} has no memory size: add a <memory> element")
    set_kibibytes(root, "memory", most)
    set_kibibytes(root, "currentMemory", min(_size(root, "currentMemory") or most, most))


def _size(root: etree._Element, tag: str) -> int | None:
    element = root.find(tag)
    if element is None:
        return None
    return kibibytes(element.text or "", element.get("unit"), f"<{tag}>")


def _normalise_disks(root: etree._Element, name: str) -> None:
    seen = set()
    for element in devices_of(root).iterchildren("disk"):
        target = normalise_disk(element)
        if target in seen:
            raise XmlError(f"domain {name!r} has two disks with the target {target!r}")
        seen.add(target)
