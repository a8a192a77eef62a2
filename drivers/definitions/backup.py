"""The backup document: what a caller asked for, and what `backup-dumpxml` prints.

Defaults that need the domain (paths, modes, the disks not named) are filled in by `alignment.py`.
"""

from dataclasses import dataclass, field
from typing import Literal

from lxml import etree

from virtbackupd.drivers.definitions.document import parse_document
from virtbackupd.drivers.definitions.schema import PULL_SCHEMA, PUSH_SCHEMA
from virtbackupd.drivers.definitions.secret import SecretName
from virtbackupd.drivers.definitions.tree import child_attribute, child_text, is_element, number
from virtbackupd.drivers.definitions.writer import attributes, element_line, format_element
from virtbackupd.drivers.errors import Origin

BackupMode = Literal["full", "incremental"]
StoreType = Literal["file", "block"]

_STORE_ATTRIBUTE = {"file": "file", "block": "dev"}
_STORE_DEPTH = 3


@dataclass(frozen=True, slots=True)
class BackupServer:
    """Where a pull backup is served; `port` 0 means that none was given."""

    transport: str = "tcp"
    tls: bool | None = None
    name: str | None = None
    port: int = 0
    socket: str | None = None
    fdgroup: str | None = None


@dataclass(frozen=True, slots=True)
class BackupDisk:
    """`store_path` is the push target or the pull scratch; `backupmode` is None until aligned."""

    name: str
    backup: bool = True
    type: StoreType = "file"
    backupmode: BackupMode | None = None
    incremental: str | None = None
    exportname: str | None = None
    exportbitmap: str | None = None
    index: int | None = None
    driver_type: str = "qcow2"
    store_path: str | None = None
    store_is_generated: bool = False
    store_extras: tuple[str, ...] = field(default=(), repr=False)
    """The seclabel and encryption elements of the store, as they are printed."""
    secret: SecretName | None = None
    """What the store is to be encrypted with."""

    @property
    def export(self) -> str:
        """The name under which a pull backup serves the disk; NBD allows an empty one."""
        return self.name if self.exportname is None else self.exportname


@dataclass(frozen=True, slots=True)
class BackupDefinition:
    """`disks` is None when the document had no `<disks>`: the default set is then meant."""

    pull: bool = False
    incremental: str | None = None
    server: BackupServer | None = None
    disks: tuple[BackupDisk, ...] | None = None

    @property
    def selected(self) -> tuple[BackupDisk, ...]:
        """The disks that are backed up."""
        return tuple(disk for disk in self.disks or () if disk.backup)


def parse_backup(xml: str) -> BackupDefinition:
    root = parse_document(xml, "domainbackup", origin=Origin.DOMAIN)
    (PULL_SCHEMA if _is_pull(root) else PUSH_SCHEMA).validate(root)
    return _read_backup(root)


def restore_backup(xml: str) -> BackupDefinition:
    """Read what `format_backup` made of a running backup, with what it had been given."""
    return _read_backup(parse_document(xml, "domainbackup", origin=Origin.DOMAIN))


def _is_pull(root: etree._Element) -> bool:
    return root.get("mode") == "pull"


def _read_backup(root: etree._Element) -> BackupDefinition:
    pull = _is_pull(root)
    return BackupDefinition(
        pull=pull,
        incremental=child_text(root, "incremental"),
        server=_read_server(root),
        disks=_read_disks(root, pull=pull),
    )


def format_backup(definition: BackupDefinition) -> str:
    mode = "pull" if definition.pull else "push"
    pieces = [f"<domainbackup mode='{mode}'>\n"]
    if definition.incremental:
        pieces.append(element_line(1, "incremental", definition.incremental))
    if definition.server is not None:
        pieces.append(_server_line(definition.server))
    if definition.disks:
        pieces.append("  <disks>\n")
        pieces += [_disk_text(disk, pull=definition.pull) for disk in definition.disks]
        pieces.append("  </disks>\n")
    pieces.append("</domainbackup>\n")
    return "".join(pieces)


def _read_server(root: etree._Element) -> BackupServer | None:
    element = root.find("server")
    if element is None:
        return None
    tls = element.get("tls")
    return BackupServer(
        transport=element.get("transport", "tcp"),
        tls=None if tls is None else tls == "yes",
        name=element.get("name"),
        port=number(element.get("port", "0"), "the port of <server>", limit=2**32 - 1),
        socket=element.get("socket"),
        fdgroup=element.get("fdgroup"),
    )


def _read_disks(root: etree._Element, *, pull: bool) -> tuple[BackupDisk, ...] | None:
    disks = root.find("disks")
    if disks is None:
        return None
    return tuple(_read_disk(disk, pull=pull) for disk in disks.iterchildren("disk"))


def _read_disk(element: etree._Element, *, pull: bool) -> BackupDisk:
    """As libvirt does, nothing else is looked at where the disk is left out."""
    name = element.get("name", "")
    if element.get("backup") == "no":
        return BackupDisk(name, backup=False)
    store = element.find("scratch" if pull else "target")
    type_: StoreType = "block" if element.get("type") == "block" else "file"
    return BackupDisk(
        name=name,
        type=type_,
        backupmode=_read_mode(element.get("backupmode")),
        incremental=element.get("incremental"),
        exportname=element.get("exportname"),
        exportbitmap=element.get("exportbitmap"),
        index=_read_index(element.get("index")),
        driver_type=child_attribute(element, "driver", "type") or "qcow2",
        store_path=None if store is None else store.get(_STORE_ATTRIBUTE[type_]),
        store_extras=() if store is None else _read_extras(store),
        secret=None if store is None else _read_secret(store),
    )


def _read_secret(store: etree._Element) -> SecretName | None:
    secret = store.find("encryption/secret")
    return None if secret is None else SecretName(secret.get("uuid"), secret.get("usage"))


def _read_mode(text: str | None) -> BackupMode | None:
    if text is None:
        return None
    return "full" if text == "full" else "incremental"


def _read_index(text: str | None) -> int | None:
    return None if text is None else number(text, "the index of a disk")


def _read_extras(store: etree._Element) -> tuple[str, ...]:
    return tuple(format_element(child, _STORE_DEPTH + 1) for child in store if is_element(child))


def _server_line(server: BackupServer) -> str:
    tls = {None: None, True: "yes", False: "no"}[server.tls]
    pairs = attributes(
        (
            ("transport", server.transport),
            ("tls", tls),
            ("name", server.name),
            ("port", str(server.port) if server.port else None),
            ("socket", server.socket),
            ("fdgroup", server.fdgroup),
        )
    )
    return f"  <server{pairs}/>\n"


def _disk_text(disk: BackupDisk, *, pull: bool) -> str:
    if not disk.backup:
        return f"    <disk{attributes((('name', disk.name), ('backup', 'no')))}/>\n"
    driver = f"      <driver{attributes((('type', disk.driver_type),))}/>\n"
    return (
        f"    <disk{_disk_attributes(disk)}>\n{driver}{_store_text(disk, pull=pull)}    </disk>\n"
    )


def _disk_attributes(disk: BackupDisk) -> str:
    return attributes(
        (
            ("name", disk.name),
            ("backup", "yes"),
            ("type", disk.type),
            ("backupmode", disk.backupmode),
            ("incremental", disk.incremental),
            ("exportname", disk.exportname),
            ("exportbitmap", disk.exportbitmap),
            ("index", None if disk.index is None else str(disk.index)),
        )
    )


def _store_text(disk: BackupDisk, *, pull: bool) -> str:
    if disk.store_path is None:
        return ""
    tag = "scratch" if pull else "target"
    start = f"      <{tag}{attributes(((_STORE_ATTRIBUTE[disk.type], disk.store_path),))}"
    if not disk.store_extras:
        return f"{start}/>\n"
    return f"{start}>\n{''.join(disk.store_extras)}      </{tag}>\n"
