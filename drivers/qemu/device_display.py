"""What a user sees, hears and types on: graphics, video, sound and input devices."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from virtbackupd.drivers.errors import ConfigUnsupported
from virtbackupd.drivers.qemu.arguments import Json, escape, known, option_text
from virtbackupd.drivers.qemu.build import virtio

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.hardware import (
        GraphicsHardware,
        InputHardware,
        SoundHardware,
        VideoHardware,
    )
    from virtbackupd.drivers.qemu.arguments import Arguments
    from virtbackupd.drivers.qemu.build import Build

FIRST_PORT: Final = 5900
_AUTOMATIC_PORTS: Final = 1000
_AUDIO: Final = "audio1"
_VIDEO: Final = {
    "vga": "VGA",
    "cirrus": "cirrus-vga",
    "bochs": "bochs-display",
    "ramfb": "ramfb",
}
_SOUND: Final = {
    "ich6": "intel-hda",
    "ich9": "ich9-intel-hda",
    "ac97": "AC97",
    "es1370": "ES1370",
    "sb16": "sb16",
    "usb": "usb-audio",
}
_CODECS: Final = {"duplex": "hda-duplex", "micro": "hda-micro", "output": "hda-output"}
_USB_INPUTS: Final = {"tablet": "usb-tablet", "mouse": "usb-mouse", "keyboard": "usb-kbd"}


def add_display(arguments: "Arguments", build: "Build") -> None:
    """Inputs, graphics, video and sound, in libvirt's order."""
    for device in build.hardware.inputs:
        for props in _input(build, device):
            arguments.device(props)
    graphics = build.hardware.graphics
    if graphics or build.hardware.sounds:
        arguments.json("audiodev", {"id": _AUDIO, "driver": "none"})
    if len(graphics) > 1:
        raise ConfigUnsupported(
            f"domain {build.definition.name} has more than one <graphics>: keep one"
        )
    arguments.add(*(("-vnc", vnc(build, graphics[0])) if graphics else ("-display", "none")))
    for video in build.hardware.videos:
        if video.model != "none":
            arguments.device(_video(build, video))
    for sound in build.hardware.sounds:
        for props in _sound(build, sound):
            arguments.device(props)


def vnc(build: "Build", graphics: "GraphicsHardware") -> str:
    """The server's address; QEMU chooses the port itself where the document leaves it open."""
    settings: dict[str, str | None] = {"password": "on" if graphics.password is not None else None}
    match graphics.listen_type:
        case "none":
            return "none"
        case "socket":
            address = f"unix:{graphics.socket or build.paths.folder / 'vnc.sock'}"
        case _:
            address = f"{_host(graphics.listen)}:{_display(graphics)}"
            settings["to"] = str(_AUTOMATIC_PORTS) if graphics.autoport else None
    settings["share"] = graphics.share_policy
    if build.hardware.sounds:
        settings["audiodev"] = _AUDIO
    return option_text(escape(address), settings)


def _host(listen: str | None) -> str:
    host = listen or "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _display(graphics: "GraphicsHardware") -> int:
    if graphics.autoport or graphics.port is None:
        return 0
    if graphics.port < FIRST_PORT:
        raise ConfigUnsupported(
            f"VNC port {graphics.port} is not possible: it must be {FIRST_PORT} or higher"
        )
    return graphics.port - FIRST_PORT


def _input(build: "Build", device: "InputHardware") -> Iterator[Json]:
    """A PS/2 mouse and keyboard are in every PC."""
    if device.bus == "ps2":
        if device.type == "tablet":
            raise ConfigUnsupported("a tablet cannot be on the bus ps2: use usb or virtio")
        return
    kind = _USB_INPUTS[device.type] if device.bus == "usb" else virtio(device.type, None)
    place = build.place(device.place.address, f"input {device.type}")
    yield {"driver": kind, "id": device.place.alias, **place}


def _video(build: "Build", video: "VideoHardware") -> Json:
    place = video.place
    if video.model == "ramfb":
        return {"driver": "ramfb", "id": place.alias}
    if video.model == "virtio":
        driver = "virtio-vga" if video.primary else "virtio-gpu-pci"
        props = known(driver=driver, max_outputs=video.heads)
    else:
        props = known(driver=_VIDEO[video.model], **_memory(video))
    return {**props, "id": place.alias, **build.place(place.address, "a video card")}


def _memory(video: "VideoHardware") -> Json:
    """libvirt counts KiB, QEMU's VGA counts MiB and its Bochs display bytes."""
    if video.memory is None:
        return {}
    if video.model == "vga":
        return {"vgamem_mb": max(1, video.memory // 1024)}
    return {"vgamem": video.memory * 1024} if video.model == "bochs" else {}


def _sound(build: "Build", sound: "SoundHardware") -> Iterator[Json]:
    alias = sound.place.alias
    device: Json = {"driver": _SOUND[sound.model], "id": alias}
    if sound.model != "sb16":
        device |= build.place(sound.place.address, "a sound card")
    if sound.model not in ("ich6", "ich9"):
        device["audiodev"] = _AUDIO
    yield device
    if sound.model in ("ich6", "ich9"):
        for number, codec in enumerate(sound.codecs or ("duplex",)):
            yield {
                "driver": _CODECS[codec],
                "id": f"{alias}-codec{number}",
                "bus": f"{alias}.0",
                "cad": number,
                "audiodev": _AUDIO,
            }
