"""Each event of a driver against the message it makes, field by field."""

from typing import Any

import pytest

from virtbackupd.drivers import events
from virtbackupd.drivers.enums import BlockJobStatus, BlockJobType
from virtbackupd.drivers.events import DomainRef, SecretRef
from virtbackupd.protocol import schema
from virtbackupd.server.event_forms import EVENT_COUNTS, FORMS, Family, Form, Subject, subject

TEST = DomainRef("test", bytes(range(16)), 1)
SECRET = SecretRef(bytes(16), 1, "usage")
JOB = BlockJobType.BACKUP, BlockJobStatus.FAILED
PARAMS = (events.TypedParameter("a", 1, 2),)

EXPECTED: list[tuple[events.Event, dict[int, tuple[Any, ...]]]] = [
    (events.DomainLifecycle(TEST, 5, 1), {0: (TEST, 5, 1)}),
    (events.DomainReboot(TEST), {1: (TEST,)}),
    (
        events.DomainIoError(TEST, "/d", "vda", 1, "enospc"),
        {4: (TEST, "/d", "vda", 1), 6: (TEST, "/d", "vda", 1, "enospc")},
    ),
    (
        events.DomainBlockJob(TEST, "/d", "vda", *JOB),
        {8: (TEST, "/d", 5, 1), 16: (TEST, "vda", 5, 1)},
    ),
    (events.DomainDeviceRemoved(TEST, "vdb"), {15: (TEST, "vdb")}),
    (events.DomainAgentLifecycle(TEST, 1, 2), {18: (TEST, 1, 2)}),
    (events.DomainDeviceAdded(TEST, "vdb"), {19: (TEST, "vdb")}),
    (events.DomainDeviceRemovalFailed(TEST, "vdb"), {22: (TEST, "vdb")}),
    (events.DomainJobCompleted(TEST, PARAMS), {21: (TEST, [("a", (1, 2))])}),
    (events.DomainMetadataChange(TEST, 2, "urn:x"), {23: (TEST, 2, "urn:x")}),
    (events.DomainBlockThreshold(TEST, "vda", None, 9, 1), {24: (TEST, "vda", None, 9, 1)}),
    (events.SecretLifecycle(SECRET, 0, 0), {0: (SECRET, 0, 0)}),
    (events.SecretValueChanged(SECRET), {1: (SECRET,)}),
]
ALL_FORMS = [form for forms in FORMS.values() for form in forms]


@pytest.mark.parametrize(("event", "messages"), EXPECTED)
def test_fields(event: events.Event, messages: dict[int, tuple[Any, ...]]) -> None:
    assert {form.event_id: form.body(event) for form in FORMS[type(event)]} == messages


def test_every_event_is_tested() -> None:
    assert {type(event) for event, _ in EXPECTED} == set(FORMS)


@pytest.mark.parametrize("form", ALL_FORMS, ids=lambda form: form.modern)
def test_messages_are_events_of_the_interface_text(form: Form) -> None:
    names = [name for name in (form.modern, form.legacy) if name]
    assert all(schema.load().by_name[name].is_event for name in names)


@pytest.mark.parametrize("form", ALL_FORMS, ids=lambda form: form.modern)
def test_ids_are_within_their_family(form: Form) -> None:
    assert 0 <= form.event_id < EVENT_COUNTS[form.family]


@pytest.mark.parametrize("form", ALL_FORMS, ids=lambda form: form.modern)
def test_the_first_sixteen_have_an_old_message(form: Form) -> None:
    assert (form.legacy is not None) == (form.family is Family.DOMAIN and form.event_id < 16)


@pytest.mark.parametrize(
    ("event", "about"),
    [(events.DomainReboot(TEST), TEST), (events.SecretValueChanged(SECRET), SECRET)],
)
def test_subject(event: events.Event, about: Subject) -> None:
    assert subject(event) == about
