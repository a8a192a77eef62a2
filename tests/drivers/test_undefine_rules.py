"""When a domain may be undefined or renamed."""

from dataclasses import dataclass, field

import pytest

from virtbackupd.drivers.enums import Undefine
from virtbackupd.drivers.errors import InvalidArgument, OperationInvalid, XmlError
from virtbackupd.drivers.events import DomainRef
from virtbackupd.drivers.undefine_rules import require_renamable, require_undefinable


@dataclass
class Subject:
    active: bool = False
    persistent: str | None = "definition"
    saved: str | None = None
    checkpoints: list[str] = field(default_factory=list)
    ref: DomainRef = field(default_factory=lambda: DomainRef("one", bytes(16), -1))


def test_a_plain_domain_may_be_undefined() -> None:
    require_undefinable(Subject(), 0)


def test_a_transient_domain_cannot_be_undefined() -> None:
    with pytest.raises(OperationInvalid, match="transient"):
        require_undefinable(Subject(persistent=None), 0)


def test_checkpoints_must_be_named_by_a_flag() -> None:
    with pytest.raises(OperationInvalid, match="2 checkpoints"):
        require_undefinable(Subject(checkpoints=["a", "b"]), Undefine.TPM | Undefine.KEEP_NVRAM)


def test_with_the_flag_checkpoints_do_not_matter() -> None:
    require_undefinable(Subject(checkpoints=["a"]), Undefine.CHECKPOINTS_METADATA)


def test_checkpoints_of_a_running_domain_do_not_matter() -> None:
    require_undefinable(Subject(active=True, checkpoints=["a"]), 0)


@pytest.mark.parametrize(
    "flags", [Undefine.NVRAM | Undefine.KEEP_NVRAM, Undefine.TPM | Undefine.KEEP_TPM]
)
def test_what_is_kept_cannot_be_removed(flags: Undefine) -> None:
    with pytest.raises(OperationInvalid, match="exclude each other"):
        require_undefinable(Subject(), flags)


def test_a_save_image_must_be_named_by_a_flag() -> None:
    with pytest.raises(OperationInvalid, match="MANAGED_SAVE"):
        require_undefinable(Subject(saved="image"), 0)


def test_a_new_name_is_returned() -> None:
    assert require_renamable(Subject(), "two") == "two"


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        (Subject(active=True), "running"),
        (Subject(persistent=None), "transient"),
        (Subject(saved="image"), "save image"),
    ],
)
def test_a_domain_in_use_cannot_be_renamed(subject: Subject, reason: str) -> None:
    with pytest.raises(OperationInvalid, match=reason):
        require_renamable(subject, "two")


def test_the_name_must_change() -> None:
    with pytest.raises(OperationInvalid, match="already"):
        require_renamable(Subject(), "one")


@pytest.mark.parametrize("name", ["a/b", "a\nb", ".."])
def test_a_name_must_be_able_to_name_a_file(name: str) -> None:
    with pytest.raises(XmlError, match="file name"):
        require_renamable(Subject(), name)


@pytest.mark.parametrize("name", [None, ""])
def test_a_name_must_not_be_empty(name: str | None) -> None:
    with pytest.raises(InvalidArgument, match="empty"):
        require_renamable(Subject(), name)
