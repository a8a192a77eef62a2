"""What a driver tells the world: frozen event records and the bus that carries them.

The bus is synchronous: `publish` calls each subscriber in order and never waits, so a driver may
publish from any place. Bounds belong to whoever queues what arrives. This module knows no client
and no wire number.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

import msgspec

from virtbackupd.drivers.enums import BlockJobStatus, BlockJobType

CANCELED = "Operation canceled"
"""The text that clients know from QEMU, also at the normal end of a pull backup."""


class DomainRef(NamedTuple):
    """A domain as it was named at one moment; `id` is -1 while inactive."""

    name: str
    uuid: bytes
    id: int


class TypedParameter(NamedTuple):
    """`virTypedParameter`; `type` is a `TypedParameterType` value."""

    field: str
    type: int
    value: int | float | str


class DomainLifecycle(msgspec.Struct, frozen=True):
    """VIR_DOMAIN_EVENT_ID_LIFECYCLE."""

    domain: DomainRef
    event: int
    detail: int


class DomainReboot(msgspec.Struct, frozen=True):
    """VIR_DOMAIN_EVENT_ID_REBOOT."""

    domain: DomainRef


class DomainIoError(msgspec.Struct, frozen=True):
    """VIR_DOMAIN_EVENT_ID_IO_ERROR and its successor with a reason: one record feeds both."""

    domain: DomainRef
    path: str
    device: str
    action: int
    reason: str


class DomainBlockJob(msgspec.Struct, frozen=True):
    """VIR_DOMAIN_EVENT_ID_BLOCK_JOB (by `path`, when not empty), then BLOCK_JOB_2 (by `target`)."""

    domain: DomainRef
    path: str
    target: str
    type: BlockJobType
    status: BlockJobStatus


class DomainJobCompleted(msgspec.Struct, frozen=True):
    """VIR_DOMAIN_EVENT_ID_JOB_COMPLETED."""

    domain: DomainRef
    params: tuple[TypedParameter, ...]


class DomainDeviceAdded(msgspec.Struct, frozen=True):
    """VIR_DOMAIN_EVENT_ID_DEVICE_ADDED."""

    domain: DomainRef
    alias: str


class DomainDeviceRemoved(msgspec.Struct, frozen=True):
    """VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED."""

    domain: DomainRef
    alias: str


class DomainDeviceRemovalFailed(msgspec.Struct, frozen=True):
    """VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED: the guest keeps the device."""

    domain: DomainRef
    alias: str


class DomainAgentLifecycle(msgspec.Struct, frozen=True):
    """VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE."""

    domain: DomainRef
    state: int
    reason: int


class DomainMetadataChange(msgspec.Struct, frozen=True):
    """VIR_DOMAIN_EVENT_ID_METADATA_CHANGE."""

    domain: DomainRef
    type: int
    namespace: str | None


class DomainBlockThreshold(msgspec.Struct, frozen=True):
    """VIR_DOMAIN_EVENT_ID_BLOCK_THRESHOLD; `threshold` and `excess` in bytes."""

    domain: DomainRef
    device: str
    path: str | None
    threshold: int
    excess: int


class SecretRef(NamedTuple):
    """A secret as clients hold it."""

    uuid: bytes
    usage_type: int
    usage_id: str


class SecretLifecycle(msgspec.Struct, frozen=True):
    """VIR_SECRET_EVENT_ID_LIFECYCLE; event 0 defined, 1 undefined."""

    secret: SecretRef
    event: int
    detail: int


class SecretValueChanged(msgspec.Struct, frozen=True):
    """VIR_SECRET_EVENT_ID_VALUE_CHANGED."""

    secret: SecretRef


DomainEvent: TypeAlias = (
    DomainLifecycle
    | DomainReboot
    | DomainIoError
    | DomainBlockJob
    | DomainJobCompleted
    | DomainDeviceAdded
    | DomainDeviceRemoved
    | DomainDeviceRemovalFailed
    | DomainAgentLifecycle
    | DomainMetadataChange
    | DomainBlockThreshold
)
Event: TypeAlias = DomainEvent | SecretLifecycle | SecretValueChanged
Subscriber: TypeAlias = Callable[[Event], None]


class EventBus:
    """Hands each event to each subscriber, in the order of subscription."""

    def __init__(self) -> None:
        self._subscribers: list[Subscriber] = []
        self.published = 0

    @contextmanager
    def subscribed(self, subscriber: Subscriber) -> Iterator[None]:
        """Deliver to `subscriber`, which must not raise and must not wait, until the block ends."""
        self._subscribers.append(subscriber)
        try:
            yield
        finally:
            self._subscribers.remove(subscriber)

    def publish(self, event: Event) -> None:
        """Deliver `event` now, before this call returns."""
        self.published += 1
        for subscriber in tuple(self._subscribers):
            subscriber(event)
