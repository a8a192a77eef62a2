"""The secrets of one driver: definitions by UUID, their values, and the events about them.

A value is never logged. Rules are those of libvirt's secret driver. Files are not known here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple
from uuid import UUID

from virtbackupd.drivers.definitions.secret import (
    SecretDefinition,
    SecretName,
    format_secret,
    parse_secret,
)
from virtbackupd.drivers.errors import (
    InternalError,
    InvalidArgument,
    InvalidSecret,
    NoSecret,
    Origin,
    UnsupportedFlags,
)
from virtbackupd.drivers.events import EventBus, SecretLifecycle, SecretRef, SecretValueChanged

MAX_VALUE: Final = 65536
"""The wire's own bound for a secret's value."""
_VALIDATE: Final = 1
_USAGE_TYPES: Final = {None: 0, "volume": 1, "ceph": 2, "iscsi": 3, "tls": 4, "vtpm": 5}
_LIST_FILTERS: Final = (
    (1, lambda definition: definition.ephemeral),
    (2, lambda definition: not definition.ephemeral),
    (4, lambda definition: definition.private),
    (8, lambda definition: not definition.private),
)


class _Change(IntEnum):
    """virSecretEventLifecycleType."""

    DEFINED = 0
    UNDEFINED = 1


@dataclass(slots=True)
class _Secret:
    definition: SecretDefinition
    value: bytes | None = None

    @property
    def ref(self) -> SecretRef:
        definition = self.definition
        number = _USAGE_TYPES[definition.usage_type]
        return SecretRef(definition.uuid, number, definition.usage or "")


class SecretRecord(NamedTuple):
    """A secret as it was at an instant."""

    definition: SecretDefinition
    value: bytes | None


class SecretStore:
    """Answers the secret calls of the driver interface, under their names."""

    def __init__(self, events: EventBus) -> None:
        self._events = events
        self._secrets: dict[bytes, _Secret] = {}

    def list_all_secrets(self, flags: int) -> list[SecretRef]:
        """Those that pass the filter bits: ephemeral or not, private or not."""
        _check_flags(flags, 15, "virConnectListAllSecrets")
        return [
            secret.ref
            for secret in self._secrets.values()
            if _passes(secret.definition, flags & 3) and _passes(secret.definition, flags & 12)
        ]

    def secret_lookup_by_uuid(self, uuid: bytes) -> SecretRef:
        return self._require(uuid).ref

    def secret_lookup_by_usage(self, usage_type: int, usage_id: str) -> SecretRef:
        for secret in self._secrets.values():
            if secret.ref[1:] == (usage_type, usage_id):
                return secret.ref
        raise NoSecret.of_usage(usage_type, usage_id)

    def secret_define_xml(self, xml: str, flags: int) -> SecretRef:
        """Add a secret, or replace a definition under the same UUID and usage; keeps the value."""
        _check_flags(flags, _VALIDATE, "virSecretDefineXML")
        definition = parse_secret(xml)
        known = self._secrets.get(definition.uuid)
        if known is None:
            self._refuse_double_usage(definition)
            known = self._secrets[definition.uuid] = _Secret(definition)
        else:
            _check_redefinition(known.definition, definition)
            known.definition = definition
        self._events.publish(SecretLifecycle(known.ref, _Change.DEFINED, 0))
        return known.ref

    def secret_get_xml_desc(self, uuid: bytes, flags: int) -> str:
        _check_flags(flags, 0, "virSecretGetXMLDesc")
        return format_secret(self._require(uuid).definition)

    def secret_set_value(self, uuid: bytes, value: bytes, flags: int) -> None:
        _check_flags(flags, 0, "virSecretSetValue")
        secret = self._require(uuid)
        if len(value) > MAX_VALUE:
            raise InvalidArgument(
                f"secret {UUID(bytes=uuid)} cannot hold {len(value)} bytes, at most {MAX_VALUE}",
                origin=Origin.SECRET,
            )
        secret.value = value
        self._events.publish(SecretValueChanged(secret.ref))

    def secret_get_value(self, uuid: bytes, flags: int) -> bytes:
        _check_flags(flags, 0, "virSecretGetValue")
        secret = self._require(uuid)
        if secret.definition.private:
            raise InvalidSecret(f"secret {UUID(bytes=uuid)} is private: its value is not shown")
        return self.require_value(uuid)

    def secret_undefine(self, uuid: bytes) -> None:
        """Forget a secret with its value."""
        secret = self._require(uuid)
        del self._secrets[uuid]
        self._events.publish(SecretLifecycle(secret.ref, _Change.UNDEFINED, 0))

    def named(self, name: SecretName) -> bytes:
        """The UUID of the secret that a document means; a usage is that of a volume."""
        if name.uuid is not None:
            return self._require(_read_uuid(name.uuid)).definition.uuid
        return self.secret_lookup_by_usage(_USAGE_TYPES["volume"], name.usage or "").uuid

    def require_value(self, uuid: bytes) -> bytes:
        """The value for the hypervisor's own use, which may also have that of a private secret."""
        secret = self._require(uuid)
        if secret.value is None:
            raise NoSecret(f"secret {UUID(bytes=uuid)} has no value yet: set one first")
        return secret.value

    def value(self, uuid: bytes) -> bytes | None:
        """What `load` must be given to have the value back."""
        return self._require(uuid).value

    def definition(self, uuid: bytes) -> SecretDefinition:
        return self._require(uuid).definition

    def load(self, definition: SecretDefinition, value: bytes | None) -> None:
        """Enter a secret from storage; nobody is told."""
        self._secrets[definition.uuid] = _Secret(definition, value)

    def state(self) -> tuple[SecretRecord, ...]:
        """All secrets with their values as of now."""
        return tuple(SecretRecord(each.definition, each.value) for each in self._secrets.values())

    def restore(self, records: Iterable[SecretRecord]) -> None:
        """Have these secrets and no other, and tell which have gone and which have come."""
        before = self._secrets
        self._secrets = {each.definition.uuid: _Secret(*each) for each in records}
        for uuid, secret in before.items():
            if uuid not in self._secrets:
                self._events.publish(SecretLifecycle(secret.ref, _Change.UNDEFINED, 0))
        for uuid, secret in self._secrets.items():
            if uuid not in before:
                self._events.publish(SecretLifecycle(secret.ref, _Change.DEFINED, 0))

    def _require(self, uuid: bytes) -> _Secret:
        secret = self._secrets.get(uuid)
        if secret is None:
            raise NoSecret.of_uuid(uuid)
        return secret

    def _refuse_double_usage(self, definition: SecretDefinition) -> None:
        if definition.usage is None:
            return
        for other in self._secrets.values():
            known = other.definition
            if (known.usage_type, known.usage) == (definition.usage_type, definition.usage):
                raise InternalError(
                    f"secret {UUID(bytes=known.uuid)} is already defined for use with"
                    f" {known.usage}: undefine it, or give its UUID to replace it",
                    origin=Origin.SECRET,
                )


def _read_uuid(text: str) -> bytes:
    try:
        return UUID(text).bytes
    except ValueError:
        raise InvalidArgument(
            f"{text!r} is no UUID: name a secret as secret-list shows it", origin=Origin.SECRET
        ) from None


def _check_flags(flags: int, known: int, function: str) -> None:
    if unknown := flags & ~known:
        raise UnsupportedFlags(
            f"unsupported flags 0x{unknown:x} in {function}", origin=Origin.SECRET
        )


def _check_redefinition(old: SecretDefinition, new: SecretDefinition) -> None:
    uuid = UUID(bytes=old.uuid)
    if (old.usage_type, old.usage) != (new.usage_type, new.usage):
        raise InternalError(
            f"secret {uuid} is already defined for use with {old.usage or 'nothing'}",
            origin=Origin.SECRET,
        )
    if old.private and not new.private:
        raise InternalError(
            f"secret {uuid} is private and cannot be made public", origin=Origin.SECRET
        )


def _passes(definition: SecretDefinition, wanted: int) -> bool:
    """Whether any of the wanted bits fits; no bit wanted, no filter."""
    return not wanted or any(wanted & bit and fits(definition) for bit, fits in _LIST_FILTERS)
