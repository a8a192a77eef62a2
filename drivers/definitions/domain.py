"""The domain document: a typed, immutable view on the kept tree.

What is not modelled stays in the tree and comes back on output. A change makes a new definition, so
a driver can keep the running and the persistent one side by side and swap them atomically.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TypeVar
from uuid import UUID

from lxml import etree

from virtbackupd.drivers.definitions.devices import (
    CharacterDevice,
    InterfaceDefinition,
    has_guest_agent,
    read_character_devices,
    read_interfaces,
)
from virtbackupd.drivers.definitions.disk import DiskDefinition, read_disk
from virtbackupd.drivers.definitions.document import check_depth, parse_document
from virtbackupd.drivers.definitions.domain_defaults import (
    ORDER,
    devices_of,
    normalise_domain,
    read_vcpus,
    set_kibibytes,
    set_vcpus,
)
from virtbackupd.drivers.definitions.metadata import find_metadata, set_metadata
from virtbackupd.drivers.definitions.tree import child_text, drop_attribute, set_child_text
from virtbackupd.drivers.definitions.writer import INDENT, attributes, format_element

T = TypeVar("T")

_AROUND = 2
"""Elements of the envelope when a domain is embedded in another document."""

_SECRET_ATTRIBUTES = ("passwd", "passwdValidTo")


class _Tree:
    """The kept tree, or a way to get it once somebody asks: of many definitions most are not."""

    __slots__ = ("_root", "_text")

    def __init__(self, root: etree._Element | None, text: Callable[[], str] | None = None) -> None:
        self._root = root
        self._text = text

    @property
    def root(self) -> etree._Element:
        if self._root is None:
            self._root = parse_document(self.text() or "", "domain")
        return self._root

    def text(self) -> str | None:
        """The canonical text, if it can be had without the tree."""
        return None if self._text is None else self._text()


@dataclass(frozen=True, slots=True)
class DomainDefinition:
    """Everything that a call asks of a domain's configuration; compare by `to_xml`."""

    name: str
    uuid: bytes
    type: str
    memory: int
    """The maximum, in KiB."""
    current_memory: int
    vcpus: int
    max_vcpus: int
    os_type: str
    arch: str | None
    machine: str | None
    emulator: str | None
    title: str | None
    description: str | None
    on_poweroff: str
    on_reboot: str
    on_crash: str
    disks: tuple[DiskDefinition, ...]
    interfaces: tuple[InterfaceDefinition, ...]
    serials: tuple[CharacterDevice, ...]
    consoles: tuple[CharacterDevice, ...]
    has_guest_agent: bool
    _tree: "_Tree" = field(repr=False, compare=False)
    _texts: dict[tuple[bool, int], str] = field(default_factory=dict, repr=False, compare=False)

    @staticmethod
    def parse(xml: str, *, validate: bool = False) -> "DomainDefinition":
        """`validate` is accepted for the sake of callers: the checks made here are always made."""
        del validate
        return read_domain(parse_document(xml, "domain"))

    @property
    def uuid_text(self) -> str:
        return str(UUID(bytes=self.uuid))

    def find_disk(self, name: str) -> DiskDefinition | None:
        """By target, or by source path when that is absolute and names exactly one disk."""
        for disk in self.disks:
            if disk.target == name:
                return disk
        if not name.startswith("/"):
            return None
        found = [disk for disk in self.disks if disk.local_path == name]
        return found[0] if len(found) == 1 else None

    def to_xml(
        self,
        *,
        id: int | None = None,  # noqa: A002
        secure: bool = True,
        inactive: bool = False,
        depth: int = 0,
    ) -> str:
        """Canonical text; `id` is shown on the live form only, `depth` is for embedding."""
        text = self._text(secure=secure, depth=depth)
        if id is None or inactive:
            return text
        head = INDENT * depth + "<domain" + attributes([("type", self.type)])
        return f"{head} id='{id}'{text[len(head) :]}"

    def metadata(self, uri: str) -> str | None:
        return find_metadata(self._tree.root, uri)

    def with_name(self, name: str) -> "DomainDefinition":
        return self._edited(lambda root: set_child_text(root, "name", name, ORDER))

    def with_title(self, title: str | None) -> "DomainDefinition":
        return self._edited(lambda root: set_child_text(root, "title", title or None, ORDER))

    def with_description(self, text: str | None) -> "DomainDefinition":
        return self._edited(lambda root: set_child_text(root, "description", text or None, ORDER))

    def with_metadata(self, uri: str, prefix: str, xml: str | None) -> "DomainDefinition":
        return self._edited(lambda root: set_metadata(root, uri, prefix, xml))

    def with_memory(
        self, *, current: int | None = None, maximum: int | None = None
    ) -> "DomainDefinition":
        """Sizes in KiB; a smaller maximum takes the current size down with it."""

        def edit(root: etree._Element) -> None:
            most = maximum or self.memory
            set_kibibytes(root, "memory", most)
            set_kibibytes(root, "currentMemory", min(current or self.current_memory, most))

        return self._edited(edit)

    def with_vcpus(
        self, *, current: int | None = None, maximum: int | None = None
    ) -> "DomainDefinition":
        most = maximum or self.max_vcpus
        return self._edited(lambda root: set_vcpus(root, current or min(self.vcpus, most), most))

    def view(self, read: Callable[[etree._Element], T]) -> T:
        """What `read` makes of the root element; it must neither keep nor change any element."""
        return read(self._tree.root)

    def edited(self, edit: Callable[[etree._Element], object]) -> "DomainDefinition":
        """A definition whose root element went through `edit`."""
        return self._edited(edit)

    def edited_devices(self, edit: Callable[[etree._Element], None]) -> "DomainDefinition":
        """For `device_edits`: apply `edit` to the `<devices>` element of a copy."""
        return self._edited(lambda root: edit(devices_of(root)))

    def copied(
        self,
        name: str,
        uuid: bytes,
        disks: tuple[DiskDefinition, ...],
        text: Callable[[], str],
    ) -> "DomainDefinition":
        """A definition that differs in these alone; `text` makes what its `to_xml` must say."""
        return replace(self, name=name, uuid=uuid, disks=disks, _tree=_Tree(None, text), _texts={})

    def _edited(self, edit: Callable[[etree._Element], object]) -> "DomainDefinition":
        root = deepcopy(self._tree.root)
        edit(root)
        return read_domain(root)

    def _text(self, *, secure: bool, depth: int) -> str:
        if secure and not depth and (known := self._tree.text()) is not None:
            return known
        key = (secure, depth)
        text = self._texts.get(key)
        if text is None:
            root = self._tree.root if secure else _without_secrets(self._tree.root)
            text = self._texts[key] = format_element(root, depth)
        return text


@lru_cache(maxsize=8)
def canonical_domain(xml: str) -> DomainDefinition:
    """Parse a text that `to_xml` made (so its UUID is set); the result is shared."""
    return DomainDefinition.parse(xml)


@lru_cache(maxsize=8)
def nested_domain(xml: str, *, secure: bool) -> str:
    """A text that `to_xml` made as it stands one level down, with its secrets if `secure`."""
    return canonical_domain(xml).to_xml(secure=secure, depth=1)


def read_domain(root: etree._Element) -> DomainDefinition:
    """Take over `root`, which must have no parent: fill in defaults, then read it."""
    check_depth(root, "domain document", outside=_AROUND)
    normalise_domain(root)
    devices = devices_of(root)
    os_type = root.find("os/type")
    most, count = read_vcpus(root)
    return DomainDefinition(
        name=root.findtext("name", ""),
        uuid=UUID(root.findtext("uuid", "")).bytes,
        type=root.get("type", ""),
        memory=int(root.findtext("memory", "0")),
        current_memory=int(root.findtext("currentMemory", "0")),
        vcpus=count,
        max_vcpus=most,
        os_type="hvm" if os_type is None else (os_type.text or "hvm").strip(),
        arch=None if os_type is None else os_type.get("arch"),
        machine=None if os_type is None else os_type.get("machine"),
        emulator=child_text(devices, "emulator"),
        title=child_text(root, "title"),
        description=child_text(root, "description"),
        on_poweroff=child_text(root, "on_poweroff") or "destroy",
        on_reboot=child_text(root, "on_reboot") or "restart",
        on_crash=child_text(root, "on_crash") or "destroy",
        disks=tuple(read_disk(element) for element in devices.iterchildren("disk")),
        interfaces=read_interfaces(devices),
        serials=read_character_devices(devices, "serial"),
        consoles=read_character_devices(devices, "console"),
        has_guest_agent=has_guest_agent(devices),
        _tree=_Tree(root),
    )


def _without_secrets(root: etree._Element) -> etree._Element:
    copy = deepcopy(root)
    for graphics in copy.iterfind("devices/graphics"):
        for name in _SECRET_ATTRIBUTES:
            drop_attribute(graphics, name)
    for cookie in copy.iterfind("devices/disk/source/cookies/cookie"):
        cookie.text = None
    return copy
