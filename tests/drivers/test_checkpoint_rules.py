"""Which checkpoints a deletion means, and what becomes of the failures on the way."""

from contextlib import nullcontext
from dataclasses import dataclass, field

import pytest

from virtbackupd.drivers.checkpoint_rules import (
    Doomed,
    Failures,
    doomed,
    get_parent,
    list_children,
    lookup,
    parse_new,
    parse_redefined,
)
from virtbackupd.drivers.checkpoint_tree import CheckpointTree
from virtbackupd.drivers.definitions.checkpoint import CheckpointDefinition
from virtbackupd.drivers.definitions.domain import DomainDefinition
from virtbackupd.drivers.enums import CheckpointDelete
from virtbackupd.drivers.errors import (
    InternalError,
    NoDomainCheckpoint,
    OperationUnsupported,
    UnsupportedFlags,
)
from virtbackupd.drivers.events import DomainRef

XML = "<domain type='test'><name>a</name><memory>1</memory><os><type>hvm</type></os></domain>"
CHILDREN, METADATA, ONLY = (
    CheckpointDelete.CHILDREN, CheckpointDelete.METADATA_ONLY, CheckpointDelete.CHILDREN_ONLY
)  # fmt: skip


@dataclass
class Guest:
    """A domain with the checkpoints c1, c2 and c3, each the parent of the next."""

    active: bool = True
    definition: DomainDefinition = field(default_factory=lambda: DomainDefinition.parse(XML))
    ref: DomainRef = field(default_factory=lambda: DomainRef("a", bytes(16), 1))
    checkpoints: CheckpointTree[CheckpointDefinition] = field(default_factory=CheckpointTree)

    def __post_init__(self) -> None:
        for name in ("c1", "c2", "c3"):
            self.checkpoints.add(name, CheckpointDefinition(name, 0))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (0, Doomed([], ["c1"])),
        (CHILDREN, Doomed(["c2", "c3"], ["c1"])),
        (ONLY, Doomed(["c2", "c3"], [])),
    ],
)
def test_what_a_deletion_means(flags: int, expected: Doomed) -> None:
    assert doomed(Guest(), "c1", flags) == expected


def test_both_flags_for_children() -> None:
    with pytest.raises(UnsupportedFlags):
        doomed(Guest(), "c1", CHILDREN | ONLY)


def test_an_inactive_domain_comes_before_an_unknown_checkpoint() -> None:
    with pytest.raises(OperationUnsupported):
        doomed(Guest(active=False), "none", 0)
    with pytest.raises(NoDomainCheckpoint):
        doomed(Guest(active=False), "none", METADATA)


def test_the_state_comes_before_the_document() -> None:
    with pytest.raises(OperationUnsupported):
        parse_new(Guest(active=False), "<")


@pytest.mark.parametrize(("length", "fits"), [(247, True), (248, False)])
def test_a_name_must_fit_into_a_file_name(length: int, *, fits: bool) -> None:
    time = "<creationTime>1</creationTime>"
    xml = f"<domaincheckpoint><name>{'n' * length}</name>{time}</domaincheckpoint>"
    with nullcontext() if fits else pytest.raises(InternalError, match="at most 247"):
        parse_redefined(Guest(), xml)


def test_a_root_has_no_parent() -> None:
    assert get_parent(Guest(), "c2", 0) == "c1"
    with pytest.raises(NoDomainCheckpoint):
        get_parent(Guest(), "c1", 0)


def test_flags_of_a_lookup() -> None:
    with pytest.raises(UnsupportedFlags):
        lookup(Guest(), "none", 1)


def test_flags_of_listing_children() -> None:
    with pytest.raises(UnsupportedFlags, match="virDomainCheckpointListAllChildren"):
        list_children(Guest(), "c1", 16)


def test_the_first_failure_is_kept() -> None:
    failures = Failures()
    for name in ("one", "two"):
        with failures.kept():
            raise InternalError(name)
    with pytest.raises(InternalError, match="one"):
        failures.raise_first()


def test_without_a_failure_nothing_is_raised() -> None:
    failures = Failures()
    with failures.kept():
        pass
    failures.raise_first()
    assert not failures
