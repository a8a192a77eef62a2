"""Every device of a domain as one typed record: what a driver needs to build the machine.

Disks and statistics have smaller views in `disk` and `devices`. The order is the document's. Which
models exist is not known here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from lxml import etree

from virtbackupd.drivers.definitions.address import Address, read_address
from virtbackupd.drivers.definitions.character import CharacterPort, read_ports
from virtbackupd.drivers.definitions.disk_options import DiskHardware, read_disk_hardware
from virtbackupd.drivers.definitions.tree import child_attribute, child_text, number

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """What any device has: its name in the running machine, its address, its turn at booting."""

    alias: str | None
    address: Address | None
    boot_order: int | None


@dataclass(frozen=True, slots=True)
class ControllerHardware:
    type: str
    index: int
    model: str | None
    model_name: str | None
    ports: int | None
    vectors: int | None
    queues: int | None
    iothread: int | None
    chassis: int | None
    port: int | None
    master_port: int | None
    place: Place


@dataclass(frozen=True, slots=True)
class InterfaceHardware:
    type: str
    mac: str | None
    model: str
    bridge: str | None
    target: str | None
    managed: bool
    link_up: bool
    mtu: int | None
    place: Place


@dataclass(frozen=True, slots=True)
class InputHardware:
    type: str
    bus: str
    place: Place


@dataclass(frozen=True, slots=True)
class GraphicsHardware:
    type: str
    port: int | None
    autoport: bool
    listen_type: str
    listen: str | None
    socket: str | None
    password: str | None
    password_valid_to: str | None
    keymap: str | None
    share_policy: str | None


@dataclass(frozen=True, slots=True)
class VideoHardware:
    model: str
    memory: int | None
    """`vram` in KiB, whose meaning depends on the model."""
    ram: int | None
    vgamem: int | None
    heads: int | None
    primary: bool
    place: Place


@dataclass(frozen=True, slots=True)
class SoundHardware:
    model: str
    codecs: tuple[str, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class ModelledHardware:
    """A device of which only the model matters."""

    model: str
    place: Place


@dataclass(frozen=True, slots=True)
class WatchdogHardware:
    model: str
    action: str
    place: Place


@dataclass(frozen=True, slots=True)
class BalloonHardware:
    model: str
    deflate: bool
    page_reporting: bool
    period: int | None
    place: Place


@dataclass(frozen=True, slots=True)
class RngHardware:
    model: str
    backend: str
    path: str
    rate_bytes: int | None
    rate_period: int | None
    place: Place


@dataclass(frozen=True, slots=True)
class Hardware:
    """All devices of a domain, by kind."""

    controllers: tuple[ControllerHardware, ...]
    disks: tuple[DiskHardware, ...]
    interfaces: tuple[InterfaceHardware, ...]
    serials: tuple[CharacterPort, ...]
    consoles: tuple[CharacterPort, ...]
    channels: tuple[CharacterPort, ...]
    inputs: tuple[InputHardware, ...]
    graphics: tuple[GraphicsHardware, ...]
    videos: tuple[VideoHardware, ...]
    sounds: tuple[SoundHardware, ...]
    watchdogs: tuple[WatchdogHardware, ...]
    balloon: BalloonHardware | None
    rngs: tuple[RngHardware, ...]
    panics: tuple[ModelledHardware, ...]


def read_hardware(root: etree._Element) -> Hardware:
    """Read the devices below the root element of a domain."""
    found = root.find("devices")
    devices = etree.Element("devices") if found is None else found

    def each(tag: str, read: Callable[[etree._Element], T]) -> tuple[T, ...]:
        return tuple(read(element) for element in devices.iterchildren(tag))

    return Hardware(
        controllers=each("controller", _controller),
        disks=each("disk", read_disk_hardware),
        interfaces=each("interface", read_interface_hardware),
        serials=read_ports(devices, "serial"),
        consoles=read_ports(devices, "console"),
        channels=read_ports(devices, "channel"),
        inputs=each("input", _input),
        graphics=each("graphics", _graphics),
        videos=each("video", _video),
        sounds=each("sound", _sound),
        watchdogs=each("watchdog", _watchdog),
        balloon=next(iter(each("memballoon", _balloon)), None),
        rngs=each("rng", _rng),
        panics=each("panic", lambda it: ModelledHardware(it.get("model", "isa"), read_place(it))),
    )


def read_place(element: etree._Element) -> Place:
    return Place(
        alias=child_attribute(element, "alias", "name"),
        address=read_address(element),
        boot_order=_number(element, "boot", "order"),
    )


def read_interface_hardware(element: etree._Element) -> InterfaceHardware:
    return InterfaceHardware(
        type=element.get("type", "user"),
        mac=child_attribute(element, "mac", "address"),
        model=child_attribute(element, "model", "type") or "rtl8139",
        bridge=child_attribute(element, "source", "bridge"),
        target=child_attribute(element, "target", "dev"),
        managed=child_attribute(element, "target", "managed") != "no",
        link_up=child_attribute(element, "link", "state") != "down",
        mtu=_number(element, "mtu", "size"),
        place=read_place(element),
    )


def _controller(element: etree._Element) -> ControllerHardware:
    return ControllerHardware(
        type=element.get("type", ""),
        index=_own_number(element, "index") or 0,
        model=element.get("model"),
        model_name=child_attribute(element, "model", "name"),
        ports=_own_number(element, "ports"),
        vectors=_own_number(element, "vectors"),
        queues=_number(element, "driver", "queues"),
        iothread=_number(element, "driver", "iothread"),
        chassis=_number(element, "target", "chassis") or _number(element, "target", "chassisNr"),
        port=_number(element, "target", "port"),
        master_port=_number(element, "master", "startport"),
        place=read_place(element),
    )


def _input(element: etree._Element) -> InputHardware:
    return InputHardware(element.get("type", ""), element.get("bus", "usb"), read_place(element))


def _graphics(element: etree._Element) -> GraphicsHardware:
    port = element.get("port")
    listen = element.find("listen")
    listen = etree.Element("listen") if listen is None else listen
    return GraphicsHardware(
        type=element.get("type", ""),
        port=None if port in (None, "-1") else number(port, "the VNC port", limit=65535),
        autoport=element.get("autoport") == "yes" or port == "-1",
        listen_type=listen.get("type") or ("socket" if element.get("socket") else "address"),
        listen=listen.get("address") or element.get("listen"),
        socket=listen.get("socket") or element.get("socket"),
        password=element.get("passwd"),
        password_valid_to=element.get("passwdValidTo"),
        keymap=element.get("keymap"),
        share_policy=element.get("sharePolicy"),
    )


def _video(element: etree._Element) -> VideoHardware:
    return VideoHardware(
        model=child_attribute(element, "model", "type") or "vga",
        memory=_number(element, "model", "vram"),
        ram=_number(element, "model", "ram"),
        vgamem=_number(element, "model", "vgamem"),
        heads=_number(element, "model", "heads"),
        primary=child_attribute(element, "model", "primary") == "yes",
        place=read_place(element),
    )


def _sound(element: etree._Element) -> SoundHardware:
    codecs = tuple(codec.get("type", "duplex") for codec in element.iterchildren("codec"))
    return SoundHardware(element.get("model", "ich6"), codecs, read_place(element))


def _watchdog(element: etree._Element) -> WatchdogHardware:
    return WatchdogHardware(
        element.get("model", "i6300esb"), element.get("action", "reset"), read_place(element)
    )


def _balloon(element: etree._Element) -> BalloonHardware:
    return BalloonHardware(
        model=element.get("model", "virtio"),
        deflate=element.get("autodeflate") == "on",
        page_reporting=element.get("freePageReporting") == "on",
        period=_number(element, "stats", "period"),
        place=read_place(element),
    )


def _rng(element: etree._Element) -> RngHardware:
    return RngHardware(
        model=element.get("model", "virtio"),
        backend=child_attribute(element, "backend", "model") or "random",
        path=child_text(element, "backend") or "/dev/random",
        rate_bytes=_number(element, "rate", "bytes"),
        rate_period=_number(element, "rate", "period"),
        place=read_place(element),
    )


def _number(element: etree._Element, path: str, name: str) -> int | None:
    child = element.find(path)
    return None if child is None else _own_number(child, name)


def _own_number(element: etree._Element, name: str) -> int | None:
    text = element.get(name)
    if text is None:
        return None
    if text.lower().startswith("0x"):
        text = str(int(text, 16)) if text[2:].isalnum() and _is_hex(text[2:]) else text
    return number(text, f"the {name} of <{element.tag}>", limit=2**31)


def _is_hex(text: str) -> bool:
    return all(digit in "0123456789abcdefABCDEF" for digit in text)
