"""Serial ports, consoles and channels: a character device for the host and a port for the guest."""

from typing import TYPE_CHECKING, Final

from virtbackupd.drivers.errors import ConfigUnsupported
from virtbackupd.drivers.qemu.arguments import Json, known, option_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from virtbackupd.drivers.definitions.character import CharacterPort
    from virtbackupd.drivers.qemu.arguments import Arguments
    from virtbackupd.drivers.qemu.build import Build

AGENT_NAME: Final = "org.qemu.guest_agent.0"
_SERIAL_DRIVERS: Final = {
    "isa-serial": "isa-serial",
    "pci-serial": "pci-serial",
    "usb-serial": "usb-serial",
}


def add_ports(arguments: "Arguments", build: "Build") -> None:
    """All of them, in libvirt's order."""
    for port in ports_to_build(build):
        arguments.add("-chardev", chardev(build, port))
        arguments.device(port_device(build, port))


def ports_to_build(build: "Build") -> "Iterator[CharacterPort]":
    """A serial console is a serial port by another name and has no device of its own."""
    hardware = build.hardware
    yield from hardware.serials
    yield from hardware.channels
    yield from (port for port in hardware.consoles if port.target_type == "virtio")


def chardev(build: "Build", port: "CharacterPort") -> str:
    """The host's end, as `-chardev` takes it."""
    settings = _BACKENDS[port.type](build, port)
    kind = settings.pop("type", port.type) or port.type
    log = {} if port.log_file is None else {"logfile": port.log_file, "logappend": "on"}
    return option_text(kind, {"id": f"char{port.alias}", **settings, **log})


def port_device(build: "Build", port: "CharacterPort") -> Json:
    """The guest's end."""
    if port.kind == "serial":
        return _serial(build, port)
    place = build.place(port.address, f"{port.kind} {port.alias}")
    props: Json = {"chardev": f"char{port.alias}", "id": port.alias, **place}
    if port.kind == "console":
        return {"driver": "virtconsole", **props}
    return {"driver": "virtserialport", **props, "name": port.target_name or "com.redhat.spice.0"}


def socket_path(build: "Build", port: "CharacterPort") -> str:
    """The host's end of a Unix socket: what the document says, or one of ours."""
    if port.path is not None:
        return port.path
    if port.target_name == AGENT_NAME:
        return str(build.paths.agent)
    return str(build.paths.folder / f"{port.alias}.sock")


def _serial(build: "Build", port: "CharacterPort") -> Json:
    target = port.target_type or "isa-serial"
    props: Json = {
        "driver": _SERIAL_DRIVERS[target],
        "chardev": f"char{port.alias}",
        "id": port.alias,
    }
    if target == "isa-serial":
        return props | known(index=port.target_port)
    return props | build.place(port.address, f"serial port {port.alias}")


def _unix(build: "Build", port: "CharacterPort") -> dict[str, str | None]:
    server = {"server": "on", "wait": "off"} if port.mode != "connect" else {"reconnect": "1"}
    return {"type": "socket", "path": socket_path(build, port), **server}


def _tcp(build: "Build", port: "CharacterPort") -> dict[str, str | None]:
    del build
    if not port.service:
        raise ConfigUnsupported(f"{port.kind} {port.alias} of type 'tcp' names no service")
    settings: dict[str, str | None] = {
        "type": "socket",
        "host": port.host or ("127.0.0.1" if port.mode != "connect" else "localhost"),
        "port": port.service,
        "telnet": "on" if port.telnet else None,
    }
    if port.mode != "connect":
        settings |= {"server": "on", "wait": "off"}
    return settings


def _file(build: "Build", port: "CharacterPort") -> dict[str, str | None]:
    del build
    path = _required_path(port)
    return {"type": "file", "path": path, "append": "on" if port.append else None}


def _device(build: "Build", port: "CharacterPort") -> dict[str, str | None]:
    del build
    return {"type": "serial", "path": _required_path(port)}


def _plain(build: "Build", port: "CharacterPort") -> dict[str, str | None]:
    del build, port
    return {}


def _required_path(port: "CharacterPort") -> str:
    if not port.path:
        raise ConfigUnsupported(
            f"{port.kind} {port.alias} of type {port.type!r} has no <source path='...'/>"
        )
    return port.path


_BACKENDS: "Final[dict[str, Callable[[Build, CharacterPort], dict[str, str | None]]]]" = {
    "pty": _plain,
    "null": _plain,
    "unix": _unix,
    "tcp": _tcp,
    "file": _file,
    "dev": _device,
}
