"""The indexes of domains by UUID, name and id."""

from dataclasses import dataclass

import pytest

from virtbackupd.drivers.errors import NoDomain, OperationFailed, OperationInvalid
from virtbackupd.drivers.events import DomainRef
from virtbackupd.drivers.registry import DomainRegistry

ONE, TWO = bytes(15) + b"\1", bytes(15) + b"\2"


@dataclass(eq=False)
class Named:
    ref: DomainRef


@pytest.fixture
def one() -> Named:
    return Named(DomainRef("one", ONE, -1))


@pytest.fixture
def registry(one: Named) -> DomainRegistry[Named]:
    registry = DomainRegistry[Named]()
    registry.add(one)
    return registry


def test_found_by_uuid_and_name(registry: DomainRegistry[Named], one: Named) -> None:
    assert registry.by_uuid(ONE) is one
    assert registry.by_name("one") is one
    assert list(registry) == [one]


def test_unknown_names_are_refused(registry: DomainRegistry[Named]) -> None:
    with pytest.raises(NoDomain):
        registry.by_uuid(TWO)
    with pytest.raises(NoDomain):
        registry.by_name("two")
    with pytest.raises(NoDomain):
        registry.by_id(1)


def test_maybe_by_uuid_does_not_raise(registry: DomainRegistry[Named]) -> None:
    assert registry.maybe_by_uuid(TWO) is None


def test_refusal_spells_the_uuid(registry: DomainRegistry[Named]) -> None:
    with pytest.raises(NoDomain, match="00000000-0000-0000-0000-000000000002"):
        registry.by_uuid(TWO)


def test_ids_rise_and_are_not_used_again(registry: DomainRegistry[Named], one: Named) -> None:
    registry.activate(one)
    registry.deactivate(one)
    registry.activate(one)
    assert one.ref.id == 2
    assert registry.by_id(2) is one


def test_inactive_domain_has_no_id(registry: DomainRegistry[Named], one: Named) -> None:
    registry.activate(one)
    registry.deactivate(one)
    assert one.ref.id == -1
    with pytest.raises(NoDomain):
        registry.by_id(1)


def test_matching_needs_both(registry: DomainRegistry[Named], one: Named) -> None:
    assert registry.matching("one", ONE) is one
    assert registry.matching("two", TWO) is None


@pytest.mark.parametrize(("name", "uuid"), [("one", TWO), ("two", ONE)])
def test_half_a_match_is_refused(registry: DomainRegistry[Named], name: str, uuid: bytes) -> None:
    with pytest.raises(OperationFailed):
        registry.matching(name, uuid)


def test_rename_moves_the_name(registry: DomainRegistry[Named], one: Named) -> None:
    registry.rename(one, "other")
    assert registry.by_name("other") is one
    assert one.ref == DomainRef("other", ONE, -1)
    with pytest.raises(NoDomain):
        registry.by_name("one")


def test_rename_to_a_taken_name(registry: DomainRegistry[Named], one: Named) -> None:
    registry.add(Named(DomainRef("two", TWO, -1)))
    with pytest.raises(OperationInvalid):
        registry.rename(one, "two")


def test_removed_domain_is_gone(registry: DomainRegistry[Named], one: Named) -> None:
    registry.remove(one)
    assert len(registry) == 0
    assert registry.matching("one", ONE) is None
