"""Network cards: the host's end and the guest's.

A bridge is joined through QEMU's own helper, whose permission is /etc/qemu/bridge.conf.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from virtbackupd.drivers.errors import ConfigUnsupported
from virtbackupd.drivers.qemu.arguments import Json, known
from virtbackupd.drivers.qemu.build import virtio

if TYPE_CHECKING:
    from virtbackupd.drivers.definitions.hardware import InterfaceHardware
    from virtbackupd.drivers.qemu.build import Build

_HELPERS: Final = (
    "/usr/lib/qemu/qemu-bridge-helper",
    "/usr/libexec/qemu-bridge-helper",
    "/usr/lib/qemu-bridge-helper",
)
_MODELS: Final = (
    *("e1000", "e1000e", "rtl8139", "ne2k_pci", "pcnet", "vmxnet3", "i82551", "i82557b"),
    *("i82559er", "igb"),
)


def netdev(interface: "InterfaceHardware") -> Json:
    """The host's end."""
    alias = f"host{interface.place.alias}"
    match interface.type:
        case "user":
            return {"type": "user", "id": alias}
        case "bridge":
            return _bridge(interface, alias)
        case "ethernet":
            name = interface.target
            props: Json = {"type": "tap", "id": alias, "script": "no", "downscript": "no"}
            return props | known(ifname=name)
    raise ConfigUnsupported(f"<interface type='{interface.type}'> is not supported")


def interface_device(
    build: "Build", interface: "InterfaceHardware", boot_index: int | None
) -> Json:
    """The guest's end."""
    place = interface.place
    props = known(
        driver=_driver(interface.model),
        netdev=f"host{place.alias}",
        id=place.alias,
        mac=interface.mac,
        host_mtu=_mtu(interface),
        bootindex=place.boot_order if boot_index is None else boot_index,
    )
    return props | build.place(place.address, f"interface {interface.mac}")


def needs_helper(build: "Build") -> bool:
    """Whether QEMU must be free to run the bridge's helper."""
    return any(interface.type == "bridge" for interface in build.hardware.interfaces)


def _bridge(interface: "InterfaceHardware", alias: str) -> Json:
    if not interface.bridge:
        raise ConfigUnsupported(
            f"interface {interface.mac} of type 'bridge' has no <source bridge='...'/>"
        )
    helper = next((path for path in _HELPERS if Path(path).exists()), None)
    if helper is None:
        raise ConfigUnsupported("qemu-bridge-helper is not installed, a bridge cannot be joined")
    return {"type": "bridge", "id": alias, "br": interface.bridge, "helper": helper}


def _driver(model: str) -> str:
    if model.startswith("virtio"):
        return virtio("net", model)
    if model not in _MODELS:
        raise ConfigUnsupported(f"network card model {model!r} is not supported")
    return model


def _mtu(interface: "InterfaceHardware") -> int | None:
    return interface.mtu if interface.model.startswith("virtio") else None
