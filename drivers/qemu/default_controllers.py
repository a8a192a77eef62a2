"""The controllers that a domain document leaves out, or names without a number or model.

A machine has some by its kind; others are there because a disk or a port sits on them. Doing it
again changes nothing.
"""

from itertools import count
from typing import Final

from lxml import etree

from virtbackupd.drivers.definitions.tree import attribute_pairs, child_attribute, number

_USB_DEFAULT: Final = {"pc": "piix3-uhci", "q35": "qemu-xhci"}
_MAX_INDEX: Final = 255


def complete_controllers(devices: etree._Element, kind: str) -> None:
    """Number the controllers, and add those that `kind` of machine has or that others need."""
    _number_controllers(devices)
    root = "pcie-root" if kind == "q35" else "pci-root"
    _add_controller(devices, "pci", 0, root)
    if not _has_usb(devices):
        _add_controller(devices, "usb", 0, _USB_DEFAULT[kind])
    if kind == "q35":
        _add_controller(devices, "sata", 0)
    for controller in devices.iterchildren("controller"):
        _complete_model(controller, kind)
    add_needed_controllers(devices)


def _has_usb(devices: etree._Element) -> bool:
    return any(it.get("type") == "usb" for it in devices.iterchildren("controller"))


def _complete_model(controller: etree._Element, kind: str) -> None:
    if controller.get("model"):
        return
    match controller.get("type"):
        case "usb":
            controller.set("model", _USB_DEFAULT[kind])
        case "scsi":
            controller.set("model", "lsilogic")


def add_needed_controllers(devices: etree._Element) -> None:
    """Add the controllers that disks and ports have addresses on, or would sit on by default."""
    for disk in devices.iterchildren("disk"):
        bus = child_attribute(disk, "target", "bus")
        if bus in ("ide", "sata", "scsi", "fdc"):
            _add_controller(devices, bus, _drive_controller(disk))
    if _has_virtio_port(devices):
        _add_controller(devices, "virtio-serial", 0)


def _drive_controller(disk: etree._Element) -> int:
    text = child_attribute(disk, "address", "controller") or "0"
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0


def _has_virtio_port(devices: etree._Element) -> bool:
    return any(
        child_attribute(port, "target", "type") == "virtio"
        for port in devices.iterchildren("console", "channel")
    )


def _number_controllers(devices: etree._Element) -> None:
    for controller in devices.iterchildren("controller"):
        _check_numbers(controller)
    for controller in devices.iterchildren("controller"):
        if controller.get("index") is None:
            kind = controller.get("type", "")
            taken = _indexes(devices, kind)
            first = 1 if kind == "pci" and not str(controller.get("model")).endswith("-root") else 0
            free = next(number for number in count(first) if number not in taken)
            _set_second(controller, "index", str(free))


def _check_numbers(controller: etree._Element) -> None:
    for name in ("index", "ports"):
        text = controller.get(name)
        if text is not None:
            number(text, f"the {name} of a <controller>", limit=_MAX_INDEX)


def _set_second(element: etree._Element, name: str, value: str) -> None:
    pairs = attribute_pairs(element)
    pairs.insert(1, (name, value))
    element.attrib.clear()
    for key, text in pairs:
        element.set(key, text)


def _indexes(devices: etree._Element, kind: str) -> set[int]:
    return {
        int(controller.get("index", "0"))
        for controller in devices.iterchildren("controller")
        if controller.get("type") == kind and controller.get("index") is not None
    }


def _add_controller(
    devices: etree._Element, kind: str, index: int, model: str | None = None
) -> None:
    if index in _indexes(devices, kind):
        return
    options = {"type": kind, "index": str(index)}
    if kind == "scsi" and model is None:
        model = _sibling_model(devices) or "lsilogic"
    etree.SubElement(devices, "controller", options | ({"model": model} if model else {}))


def _sibling_model(devices: etree._Element) -> str | None:
    """A further SCSI controller is of the kind of the one before it."""
    models = [
        it.get("model") for it in devices.iterchildren("controller") if it.get("type") == "scsi"
    ]
    return models[-1] if models else None
