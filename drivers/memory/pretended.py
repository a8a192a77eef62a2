"""What an older release of libvirt would have refused, beyond flags and procedures.

Asked by the calls of a domain, and only when its host pretends to be another release than the
newest; what is wrong in any release is left to the call itself. The tables are in `profiles`.
"""

from typing import TYPE_CHECKING

from virtbackupd.drivers.definitions.document import parse_document
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.enums import CheckpointCreate
from virtbackupd.drivers.errors import OperationUnsupported, Origin, XmlError, XmlInvalidSchema
from virtbackupd.drivers.profiles import (
    BACKUP_CAPABILITY,
    BACKUPS,
    DATA_STORE,
    NEWEST,
    REDEFINE_INACTIVE,
    REDEFINE_WITHOUT_DOMAIN,
    UNTYPED_DISK,
    Profile,
)

if TYPE_CHECKING:
    from lxml import etree

    from virtbackupd.drivers.memory.domain import MemoryDomain

_QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"


def read_domain(xml: str, profile: Profile, *, validate: bool) -> DomainDefinition:
    """The definition of a domain as the release understands it."""
    definition = DomainDefinition.parse(xml, validate=validate)
    if profile is NEWEST or profile.has(DATA_STORE):
        return definition
    return definition.edited(_drop_data_stores)


def _drop_data_stores(root: "etree._Element") -> None:
    for source in root.iterfind("devices/disk/source"):
        for store in source.findall("dataStore"):
            source.remove(store)


def check_backup(domain: "MemoryDomain", xml: str) -> None:
    """Refuse a backup that the release does not know, or no backup at all."""
    root = parse_document(xml, "domainbackup", origin=Origin.DOMAIN)
    domain.profile.check_backup(root)
    if not domain.profile.has(UNTYPED_DISK):
        _require_types(root)
    _require_backups(domain)


def check_checkpoint(domain: "MemoryDomain", xml: str, flags: int) -> None:
    """Refuse a new checkpoint, or a redefinition by rules that came later."""
    if flags & CheckpointCreate.REDEFINE:
        _check_redefine(domain, xml)
    _require_backups(domain)


def _check_redefine(domain: "MemoryDomain", xml: str) -> None:
    libvirt = domain.profile.libvirt
    if not domain.active and libvirt < REDEFINE_INACTIVE:
        raise OperationUnsupported(
            f"domain {domain.ref.name} is not running, and libvirt {libvirt} redefines checkpoints"
            " of running domains only: start it"
        )
    root = parse_document(xml, "domaincheckpoint", origin=Origin.DOMAIN_CHECKPOINT)
    if libvirt < REDEFINE_WITHOUT_DOMAIN and root.find("domain") is None:
        raise XmlError(
            f"libvirt {libvirt} redefines a checkpoint only with its <domain>: add it",
            origin=Origin.DOMAIN_CHECKPOINT,
        )


def _require_types(root: "etree._Element") -> None:
    if root.get("mode") == "pull":
        return
    for disk in root.iterfind("disks/disk"):
        if disk.get("backup") != "no" and disk.get("type") is None:
            raise XmlInvalidSchema(
                f"line {disk.sourceline}: a push of disk {disk.get('name')} needs a type before"
                f" libvirt {UNTYPED_DISK}"
            )


def _asks_for_backups(root: "etree._Element") -> bool:
    """What QEMU can do but libvirt does not use yet can be asked for domain by domain."""
    added = root.iterfind(f"{_QEMU}capabilities/{_QEMU}add")
    return any(element.get("capability") == BACKUP_CAPABILITY for element in added)


def _require_backups(domain: "MemoryDomain") -> None:
    if not domain.active or domain.profile.has(BACKUPS):
        return
    if not domain.definition.view(_asks_for_backups):
        raise OperationUnsupported(
            f"incremental backup is not supported yet in libvirt {domain.profile.libvirt}: let"
            f" domain {domain.ref.name} ask for it with <qemu:add capability="
            f"'{BACKUP_CAPABILITY}'/> in <qemu:capabilities>, and start it anew"
        )
