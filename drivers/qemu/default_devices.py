"""The devices that a domain document leaves out, or names without all that clients read of them.

The result is what libvirt writes when a domain is defined. Controllers are for
`default_controllers`, addresses for `addresses`. Doing it again changes nothing.
"""

import secrets
from collections.abc import Callable, Iterable
from typing import Final

from lxml import etree

from virtbackupd.drivers.definitions.disk import normalise_disk
from virtbackupd.drivers.definitions.tree import (
    attribute_pairs,
    child_attribute,
    drop_attribute,
    has_child,
)
from virtbackupd.drivers.errors import ConfigUnsupported
from virtbackupd.drivers.qemu.default_controllers import complete_controllers

_DEVICE_ORDER: Final = (
    *("emulator", "disk", "controller", "interface", "serial", "console", "channel", "input"),
    *("graphics", "sound", "audio", "video", "watchdog", "memballoon", "rng", "panic"),
)


def complete_devices(devices: etree._Element, kind: str, emulator: str) -> None:
    """Add the devices and controllers that `kind` of machine has or that others need."""
    _device_child(devices, "emulator", emulator)
    for step in _STEPS:
        step(devices)
    complete_controllers(devices, kind)
    _sort_devices(devices)


def _complete_disks(devices: etree._Element) -> None:
    for disk in devices.iterchildren("disk"):
        complete_disk(disk)


def complete_disk(disk: etree._Element) -> None:
    """Name the driver, and spell out the target's bus."""
    target = normalise_disk(disk)
    for encryption in disk.iter("encryption"):
        secret = encryption.find("secret")
        if secret is None or not (secret.get("uuid") or secret.get("usage")):
            raise ConfigUnsupported(
                f"the <encryption> of disk {target!r} names no secret: add"
                " <secret type='passphrase' uuid='...'/>"
            )
    driver = disk.find("driver")
    if driver is None:
        driver = _new("driver")
        disk.insert(0, driver)
    options = {"name": "qemu", "type": "raw"} | dict(attribute_pairs(driver))
    _set_attributes(driver, options.items())


def _complete_interfaces(devices: etree._Element) -> None:
    for interface in devices.iterchildren("interface"):
        complete_interface(interface)


def complete_interface(interface: etree._Element) -> None:
    """Give the card a MAC address and a model."""
    mac = interface.find("mac")
    if mac is None:
        mac = _new("mac")
        interface.insert(0, mac)
    if not mac.get("address"):
        mac.set("address", _new_mac())
    if not has_child(interface, "model"):
        mac.addnext(_new("model", type="rtl8139"))


def _new_mac() -> str:
    # 52:54:00 is the prefix that all QEMU guests share.
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))


def _complete_consoles(devices: etree._Element) -> None:
    """The first console and the first serial port are one and the same device."""
    for console in devices.iterchildren("console"):
        target = console.find("target")
        if target is None:
            target = etree.SubElement(console, "target")
        target.set("type", target.get("type") or "serial")
    first = devices.find("console")
    if first is not None and child_attribute(first, "target", "type") == "serial":
        _mirror(devices, first, "serial")
    elif devices.find("serial") is not None and first is None:
        _mirror_serial(devices)
    for kind in ("serial", "console"):
        for port, element in enumerate(devices.iterchildren(kind)):
            _complete_port(element, kind, port)


def _mirror(devices: etree._Element, console: etree._Element, kind: str) -> None:
    if devices.find(kind) is not None:
        return
    serial = etree.SubElement(devices, kind)
    serial.set("type", console.get("type") or "pty")
    source = console.find("source")
    if source is not None:
        serial.append(_new("source", **dict(attribute_pairs(source))))


def _mirror_serial(devices: etree._Element) -> None:
    serial = devices.find("serial")
    if serial is not None and child_attribute(serial, "target", "type") in (None, "isa-serial"):
        console = etree.SubElement(devices, "console")
        _mirror_into(console, serial)


def _mirror_into(console: etree._Element, serial: etree._Element) -> None:
    console.set("type", serial.get("type") or "pty")
    source = serial.find("source")
    if source is not None:
        console.append(_new("source", **dict(attribute_pairs(source))))
    console.append(_new("target", type="serial"))


_SERIAL_MODELS: Final = {
    "isa-serial": "isa-serial",
    "pci-serial": "pci-serial",
    "usb-serial": "usb-serial",
}
_SERIAL_TARGETS: Final = {"isa": "isa-serial", "pci": "pci-serial", "usb": "usb-serial"}


def _complete_port(element: etree._Element, kind: str, port: int) -> None:
    target = element.find("target")
    if target is None:
        target = etree.SubElement(element, "target")
    if kind == "serial":
        given = target.get("type") or "isa-serial"
        target_type = _SERIAL_TARGETS.get(given, given)
        _set_first(target, "type", target_type)
        if not has_child(target, "model"):
            etree.SubElement(target, "model", name=_SERIAL_MODELS[target_type])
    target.set("port", target.get("port") or str(port))


def _set_first(element: etree._Element, name: str, value: str) -> None:
    others = [pair for pair in attribute_pairs(element) if pair[0] != name]
    _set_attributes(element, [(name, value), *others])


def _set_attributes(element: etree._Element, pairs: Iterable[tuple[str, str]]) -> None:
    """In this order, which is the order in which they are printed."""
    chosen = list(pairs)
    element.attrib.clear()
    for name, value in chosen:
        element.set(name, value)


def _complete_display(devices: etree._Element) -> None:
    graphics = devices.find("graphics")
    if graphics is None:
        return
    if graphics.get("port") is None and graphics.get("socket") is None and not _socket(graphics):
        graphics.set("port", "-1")
    if graphics.get("port") == "-1":
        graphics.set("autoport", "yes")
    if not has_child(graphics, "listen"):
        graphics.append(_listen(graphics))
    address = child_attribute(graphics, "listen", "address")
    if address is not None:
        graphics.set("listen", address)
    _device_child(devices, "audio", None, id="1", type="none")
    if devices.find("video") is None:
        video = etree.SubElement(devices, "video")
        etree.SubElement(video, "model", type="cirrus", vram="16384")
    _complete_videos(devices)
    for kind in ("mouse", "keyboard"):
        _add_input(devices, kind)


def _listen(graphics: etree._Element) -> etree._Element:
    if graphics.get("socket"):
        return _new("listen", type="socket", socket=graphics.get("socket") or "")
    address = graphics.get("listen")
    return _new("listen", type="address", **({"address": address} if address else {}))


def _socket(graphics: etree._Element) -> bool:
    return child_attribute(graphics, "listen", "type") in ("socket", "none")


def _complete_videos(devices: etree._Element) -> None:
    for index, video in enumerate(devices.iterchildren("video")):
        model = video.find("model")
        if model is None:
            model = etree.SubElement(video, "model", type="vga")
        if model.get("type") == "none":
            continue
        model.set("heads", model.get("heads") or "1")
        drop_attribute(model, "primary")
        if index == 0:
            model.set("primary", "yes")


def _add_input(devices: etree._Element, kind: str) -> None:
    if not any(
        known.get("type") == kind and known.get("bus") == "ps2"
        for known in devices.iterchildren("input")
    ):
        etree.SubElement(devices, "input", type=kind, bus="ps2")


def _complete_balloon(devices: etree._Element) -> None:
    _device_child(devices, "memballoon", None, model="virtio")


def _complete_inputs(devices: etree._Element) -> None:
    for element in devices.iterchildren("input"):
        if not element.get("bus"):
            element.set("bus", "usb" if element.get("type") == "tablet" else "ps2")


_STEPS: Final[tuple[Callable[[etree._Element], None], ...]] = (
    _complete_disks,
    _complete_interfaces,
    _complete_consoles,
    _complete_inputs,
    _complete_display,
    _complete_videos,
    _complete_balloon,
)


def _device_child(devices: etree._Element, tag: str, text: str | None, **attributes: str) -> None:
    if devices.find(tag) is None:
        etree.SubElement(devices, tag, attributes).text = text


def _sort_devices(devices: etree._Element) -> None:
    places = {tag: place for place, tag in enumerate(_DEVICE_ORDER)}
    devices[:] = sorted(devices, key=lambda device: places.get(str(device.tag), len(places)))


def _new(tag: str, **attributes: str) -> etree._Element:
    return etree.Element(tag, attributes)
