"""What a world says of the host itself: name, versions and capabilities, as some host showed them.

Whatever a world leaves out is told of the machine below, by the modules for that.
"""

import re
from typing import Final, NamedTuple

import msgspec
from lxml import etree

from virtbackupd.drivers.definitions.document import parse_document
from virtbackupd.drivers.definitions.tree import child_text
from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.memory.world_file import KeyPath, WorldFile
from virtbackupd.drivers.profiles import Version

_VERSION: Final = re.compile(r"(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?")


class _Described(NamedTuple):
    """A `<domainCapabilities>` document and the choice that it is for."""

    choice: tuple[str | None, str | None, str | None, str | None]
    """Emulator, architecture, machine, virtualisation type."""
    xml: str


class ShownHost(msgspec.Struct, frozen=True):
    """None, or empty, where the world says nothing."""

    hostname: str | None = None
    libvirt: int | None = None
    """As the version calls answer it: 9000000 is 9.0.0."""
    hypervisor: int | None = None
    capabilities: str | None = None
    described: tuple[_Described, ...] = ()
    machines: frozenset[tuple[str, str]] = frozenset()
    """Names of machines with the names that they stand for."""

    def domain_capabilities(
        self, emulator: str | None, arch: str | None, machine: str | None, virttype: str | None
    ) -> str | None:
        """The first document for a choice, parts of which may be left open."""
        wanted = (emulator, arch, machine, virttype)
        for choice, xml in self.described:
            if all(
                asked in (None, shown) or (asked, shown) in self.machines
                for asked, shown in zip(wanted, choice, strict=True)
            ):
                return xml
        return None


def read_shown_host(file: WorldFile) -> ShownHost:
    """Raises WorldError."""
    entry = file.entries.host
    documents = [
        _read(file, xml, "domainCapabilities", ("host", "domain_capabilities", index))
        for index, xml in enumerate(entry.domain_capabilities)
    ]
    machines: frozenset[tuple[str, str]] = frozenset()
    if entry.capabilities is not None:
        where = ("host", "capabilities")
        machines = _machines(_read(file, entry.capabilities, "capabilities", where))
    return ShownHost(
        entry.hostname,
        _version(file, "libvirt", entry.libvirt),
        _version(file, "hypervisor", entry.hypervisor),
        entry.capabilities,
        tuple(
            _Described(_choice(root), xml)
            for root, xml in zip(documents, entry.domain_capabilities, strict=True)
        ),
        machines,
    )


def _read(file: WorldFile, xml: str, root: str, where: KeyPath) -> etree._Element:
    try:
        return parse_document(xml, root)
    except DriverError as error:
        file.fail(where, error.message)


def _choice(root: etree._Element) -> tuple[str | None, str | None, str | None, str | None]:
    path, arch, machine, domain = (
        child_text(root, name) for name in ("path", "arch", "machine", "domain")
    )
    return path, arch, machine, domain


def _machines(root: etree._Element) -> frozenset[tuple[str, str]]:
    return frozenset(
        (machine.text or "", machine.get("canonical", ""))
        for machine in root.iterfind("guest/arch//machine[@canonical]")
    )


def _version(file: WorldFile, key: str, text: str | None) -> int | None:
    if text is None:
        return None
    found = _VERSION.fullmatch(text)
    if found is None:
        file.fail(("host", key), f"{text!r} is not a version like 9.0.0")
    return Version(int(found[1]), int(found[2]), int(found[3] or 0)).number
