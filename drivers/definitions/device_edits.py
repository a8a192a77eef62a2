"""Attach, detach and update of one device, given as its own XML document.

A device is found by what identifies it: a disk by its target, an interface by its MAC address,
anything else by having all that its XML says. Whether a running domain allows the change is a
driver's rule.
"""

from lxml import etree

from virtbackupd.drivers.definitions.document import parse_fragment
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.definitions.tree import attribute_pairs, child_attribute, is_element
from virtbackupd.drivers.errors import DeviceMissing, OperationFailed, OperationInvalid

_IDENTITY = {"disk": ("target", "dev"), "interface": ("mac", "address")}
"""The child and its attribute that identify a device, by the device's element."""


def attach_device(domain: DomainDefinition, xml: str) -> DomainDefinition:
    device = parse_fragment(xml, "device document")

    def edit(devices: etree._Element) -> None:
        key = _key(device)
        if key is not None and any(_key(other) == key for other in devices):
            raise OperationInvalid(f"domain {domain.name!r} has a {_label(device)} already")
        same_kind = devices.findall(device.tag)
        devices.insert(devices.index(same_kind[-1]) + 1 if same_kind else len(devices), device)

    return domain.edited_devices(edit)


def detach_device(domain: DomainDefinition, xml: str) -> DomainDefinition:
    device = parse_fragment(xml, "device document")

    def edit(devices: etree._Element) -> None:
        devices.remove(_matching(devices, device, domain.name))

    return domain.edited_devices(edit)


def update_device(domain: DomainDefinition, xml: str) -> DomainDefinition:
    """Put the device in the place of the one that it identifies."""
    device = parse_fragment(xml, "device document")

    def edit(devices: etree._Element) -> None:
        devices.replace(_matching(devices, device, domain.name), device)

    return domain.edited_devices(edit)


def _matching(devices: etree._Element, wanted: etree._Element, domain_name: str) -> etree._Element:
    found = [device for device in devices.iterchildren(wanted.tag) if _same(device, wanted)]
    if not found:
        raise DeviceMissing(f"domain {domain_name!r} has no {_label(wanted)}")
    if len(found) > 1 and wanted.tag in _IDENTITY:
        raise OperationFailed(
            f"domain {domain_name!r} has {len(found)} devices that fit this <{wanted.tag}>: add"
            f" <{_IDENTITY[wanted.tag][0]}> to say which one is meant"
        )
    return found[0]


def _same(device: etree._Element, wanted: etree._Element) -> bool:
    key = _key(wanted)
    if key is not None:
        return _key(device) == key
    return _includes(device, wanted)


def _includes(element: etree._Element, wanted: etree._Element) -> bool:
    """Whether all that the document says is so; what was filled in since does not matter."""
    if element.tag != wanted.tag or _text(element) != _text(wanted):
        return False
    if not set(attribute_pairs(wanted)) <= set(attribute_pairs(element)):
        return False
    return all(
        any(_includes(child, other) for child in element.iterchildren(other.tag))
        for other in wanted.iterchildren(tag=etree.Element)
    )


def _text(element: etree._Element) -> str:
    return (element.text or "").strip()


def _key(device: etree._Element) -> tuple[str, str] | None:
    if not is_element(device) or device.tag not in _IDENTITY:
        return None
    value = child_attribute(device, *_IDENTITY[device.tag])
    return None if value is None else (device.tag, value.lower())


def _label(device: etree._Element) -> str:
    key = _key(device)
    return f"<{device.tag}> device {key[1]!r}" if key else f"<{device.tag}> device like this"
