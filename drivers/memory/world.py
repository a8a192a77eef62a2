"""What a hypervisor starts with: domains, disk contents and checkpoints, from a file or built in.

`load_world` turns the entries of a world file into XML and images; it starts nothing. A fault is a
`WorldError` of one line that names file, line and key. The format is described in docs/world.md.
Blocking; meant for start-up.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

from lxml import etree

from virtbackupd.drivers.definitions.document import parse_document
from virtbackupd.drivers.definitions.domain import DomainDefinition, read_domain
from virtbackupd.drivers.enums import DomainState
from virtbackupd.drivers.errors import DriverError
from virtbackupd.drivers.memory import world_xml
from virtbackupd.drivers.memory.image import Image
from virtbackupd.drivers.memory.world_disks import DiskLoader, WorldDisk
from virtbackupd.drivers.memory.world_file import (
    CheckpointEntry,
    DiskEntry,
    DomainEntry,
    KeyPath,
    WorldFile,
    read_world_file,
)

FIRST_CREATION: Final = 1_700_000_000
"""When a domain's first checkpoint was made unless it says so; each later one a minute after."""
DEFAULT_MEMORY: Final = "512 MiB"
_TARGET: Final = re.compile(r"[A-Za-z0-9_]+")
_CHECKPOINT: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
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


@dataclass(frozen=True, slots=True)
class WorldCheckpoint:
    """A checkpoint whose bitmaps are in the images already; `xml` is for redefining it."""

    name: str
    parent: str | None
    xml: str


@dataclass(frozen=True, slots=True)
class WorldDomain:
    """A domain to take in."""

    definition: DomainDefinition
    state: DomainState
    autostart: bool
    disks: tuple[WorldDisk, ...]
    checkpoints: tuple[WorldCheckpoint, ...]
    """Parents before their children."""

    @property
    def xml(self) -> str:
        return self.definition.to_xml(inactive=True)


@dataclass(frozen=True, slots=True)
class World:
    """Everything to start with."""

    domains: tuple[WorldDomain, ...]
    images: tuple[Image, ...]
    """All of them, backing images included."""
    backup_rate: int
    """Bytes per second for each disk of a push backup that sets no speed; 0 is no limit."""


def load_world(path: Path | None, image_dir: Path) -> World:
    """Read a world file, or take the default; disks without path seem to lie in `image_dir`."""
    image_dir.mkdir(parents=True, exist_ok=True)
    file = read_world_file(path) if path is not None else WorldFile("<default>", _DEFAULT_WORLD)
    return _Loader(file, image_dir).load()


class _Loader:
    """One pass over the entries of one file."""

    def __init__(self, file: WorldFile, image_dir: Path) -> None:
        self._file = file
        self._disks = DiskLoader(file, image_dir)
        self._names: set[str] = set()
        self._uuids: set[bytes] = set()

    def load(self) -> World:
        entries = self._file.entries
        domains = tuple(
            self._domain(entry, ("domains", index)) for index, entry in enumerate(entries.domains)
        )
        rate = self._disks.size(entries.backup.rate, ("backup", "rate"))
        return World(domains, tuple(self._disks.images.values()), rate)

    def _domain(self, entry: DomainEntry, where: KeyPath) -> WorldDomain:
        uuid = self._uuid(entry, where)
        given = None if entry.xml is None else self._given(entry, entry.xml, uuid, where)
        disks = self._domain_disks(entry, given, where)
        definition = given or self._made(entry, disks, uuid, where)
        self._check_identity(entry, definition, where)
        return WorldDomain(
            definition,
            _STATES[entry.state],
            entry.autostart,
            disks,
            self._checkpoints(entry, definition, disks, where),
        )

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

    def _check_identity(
        self, entry: DomainEntry, definition: DomainDefinition, where: KeyPath
    ) -> None:
        if definition.name != entry.name:
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

    def _uuid(self, entry: DomainEntry, where: KeyPath) -> str:
        if entry.uuid is None:
            return str(uuid5(NAMESPACE_URL, f"virtbackupd:world:{entry.name}"))
        try:
            return str(UUID(entry.uuid))
        except ValueError:
            self._file.fail((*where, "uuid"), f"{entry.uuid!r} is not a UUID")

    def _checkpoints(
        self,
        entry: DomainEntry,
        definition: DomainDefinition,
        disks: tuple[WorldDisk, ...],
        where: KeyPath,
    ) -> tuple[WorldCheckpoint, ...]:
        made: list[WorldCheckpoint] = []
        images = {disk.target: disk.image for disk in disks if disk.image is not None}
        for index, checkpoint in enumerate(entry.checkpoints):
            here = (*where, "checkpoints", index)
            parent = self._parent(checkpoint, made, here)
            covered = self._covered(checkpoint, definition, images, here)
            self._record(checkpoint, covered, images, here)
            created = checkpoint.created or FIRST_CREATION + 60 * index
            domain = definition.to_xml(inactive=True)
            xml = world_xml.checkpoint_xml(checkpoint, parent, created, covered, domain)
            made.append(WorldCheckpoint(checkpoint.name, parent, xml))
        return tuple(made)

    def _parent(
        self, entry: CheckpointEntry, made: list[WorldCheckpoint], where: KeyPath
    ) -> str | None:
        names = [checkpoint.name for checkpoint in made]
        if not _CHECKPOINT.fullmatch(entry.name):
            self._file.fail(
                (*where, "name"),
                f"{entry.name!r} cannot name a checkpoint: allowed are ASCII letters, digits, "
                "'_', '-' and '.', the first not a '.'",
            )
        if entry.name in names:
            self._file.fail((*where, "name"), f"there are two checkpoints {entry.name!r}")
        if entry.parent is None:
            return names[-1] if names else None
        if entry.parent not in names:
            self._file.fail((*where, "parent"), f"no earlier checkpoint is named {entry.parent!r}")
        return entry.parent

    def _covered(
        self,
        entry: CheckpointEntry,
        definition: DomainDefinition,
        images: dict[str, Image],
        where: KeyPath,
    ) -> list[str]:
        """The targets that the checkpoint records: those named, or all that can have bitmaps."""
        able = [
            disk.target
            for disk in definition.disks
            if not disk.read_only and disk.format == "qcow2" and disk.target in images
        ]
        for target in entry.disks or ():
            if target not in able:
                self._file.fail((*where, "disks"), f"disk {target!r} cannot hold bitmaps")
        chosen = able if entry.disks is None else entry.disks
        if not chosen:
            self._file.fail(where, "no disk of the domain can hold bitmaps: one in qcow2 is needed")
        return chosen

    def _record(
        self,
        entry: CheckpointEntry,
        covered: list[str],
        images: dict[str, Image],
        where: KeyPath,
    ) -> None:
        for target in covered:
            images[target].bitmaps.add(entry.name)
        for index, write in enumerate(entry.written):
            here = (*where, "written", index)
            image = images.get(write.disk)
            if image is None:
                self._file.fail((*here, "disk"), f"the domain has no disk {write.disk!r} to write")
            offset, length = self._disks.byte_range(image, write.offset, write.length, here)
            image.fill(offset, length, self._disks.byte(write.byte, (*here, "byte")))


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
        backing=None if below is None else (below.path, below.format),
    )
