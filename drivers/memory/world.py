"""What a hypervisor starts with: domains, disk contents and checkpoints, from a file or built in.

`load_world` turns the entries of a world file into XML and images; it starts nothing. A fault is a
`WorldError` of one line that names file, line and key. The format is described in docs/world.md.
Blocking; meant for start-up.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

from lxml import etree

from virtbackupd.drivers.definitions.checkpoint import CheckpointDefinition
from virtbackupd.drivers.definitions.document import parse_document
from virtbackupd.drivers.definitions.domain import DomainDefinition, read_domain
from virtbackupd.drivers.definitions.secret import parse_secret
from virtbackupd.drivers.enums import DomainState
from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.memory import world_xml
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.media import chain
from virtbackupd.drivers.memory.numbering import Numbered
from virtbackupd.drivers.memory.shown_host import ShownHost, read_shown_host
from virtbackupd.drivers.memory.world_checkpoints import CheckpointLoader
from virtbackupd.drivers.memory.world_copies import Copier, numbered_entry, reads_files
from virtbackupd.drivers.memory.world_disks import DiskLoader, WorldDisk
from virtbackupd.drivers.memory.world_file import (
    DiskEntry,
    DomainEntry,
    KeyPath,
    WorldFile,
    read_world_file,
)

MAX_COUNT: Final = 100_000
DEFAULT_MEMORY: Final = "512 MiB"
_TARGET: Final = re.compile(r"[A-Za-z0-9_]+")
_STATES: Final = {
    "running": DomainState.RUNNING,
    "paused": DomainState.PAUSED,
    "shutoff": DomainState.SHUTOFF,
}
_DEFAULT_WORLD: Final = """\
[[domains]]
name = "test"
uuid = "6695eb01-f6a4-8304-79aa-97f2502e193f"
vcpus = 2

[[domains.disks]]
target = "vda"
size = "64 MiB"
seed = 1

[[domains.disks]]
target = "vdb"
size = "16 MiB"
written = [
    { offset = "1 MiB", length = "2 MiB", seed = 2 },
    { offset = "8 MiB", length = "100 KiB", byte = 0xab },
]

[[domains.disks]]
target = "sda"
device = "cdrom"
"""


class WorldDomain(NamedTuple):
    """A domain to take in."""

    definition: DomainDefinition
    state: DomainState
    autostart: bool
    disks: tuple[WorldDisk, ...]
    checkpoints: tuple[CheckpointDefinition, ...]
    """Parents before their children; their bitmaps are in the images already."""
    given: bool = False
    """Whether it brought its own XML, which may name disks that nobody has described."""
    live: DomainDefinition | None = None
    """What runs, where that is not `definition`."""
    persistent: bool = True

    @property
    def xml(self) -> str:
        return self.definition.to_xml(inactive=True)


class World(NamedTuple):
    """Everything to start with."""

    domains: tuple[WorldDomain, ...]
    images: tuple[Image, ...]
    """All of them, backing images included."""
    backup_rate: int
    """Bytes per second for each disk of a push backup that sets no speed; 0 is no limit."""
    shown: ShownHost = ShownHost()
    secrets: tuple[str, ...] = ()
    """Their definitions."""


def load_world(path: Path | None, image_dir: Path) -> World:
    """Read a world file, or take the default; disks without path seem to lie in `image_dir`."""
    file = read_world_file(path) if path is not None else WorldFile("<default>", _DEFAULT_WORLD)
    return _Loader(file, image_dir).load()


class _Loader:
    """One pass over the entries of one file."""

    def __init__(self, file: WorldFile, image_dir: Path) -> None:
        self._file = file
        seed = file.entries.seed
        self._disks = DiskLoader(file, image_dir, seed or 0)
        self._family = f"virtbackupd:world:{'' if seed is None else f'{seed}:'}"
        self._names: set[str] = set()
        self._uuids: set[bytes] = set()

    def load(self) -> World:
        entries = self._file.entries
        domains = tuple(
            domain
            for index, entry in enumerate(entries.domains)
            for domain in self._all(entry, ("domains", index))
        )
        rate = self._disks.size(entries.backup.rate, ("backup", "rate"))
        return World(
            domains,
            tuple(self._disks.images.values()),
            rate,
            read_shown_host(self._file),
            tuple(self._secret(secret.xml, index) for index, secret in enumerate(entries.secrets)),
        )

    def _secret(self, xml: str, index: int) -> str:
        try:
            parse_secret(xml)
        except DriverError as error:
            self._file.fail(("secrets", index, "xml"), error.message)
        return xml

    def _all(self, entry: DomainEntry, where: KeyPath) -> Iterable[WorldDomain]:
        if entry.count is None:
            return (self._domain(entry, where),)
        return self._copies(entry, entry.count, where)

    def _domain(self, entry: DomainEntry, where: KeyPath) -> WorldDomain:
        uuid = self._uuid(entry, entry.name, 1, where)
        given = None if entry.xml is None else self._given(entry, entry.xml, uuid, where)
        live = self._live(entry, given, where)
        disks = self._domain_disks(entry, live or given, where)
        definition = given or self._made(entry, disks, uuid, where)
        self._check_identity(entry.name, definition, where)
        return WorldDomain(
            definition,
            _STATES[entry.state],
            entry.autostart,
            disks,
            self._checkpoints(entry, definition, disks, where),
            given is not None,
            live,
            self._persistent(entry, where),
        )

    def _live(
        self, entry: DomainEntry, definition: DomainDefinition | None, where: KeyPath
    ) -> DomainDefinition | None:
        """What runs, of a domain that has been changed since its start."""
        if entry.live_xml is None:
            return None
        if definition is None:
            self._file.fail((*where, "live_xml"), "this needs the key xml too")
        if entry.state == "shutoff":
            self._file.fail((*where, "live_xml"), "the domain does not run, leave the key out")
        live = self._parsed(entry.live_xml, definition.uuid_text, (*where, "live_xml"))
        if (live.name, live.uuid) != (definition.name, definition.uuid):
            self._file.fail(
                (*where, "live_xml"), f"this is about {live.name!r} with UUID {live.uuid_text}"
            )
        return live

    def _persistent(self, entry: DomainEntry, where: KeyPath) -> bool:
        if not entry.persistent and entry.state == "shutoff":
            self._file.fail((*where, "persistent"), "a domain that does not run is persistent")
        return entry.persistent

    def _copies(self, entry: DomainEntry, count: int, where: KeyPath) -> Iterator[WorldDomain]:
        """Domains that differ in a number; the first is made from the entry, the others from it."""
        if not 0 < count <= MAX_COUNT:
            self._file.fail((*where, "count"), f"{count} is not a number from 1 to {MAX_COUNT}")
        if not Numbered(entry.name).changes:
            self._file.fail((*where, "name"), "with `count` a name needs a number: add {n}")
        first = self._domain(numbered_entry(entry, 1), where)
        yield first
        if reads_files(entry):
            for number in range(2, count + 1):
                yield self._domain(numbered_entry(entry, number), where)
            return
        copier = Copier(self._file, self._disks, entry, first, where)
        for number in range(2, count + 1):
            name = copier.name(number)
            copy = copier.copy(number, UUID(self._uuid(entry, name, number, where)).bytes)
            self._check_identity(name, copy.definition, where)
            yield copy

    def _checkpoints(
        self,
        entry: DomainEntry,
        definition: DomainDefinition,
        disks: tuple[WorldDisk, ...],
        where: KeyPath,
    ) -> tuple[CheckpointDefinition, ...]:
        images = {disk.target: disk.image for disk in disks if disk.image is not None}
        return CheckpointLoader(self._file, self._disks, definition, images).load(entry, where)

    def _given(self, entry: DomainEntry, xml: str, uuid: str, where: KeyPath) -> DomainDefinition:
        """The definition of a domain that brings its own XML."""
        for key in ("memory", "vcpus", "agent"):
            if getattr(entry, key) is not None:
                self._file.fail((*where, key), "the domain's XML says this, leave the key out")
        definition = self._parsed(xml, uuid, (*where, "xml"))
        if entry.uuid is not None and definition.uuid_text != uuid:
            self._file.fail((*where, "uuid"), f"the domain's XML says {definition.uuid_text}")
        return definition

    def _made(
        self, entry: DomainEntry, disks: tuple[WorldDisk, ...], uuid: str, where: KeyPath
    ) -> DomainDefinition:
        """The definition of a domain described by keys alone."""
        memory = DEFAULT_MEMORY if entry.memory is None else entry.memory
        machine = world_xml.MachineXml(
            name=entry.name,
            uuid=uuid,
            memory_kib=self._disks.size(memory, (*where, "memory")) // 1024,
            vcpus=1 if entry.vcpus is None else entry.vcpus,
            agent=entry.agent is not False,
        )
        described = [_disk_xml(*both) for both in zip(entry.disks, disks, strict=True)]
        return self._parsed(world_xml.domain_xml(machine, described), uuid, where)

    def _parsed(self, xml: str, uuid: str, where: KeyPath) -> DomainDefinition:
        """Read domain XML; one that names no UUID gets `uuid`, not a random one."""
        try:
            root = parse_document(xml, "domain")
            if root.find("uuid") is None:
                etree.SubElement(root, "uuid").text = uuid
            return read_domain(root)
        except DriverError as error:
            self._file.fail(where, error.message)

    def _check_identity(self, name: str, definition: DomainDefinition, where: KeyPath) -> None:
        if definition.name != name:
            self._file.fail((*where, "name"), f"the domain's XML names it {definition.name!r}")
        if definition.name in self._names:
            self._file.fail((*where, "name"), f"there are two domains named {definition.name!r}")
        if definition.uuid in self._uuids:
            self._file.fail((*where, "uuid"), "another domain has the same UUID")
        self._names.add(definition.name)
        self._uuids.add(definition.uuid)

    def _domain_disks(
        self, entry: DomainEntry, given: DomainDefinition | None, where: KeyPath
    ) -> tuple[WorldDisk, ...]:
        targets: set[str] = set()
        disks: list[WorldDisk] = []
        for index, disk in enumerate(entry.disks):
            here = (*where, "disks", index)
            if not _TARGET.fullmatch(disk.target):
                self._file.fail((*here, "target"), f"{disk.target!r} is no disk target like 'vda'")
            if disk.target in targets:
                self._file.fail((*here, "target"), f"there are two disks {disk.target!r}")
            targets.add(disk.target)
            path = None if given is None else self._given_path(given, disk, here)
            disks.append(self._disks.load(entry.name, disk, path, here))
        return tuple(disks)

    def _given_path(self, given: DomainDefinition, disk: DiskEntry, where: KeyPath) -> str:
        found = given.find_disk(disk.target)
        if found is None or found.source is None:
            self._file.fail(
                (*where, "target"), f"the domain's XML has no medium in {disk.target!r}"
            )
        return found.source

    def _uuid(self, entry: DomainEntry, name: str, number: int, where: KeyPath) -> str:
        if entry.uuid is None:
            return str(uuid5(NAMESPACE_URL, f"{self._family}{name}"))
        text = Numbered(entry.uuid).at(number)
        try:
            return str(UUID(text))
        except ValueError:
            self._file.fail((*where, "uuid"), f"{text!r} is not a UUID")


def _disk_xml(entry: DiskEntry, disk: WorldDisk) -> world_xml.DiskXml:
    image = disk.image
    below = None if image is None else image.backing
    return world_xml.DiskXml(
        target=disk.target,
        path=disk.path,
        format=entry.format if image is None else image.format,
        device=entry.device,
        bus=entry.bus,
        read_only=entry.read_only or entry.device == "cdrom",
        backing=[(layer.path, layer.format) for layer in chain(below)],
        data_store=None if image is None else image.data_store,
    )
