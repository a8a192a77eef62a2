"""Which messages a driver's event makes: one row per event, with its fields for the wire.

The order of rows of one event is the order in which libvirt sends them. Knows no client.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import Any, NamedTuple, TypeAlias

from virtbackupd.drivers import events
from virtbackupd.server.translate import Wire, typed_params


class Family(Enum):
    """Each family of events has numbers of its own."""

    DOMAIN = auto()
    SECRET = auto()
    NETWORK = auto()
    STORAGE_POOL = auto()
    NODE_DEVICE = auto()
    MONITOR = auto()


EVENT_COUNTS = {
    Family.DOMAIN: 28,
    Family.SECRET: 2,
    Family.NETWORK: 2,
    Family.STORAGE_POOL: 2,
    Family.NODE_DEVICE: 2,
}
"""How many event ids exist; the monitor's events have names instead."""
LEGACY_COUNT = 16


_AnyEvent: TypeAlias = Any
"""The record of the row's own class."""


Subject: TypeAlias = events.DomainRef | events.SecretRef


class Form(NamedTuple):
    """One message that an event makes. `body` gives its fields, or None to send nothing."""

    family: Family
    event_id: int
    modern: str
    legacy: str | None
    body: Callable[[_AnyEvent], Wire | None]


def _io_error(event: events.DomainIoError) -> Wire:
    return (event.domain, event.path, event.device, event.action)


def _block_job(event: events.DomainBlockJob) -> Wire | None:
    """Clients of the old event expect a path; a disk without one is only in the newer event."""
    return (event.domain, event.path, event.type, event.status) if event.path else None


def _job_completed(event: events.DomainJobCompleted) -> Wire:
    return (event.domain, typed_params(event.params))


def _fields(*names: str) -> Callable[[_AnyEvent], Wire]:
    def body(event: _AnyEvent) -> Wire:
        return tuple(getattr(event, name) for name in names)

    return body


def _domain(
    event_id: int, name: str, body: Callable[[_AnyEvent], Wire | None], *, legacy: bool = True
) -> Form:
    """Events of the first sixteen have messages of both generations."""
    if legacy:
        old = f"DOMAIN_EVENT_{name}"
        return Form(Family.DOMAIN, event_id, f"DOMAIN_EVENT_CALLBACK_{name}", old, body)
    return Form(Family.DOMAIN, event_id, name, None, body)


FORMS: dict[type[events.Event], tuple[Form, ...]] = {
    events.DomainLifecycle: (_domain(0, "LIFECYCLE", _fields("domain", "event", "detail")),),
    events.DomainReboot: (_domain(1, "REBOOT", _fields("domain")),),
    events.DomainIoError: (
        _domain(4, "IO_ERROR", _io_error),
        _domain(6, "IO_ERROR_REASON", _fields("domain", "path", "device", "action", "reason")),
    ),
    events.DomainBlockJob: (
        _domain(8, "BLOCK_JOB", _block_job),
        _domain(
            16,
            "DOMAIN_EVENT_BLOCK_JOB_2",
            _fields("domain", "target", "type", "status"),
            legacy=False,
        ),
    ),
    events.DomainDeviceRemoved: (
        Form(
            Family.DOMAIN,
            15,
            "DOMAIN_EVENT_CALLBACK_DEVICE_REMOVED",
            "DOMAIN_EVENT_DEVICE_REMOVED",
            _fields("domain", "alias"),
        ),
    ),
    events.DomainAgentLifecycle: (
        _domain(
            18,
            "DOMAIN_EVENT_CALLBACK_AGENT_LIFECYCLE",
            _fields("domain", "state", "reason"),
            legacy=False,
        ),
    ),
    events.DomainDeviceAdded: (
        _domain(19, "DOMAIN_EVENT_CALLBACK_DEVICE_ADDED", _fields("domain", "alias"), legacy=False),
    ),
    events.DomainJobCompleted: (
        _domain(21, "DOMAIN_EVENT_CALLBACK_JOB_COMPLETED", _job_completed, legacy=False),
    ),
    events.DomainDeviceRemovalFailed: (
        _domain(
            22,
            "DOMAIN_EVENT_CALLBACK_DEVICE_REMOVAL_FAILED",
            _fields("domain", "alias"),
            legacy=False,
        ),
    ),
    events.DomainMetadataChange: (
        _domain(
            23,
            "DOMAIN_EVENT_CALLBACK_METADATA_CHANGE",
            _fields("domain", "type", "namespace"),
            legacy=False,
        ),
    ),
    events.DomainBlockThreshold: (
        _domain(
            24,
            "DOMAIN_EVENT_BLOCK_THRESHOLD",
            _fields("domain", "device", "path", "threshold", "excess"),
            legacy=False,
        ),
    ),
    events.SecretLifecycle: (
        Form(
            Family.SECRET,
            0,
            "SECRET_EVENT_LIFECYCLE",
            None,
            _fields("secret", "event", "detail"),
        ),
    ),
    events.SecretValueChanged: (
        Form(Family.SECRET, 1, "SECRET_EVENT_VALUE_CHANGED", None, _fields("secret")),
    ),
}


def subject(event: events.Event) -> Subject:
    """The object that the event is about."""
    if isinstance(event, events.SecretLifecycle | events.SecretValueChanged):
        return event.secret
    return event.domain
