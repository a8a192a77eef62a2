"""The checkpoint calls as far as they are the same in every driver: what is checked, in which
order, and which checkpoints a deletion means.

Documents, alignment and the tree have modules of their own; bitmaps and files are the driver's.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple, Protocol

from virtbackupd.drivers.checkpoint_tree import CheckpointTree
from virtbackupd.drivers.definitions.alignment import (
    align_checkpoint,
    align_redefined,
    require_bitmap_support,
)
from virtbackupd.drivers.definitions.checkpoint import (
    CheckpointDefinition,
    format_checkpoint,
    parse_checkpoint,
)
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.enums import (
    CheckpointDelete,
    CheckpointList,
    CheckpointXml,
)
from virtbackupd.drivers.errors import (
    CheckpointInconsistent,
    DriverError,
    InternalError,
    NoDomainCheckpoint,
    OperationUnsupported,
)
from virtbackupd.drivers.events import DomainRef
from virtbackupd.drivers.flags import (
    CHECKPOINT_CHILDREN,
    CHECKPOINT_DELETE,
    CHECKPOINT_LIST,
    check_none,
)

_MAX_NAME = 247
_QUOTED = 32


class CheckpointDomain(Protocol):
    """What is asked of a domain here."""

    ref: DomainRef
    checkpoints: CheckpointTree[CheckpointDefinition]

    @property
    def active(self) -> bool: ...

    @property
    def definition(self) -> DomainDefinition: ...


def parse_new(domain: CheckpointDomain, xml: str, now: float | None = None) -> CheckpointDefinition:
    """The document of a new checkpoint, for a domain that runs; made `now`, in seconds."""
    if not domain.active:
        raise OperationUnsupported(
            f"domain {domain.ref.name} is not running, start it to create a checkpoint"
        )
    return parse_checkpoint(xml, redefine=False, now=int(time.time() if now is None else now))


def prepare(domain: CheckpointDomain, definition: CheckpointDefinition) -> CheckpointDefinition:
    """Check a new checkpoint and fill in its disks and its parent; nothing changes yet."""
    live = domain.definition
    aligned = align_checkpoint(definition, live)
    require_bitmap_support(aligned, live)
    domain.checkpoints.check_new(aligned.name)
    _require_short_name(aligned.name)
    return replace(
        aligned,
        parent=domain.checkpoints.current,
        domain_xml=live.to_xml(inactive=True, secure=True),
    )


def parse_redefined(domain: CheckpointDomain, xml: str) -> CheckpointDefinition:
    """The document of a checkpoint that is known from elsewhere, checked against the tree."""
    definition = parse_checkpoint(xml, redefine=True, now=0)
    domain.checkpoints.check_redefine(definition.name, definition.parent)
    aligned = align_redefined(definition, domain.ref.uuid)
    _require_short_name(aligned.name)
    return aligned


def _require_short_name(name: str) -> None:
    """libvirt keeps a file of each checkpoint, for a moment called `NAME.xml.new`."""
    if len(name) > _MAX_NAME:
        raise InternalError(
            f"the name of a checkpoint is part of a file name and has at most {_MAX_NAME}"
            f" characters, {name[:_QUOTED]!r}... has {len(name)}"
        )


def targets_to_validate(domain: CheckpointDomain, definition: CheckpointDefinition) -> list[str]:
    """The disks of a redefined checkpoint that the domain still has."""
    return [
        disk.name
        for disk in definition.bitmap_disks
        if domain.definition.find_disk(disk.name) is not None
    ]


def describe(
    domain: CheckpointDomain, name: str, flags: int, sizes: Mapping[str, int] | None
) -> str:
    """The document as of now: the parent is the tree's."""
    definition = domain.checkpoints.get(name)
    return format_checkpoint(
        replace(definition, parent=domain.checkpoints.parent(name)),
        domain_xml=None if flags & CheckpointXml.NO_DOMAIN else definition.domain_xml,
        secure=bool(flags & CheckpointXml.SECURE),
        sizes=sizes,
    )


def list_all(domain: CheckpointDomain, flags: int) -> list[str]:
    CHECKPOINT_LIST.check(flags)
    return domain.checkpoints.list_all(CheckpointList(flags))


def list_children(domain: CheckpointDomain, name: str, flags: int) -> list[str]:
    CHECKPOINT_CHILDREN.check(flags)
    return domain.checkpoints.list_children(name, CheckpointList(flags))


def lookup(domain: CheckpointDomain, name: str, flags: int) -> str:
    check_none(flags, "virDomainCheckpointLookupByName")
    domain.checkpoints.get(name)
    return name


def get_parent(domain: CheckpointDomain, name: str, flags: int) -> str:
    """The parent's name; a root has none, which has the same code as an unknown checkpoint."""
    check_none(flags, "virDomainCheckpointGetParent")
    parent = domain.checkpoints.parent(name)
    if parent is None:
        raise NoDomainCheckpoint(f"checkpoint {name!r} has no parent")
    return parent


class Doomed(NamedTuple):
    """The checkpoints that a deletion means."""

    descendants: list[str]
    """In the order in which they go; one that fails does not stop those behind it."""
    last: list[str]
    """Goes only if all descendants have gone."""

    @property
    def names(self) -> list[str]:
        return self.descendants + self.last


def doomed(domain: CheckpointDomain, name: str, flags: int) -> Doomed:
    """See what is to be deleted, or refuse."""
    CHECKPOINT_DELETE.check(flags)
    if not domain.active and not flags & CheckpointDelete.METADATA_ONLY:
        raise OperationUnsupported(
            f"domain {domain.ref.name} is not running: start it, or delete the metadata only"
        )
    domain.checkpoints.get(name)
    children = flags & (CheckpointDelete.CHILDREN | CheckpointDelete.CHILDREN_ONLY)
    descendants = domain.checkpoints.descendants(name) if children else []
    return Doomed(descendants, [] if flags & CheckpointDelete.CHILDREN_ONLY else [name])


class Failures:
    """For going through several objects even if some fail: keeps the first refusal."""

    def __init__(self) -> None:
        self._first: DriverError | None = None
        self.last: DriverError | None = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        try:
            yield
        except DriverError as error:
            self._first = self._first or error
            self.last = error

    def __bool__(self) -> bool:
        return self._first is not None

    def raise_first(self) -> None:
        if self._first is not None:
            raise self._first


def missing_bitmap(definition: CheckpointDefinition, bitmap: str, target: str) -> InternalError:
    return InternalError(
        f"bitmap {bitmap!r} of checkpoint {definition.name!r} is missing in the images of "
        f"disk {target}: delete the checkpoint's metadata only"
    )


def broken_chain(name: str, target: str) -> CheckpointInconsistent:
    return CheckpointInconsistent(
        f"bitmap {name!r} of disk {target} is missing or broken, its changes since that "
        "checkpoint are not known: make a full backup of the disk"
    )
