"""Secrets: definitions, values, filters, refusals and events."""

from uuid import UUID, uuid4

import pytest

from virtbackupd.drivers.definitions.secret import SecretName
from virtbackupd.drivers.errors import (
    InternalError,
    InvalidArgument,
    InvalidSecret,
    NoSecret,
    UnsupportedFlags,
)
from virtbackupd.drivers.events import (
    Event,
    EventBus,
    SecretLifecycle,
    SecretRef,
    SecretValueChanged,
)
from virtbackupd.drivers.secret_store import MAX_VALUE, SecretStore

UUID_ONE = UUID("5d8e4b0f-2b1f-4a0f-9d4b-0d0e7f0c6a01")


def xml(
    *,
    uuid: UUID = UUID_ONE,
    private: bool = False,
    ephemeral: bool = False,
    volume: str | None = "/images/a",
) -> str:
    usage = f"<usage type='volume'><volume>{volume}</volume></usage>" if volume else ""
    words = {True: "yes", False: "no"}
    return (
        f"<secret ephemeral='{words[ephemeral]}' private='{words[private]}'>"
        f"<uuid>{uuid}</uuid>{usage}</secret>"
    )


@pytest.fixture
def store() -> SecretStore:
    return SecretStore(EventBus())


def test_a_defined_secret_is_found_by_uuid_and_usage(store: SecretStore) -> None:
    ref = store.secret_define_xml(xml(), 0)
    assert ref == SecretRef(UUID_ONE.bytes, 1, "/images/a")
    assert store.secret_lookup_by_uuid(UUID_ONE.bytes) == ref
    assert store.secret_lookup_by_usage(1, "/images/a") == ref


@pytest.mark.parametrize("name", [SecretName(str(UUID_ONE)), SecretName(usage="/images/a")])
def test_what_another_document_names(store: SecretStore, name: SecretName) -> None:
    store.secret_define_xml(xml(), 0)
    assert store.named(name) == UUID_ONE.bytes


@pytest.mark.parametrize("name", [SecretName(str(uuid4())), SecretName(usage="/images/b")])
def test_a_document_names_what_is_not_there(store: SecretStore, name: SecretName) -> None:
    store.secret_define_xml(xml(), 0)
    with pytest.raises(NoSecret):
        store.named(name)


def test_a_document_names_no_uuid(store: SecretStore) -> None:
    with pytest.raises(InvalidArgument, match="'none' is no UUID"):
        store.named(SecretName("none"))


def test_the_definition_comes_back(store: SecretStore) -> None:
    store.secret_define_xml(xml(private=True), 0)
    text = store.secret_get_xml_desc(UUID_ONE.bytes, 0)
    assert "<secret ephemeral='no' private='yes'>" in text
    assert "<volume>/images/a</volume>" in text


def test_a_value_comes_back(store: SecretStore) -> None:
    store.secret_define_xml(xml(), 0)
    store.secret_set_value(UUID_ONE.bytes, b"open sesame\0", 0)
    assert store.secret_get_value(UUID_ONE.bytes, 0) == b"open sesame\0"


def test_a_secret_without_value_has_none_to_show(store: SecretStore) -> None:
    store.secret_define_xml(xml(), 0)
    with pytest.raises(NoSecret, match="no value"):
        store.secret_get_value(UUID_ONE.bytes, 0)


def test_a_private_value_is_not_shown(store: SecretStore) -> None:
    store.secret_define_xml(xml(private=True), 0)
    store.secret_set_value(UUID_ONE.bytes, b"x", 0)
    with pytest.raises(InvalidSecret, match="private"):
        store.secret_get_value(UUID_ONE.bytes, 0)


def test_a_value_has_a_bound(store: SecretStore) -> None:
    store.secret_define_xml(xml(), 0)
    store.secret_set_value(UUID_ONE.bytes, bytes(MAX_VALUE), 0)
    with pytest.raises(InvalidArgument, match="at most"):
        store.secret_set_value(UUID_ONE.bytes, bytes(MAX_VALUE + 1), 0)


def test_a_new_definition_keeps_the_value(store: SecretStore) -> None:
    store.secret_define_xml(xml(), 0)
    store.secret_set_value(UUID_ONE.bytes, b"x", 0)
    store.secret_define_xml(xml(ephemeral=True), 0)
    assert store.secret_get_value(UUID_ONE.bytes, 0) == b"x"


def test_a_usage_belongs_to_one_secret(store: SecretStore) -> None:
    store.secret_define_xml(xml(), 0)
    with pytest.raises(InternalError, match="already defined for use with"):
        store.secret_define_xml(xml(uuid=uuid4()), 0)


def test_many_secrets_may_have_no_usage(store: SecretStore) -> None:
    for _ in range(2):
        store.secret_define_xml(xml(uuid=uuid4(), volume=None), 0)
    assert len(store.list_all_secrets(0)) == 2


@pytest.mark.parametrize("volume", ["/images/b", None])
def test_the_usage_of_a_secret_stays(store: SecretStore, volume: str | None) -> None:
    store.secret_define_xml(xml(), 0)
    with pytest.raises(InternalError, match="/images/a"):
        store.secret_define_xml(xml(volume=volume), 0)


def test_private_stays_private(store: SecretStore) -> None:
    store.secret_define_xml(xml(private=True), 0)
    with pytest.raises(InternalError, match="made public"):
        store.secret_define_xml(xml(), 0)


def test_an_undefined_secret_is_gone(store: SecretStore) -> None:
    store.secret_define_xml(xml(), 0)
    store.secret_undefine(UUID_ONE.bytes)
    assert store.list_all_secrets(0) == []
    with pytest.raises(NoSecret, match=str(UUID_ONE)):
        store.secret_lookup_by_uuid(UUID_ONE.bytes)


def test_an_unknown_usage_is_refused(store: SecretStore) -> None:
    with pytest.raises(NoSecret, match="/images/z"):
        store.secret_lookup_by_usage(1, "/images/z")


@pytest.mark.parametrize(
    ("flags", "count"), [(0, 4), (1, 2), (2, 2), (3, 4), (4, 2), (8, 2), (5, 1), (10, 1), (15, 4)]
)
def test_list_filters(store: SecretStore, flags: int, count: int) -> None:
    for private in (False, True):
        for ephemeral in (False, True):
            store.secret_define_xml(
                xml(uuid=uuid4(), private=private, ephemeral=ephemeral, volume=None), 0
            )
    assert len(store.list_all_secrets(flags)) == count


def test_unknown_flags_are_refused(store: SecretStore) -> None:
    with pytest.raises(UnsupportedFlags):
        store.list_all_secrets(16)
    with pytest.raises(UnsupportedFlags):
        store.secret_define_xml(xml(), 2)


def test_events_tell_of_each_change() -> None:
    bus, seen = EventBus(), list[Event]()
    store = SecretStore(bus)
    with bus.subscribed(seen.append):
        ref = store.secret_define_xml(xml(), 1)
        store.secret_set_value(UUID_ONE.bytes, b"x", 0)
        store.secret_undefine(UUID_ONE.bytes)
    assert seen == [SecretLifecycle(ref, 0, 0), SecretValueChanged(ref), SecretLifecycle(ref, 1, 0)]
