"""Disks, CD-ROM and floppy drives as QEMU devices on their buses.

The block nodes behind them are `block_nodes`' business; an empty drive has none.
"""

from typing import TYPE_CHECKING, Final, TypeAlias

from virtbackupd.drivers.definitions.address import DriveAddress
from virtbackupd.drivers.errors import ConfigUnsupported
from virtbackupd.drivers.qemu.arguments import Json, known, on_off
from virtbackupd.drivers.qemu.build import virtio

if TYPE_CHECKING:
    from collections.abc import Callable

    from virtbackupd.drivers.definitions.disk_options import DiskHardware
    from virtbackupd.drivers.qemu.build import Build

_Bus: TypeAlias = "Callable[[Build, DiskHardware], Json]"

_WRITE_ERRORS: Final = {"stop": "stop", "report": "report", "ignore": "ignore",
                        "enospace": "enospc"}  # fmt: skip


def disk_device(
    build: "Build", hardware: "DiskHardware", node: str | None, boot_index: int | None
) -> Json:
    """The device that shows the node to the guest."""
    disk = hardware.disk
    bus = disk.bus or ""
    if bus not in _BUSES:
        raise ConfigUnsupported(f"disk {disk.target!r}: the bus {disk.bus!r} is not supported")
    if disk.device == "floppy" and bus != "fdc":
        raise ConfigUnsupported(f"floppy drive {disk.target!r} must be on the bus fdc")
    props = _BUSES[bus](build, hardware)
    shared = known(
        drive=node,
        share__rw=True if disk.shareable else None,
        bootindex=hardware.boot_order if boot_index is None else boot_index,
        logical_block_size=hardware.logical_block,
        physical_block_size=hardware.physical_block,
        write__cache=None if node is None else on_off(hardware.write_cache),
        **_identity(hardware),
        **_errors(hardware),
    )
    return {**props, **shared, "id": hardware.alias}


def _identity(hardware: "DiskHardware") -> Json:
    """What the guest is told of the disk, on buses that can tell it."""
    bus = hardware.disk.bus
    if bus == "fdc":
        return {}
    props = known(serial=hardware.disk.serial)
    if bus in ("scsi", "sata", "ide"):
        wwn = None if hardware.wwn is None else int(_wwn(hardware), 16)
        props |= known(wwn=wwn, rotation_rate=hardware.rotation_rate)
    if bus == "scsi":
        props |= known(vendor=hardware.vendor, product=hardware.product)
    return props


def _wwn(hardware: "DiskHardware") -> str:
    text = (hardware.wwn or "").removeprefix("0x")
    if len(text) != 16 or any(digit not in "0123456789abcdefABCDEF" for digit in text):
        raise ConfigUnsupported(
            f"disk {hardware.disk.target!r} has the malformed wwn {hardware.wwn!r}"
        )
    return text


def _errors(hardware: "DiskHardware") -> Json:
    """`enospace` has no meaning for reads; with `stop` both stop, unless reads are told apart."""
    write = _WRITE_ERRORS.get(hardware.error_policy or "")
    read = hardware.read_error_policy or (write if write != "enospc" else None)
    return known(werror=write, rerror=read)


def _virtio(build: "Build", hardware: "DiskHardware") -> Json:
    if hardware.disk.device == "cdrom":
        raise ConfigUnsupported(
            f"CD-ROM {hardware.disk.target!r} cannot be on the bus virtio: use sata, ide or scsi"
        )
    if hardware.disk.empty:
        raise ConfigUnsupported(f"disk {hardware.disk.target!r} has no source")
    io = None if hardware.iothread is None else f"iothread{hardware.iothread}"
    props = known(driver=virtio("blk", hardware.model), iothread=io, num__queues=hardware.queues)
    return props | build.place(hardware.address, f"disk {hardware.disk.target}")


def _scsi(build: "Build", hardware: "DiskHardware") -> Json:
    address = _drive(hardware)
    controller = build.controller("scsi", address.controller)
    place: Json = {"bus": f"{controller.place.alias}.{address.bus}"}
    if str(controller.model).startswith("virtio"):
        place |= {"channel": 0, "scsi-id": address.target, "lun": address.unit}
    else:
        place |= {"scsi-id": address.unit}
    return {"driver": _drive_kind("scsi", hardware), **place, "device_id": _device_id(hardware)}


def _device_id(hardware: "DiskHardware") -> str:
    # Guests name a disk by this when it has no serial number; libvirt's name keeps it the same.
    return hardware.disk.serial or f"drive-{hardware.alias}"


def _sata(build: "Build", hardware: "DiskHardware") -> Json:
    address = _drive(hardware)
    alias = build.controller("sata", address.controller).place.alias
    return {"driver": _drive_kind("ide", hardware), "bus": f"{alias}.{address.unit}"}


def _ide(build: "Build", hardware: "DiskHardware") -> Json:
    address = _drive(hardware)
    alias = build.controller("ide", address.controller).place.alias
    kind = _drive_kind("ide", hardware)
    return {"driver": kind, "bus": f"{alias}.{address.bus}", "unit": address.unit}


def _usb(build: "Build", hardware: "DiskHardware") -> Json:
    if hardware.disk.empty:
        raise ConfigUnsupported(
            f"disk {hardware.disk.target!r} on the bus usb has no source: it cannot be empty"
        )
    place = build.place(hardware.address, f"disk {hardware.disk.target}")
    return {"driver": "usb-storage", **place, "removable": bool(hardware.removable)}


def _floppy(build: "Build", hardware: "DiskHardware") -> Json:
    del build
    if hardware.disk.device != "floppy":
        raise ConfigUnsupported(
            f"disk {hardware.disk.target!r} on the bus fdc must be a floppy drive"
        )
    return {"driver": "floppy", "unit": _drive(hardware).unit}


_BUSES: Final[dict[str, _Bus]] = {
    "virtio": _virtio,
    "scsi": _scsi,
    "sata": _sata,
    "ide": _ide,
    "usb": _usb,
    "fdc": _floppy,
}


def _drive_kind(bus: str, hardware: "DiskHardware") -> str:
    if hardware.disk.device == "cdrom":
        return f"{bus}-cd"
    if hardware.disk.empty:
        raise ConfigUnsupported(f"disk {hardware.disk.target!r} has no source")
    if bus == "ide" and hardware.disk.read_only:
        raise ConfigUnsupported(
            f"disk {hardware.disk.target!r} on the bus {hardware.disk.bus} cannot be read-only: use"
            " virtio, scsi or usb"
        )
    return f"{bus}-hd"


def _drive(hardware: "DiskHardware") -> DriveAddress:
    if not isinstance(hardware.address, DriveAddress):
        raise ConfigUnsupported(f"disk {hardware.disk.target!r} has no drive address")
    return hardware.address
