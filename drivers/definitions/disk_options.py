"""How a disk is presented to the guest and how the host's side treats it.

`disk` says what a disk is and where its data lives. What an option that is absent means is a
driver's rule.
"""

from dataclasses import dataclass

from lxml import etree

from virtbackupd.drivers.definitions.address import Address, read_address
from virtbackupd.drivers.definitions.disk import DiskDefinition, read_disk
from virtbackupd.drivers.definitions.tree import child_attribute, child_text, number


@dataclass(frozen=True, slots=True)
class DiskHardware:
    """A disk and its options, each None where the document says nothing."""

    disk: DiskDefinition
    model: str | None
    cache: str | None
    io: str | None
    discard: str | None
    detect_zeroes: str | None
    error_policy: str | None
    read_error_policy: str | None
    iothread: int | None
    queues: int | None
    removable: bool | None
    """Whether a USB disk calls itself removable."""
    tray_open: bool
    rotation_rate: int | None
    wwn: str | None
    vendor: str | None
    product: str | None
    logical_block: int | None
    physical_block: int | None
    boot_order: int | None
    startup_policy: str | None
    alias: str | None
    address: Address | None

    @property
    def write_cache(self) -> bool | None:
        """Whether the guest is told of a volatile cache; None is the machine's default."""
        return None if self.cache in (None, "default") else self.cache in _WRITE_BACK


_WRITE_BACK = frozenset({"none", "writeback", "unsafe"})


def read_disk_hardware(element: etree._Element) -> DiskHardware:
    """Read a normalised element."""
    removable = child_attribute(element, "target", "removable")
    return DiskHardware(
        disk=read_disk(element),
        model=element.get("model"),
        cache=_driver(element, "cache"),
        io=_driver(element, "io"),
        discard=_driver(element, "discard"),
        detect_zeroes=_driver(element, "detect_zeroes"),
        error_policy=_driver(element, "error_policy"),
        read_error_policy=_driver(element, "rerror_policy"),
        iothread=_number(element, "driver", "iothread"),
        queues=_number(element, "driver", "queues"),
        removable=None if removable is None else removable == "on",
        tray_open=child_attribute(element, "target", "tray") == "open",
        rotation_rate=_number(element, "target", "rotation_rate"),
        wwn=child_text(element, "wwn"),
        vendor=child_text(element, "vendor"),
        product=child_text(element, "product"),
        logical_block=_number(element, "blockio", "logical_block_size"),
        physical_block=_number(element, "blockio", "physical_block_size"),
        boot_order=_number(element, "boot", "order"),
        startup_policy=child_attribute(element, "source", "startupPolicy"),
        alias=child_attribute(element, "alias", "name"),
        address=read_address(element),
    )


def _driver(element: etree._Element, name: str) -> str | None:
    return child_attribute(element, "driver", name)


def _number(element: etree._Element, path: str, name: str) -> int | None:
    text = child_attribute(element, path, name)
    return None if text is None else number(text, f"{name} of <{path}> of a disk", limit=2**31)
