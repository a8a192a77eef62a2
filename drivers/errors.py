"""The refusals a driver may give: one class per libvirt error code, with where the complaint arose.

This module knows no wire number. `server/errors.py` holds the table that turns a class into
libvirt's code and text prefix, and an `Origin` into libvirt's error domain. Anything else that a
driver raises is our own bug and is answered as an internal error.
"""

from enum import Enum, auto
from typing import Self
from uuid import UUID


class Origin(Enum):
    """Which part of libvirt a client believes the error came from (`virErrorDomain`)."""

    DRIVER = auto()
    """The driver that answers the connection: QEMU for `qemu:`, TEST for `test:`."""
    NONE = auto()
    XML = auto()
    DOMAIN = auto()
    DOMAIN_CHECKPOINT = auto()
    NETWORK = auto()
    STORAGE = auto()
    SECRET = auto()
    SECURITY = auto()
    QEMU_AGENT = auto()
    RPC = auto()
    POLKIT = auto()
    ACCESS = auto()
    ADMIN = auto()


class DriverError(Exception):
    """The caller asked for what cannot be. Each subclass is one `virErrorNumber`."""

    origin = Origin.DRIVER

    def __init__(self, message: str, *, origin: Origin | None = None) -> None:
        """`message` names the object, the cause and, where there is one, the remedy."""
        super().__init__(message)
        if origin is not None:
            self.origin = origin

    @property
    def message(self) -> str:
        """The detail, without the prefix that the error's code brings along."""
        return str(self.args[0])


class InternalError(DriverError):
    """VIR_ERR_INTERNAL_ERROR: an operation below us failed in a way libvirt has no code for."""


class Unsupported(DriverError):
    """VIR_ERR_NO_SUPPORT: this driver has no such call."""


class NoConnection(DriverError):
    """VIR_ERR_NO_CONNECT: no driver answers the URI."""

    origin = Origin.NONE


class InvalidArgument(DriverError):
    """VIR_ERR_INVALID_ARG."""


class UnsupportedFlags(InvalidArgument):
    """VIR_ERR_INVALID_ARG without a text prefix: unknown or conflicting flag bits."""


class OperationFailed(DriverError):
    """VIR_ERR_OPERATION_FAILED."""


class XmlError(DriverError):
    """VIR_ERR_XML_ERROR: a value in a well-formed document makes no sense."""

    origin = Origin.DOMAIN


class OperationDenied(DriverError):
    """VIR_ERR_OPERATION_DENIED: the connection is read-only."""


class XmlDetail(DriverError):
    """VIR_ERR_XML_DETAIL: the document is not well formed; the text holds the line."""

    origin = Origin.XML


class SystemFailure(DriverError):
    """VIR_ERR_SYSTEM_ERROR: the operating system refused; the text ends with its reason."""


class NoDomain(DriverError):
    """VIR_ERR_NO_DOMAIN. Whoever must not see a domain is told in the same words."""

    @classmethod
    def of_uuid(cls, uuid: bytes) -> Self:
        return cls(f"there is no domain with UUID {UUID(bytes=uuid)}")

    @classmethod
    def of_name(cls, name: str) -> Self:
        return cls(f"there is no domain named {name!r}")

    @classmethod
    def of_id(cls, id: int) -> Self:  # noqa: A002 - libvirt's own word
        return cls(f"there is no active domain with id {id}")


class NoNetwork(DriverError):
    """VIR_ERR_NO_NETWORK."""

    origin = Origin.NETWORK


class NoStoragePool(DriverError):
    """VIR_ERR_NO_STORAGE_POOL."""

    origin = Origin.STORAGE


class NoSecret(DriverError):
    """VIR_ERR_NO_SECRET. Whoever must not see a secret is told in the same words."""

    origin = Origin.SECRET

    @classmethod
    def of_uuid(cls, uuid: bytes) -> Self:
        return cls(f"there is no secret with UUID {UUID(bytes=uuid)}")

    @classmethod
    def of_usage(cls, usage_type: int, usage_id: str) -> Self:
        return cls(f"there is no secret with usage {usage_id!r} of type {usage_type}")


class OperationInvalid(DriverError):
    """VIR_ERR_OPERATION_INVALID: not in this state."""


class ConfigUnsupported(DriverError):
    """VIR_ERR_CONFIG_UNSUPPORTED."""


class OperationTimeout(DriverError):
    """VIR_ERR_OPERATION_TIMEOUT: another job holds the domain."""


class InvalidSecret(DriverError):
    """VIR_ERR_INVALID_SECRET: the secret cannot be used this way."""

    origin = Origin.SECRET


class NoDomainMetadata(DriverError):
    """VIR_ERR_NO_DOMAIN_METADATA."""

    origin = Origin.DOMAIN


class NoName(DriverError):
    """VIR_ERR_NO_NAME: a document lacks the name of what it is about."""

    origin = Origin.DOMAIN


class DeviceMissing(DriverError):
    """VIR_ERR_DEVICE_MISSING."""


class BlockCopyActive(DriverError):
    """VIR_ERR_BLOCK_COPY_ACTIVE."""


class OperationUnsupported(DriverError):
    """VIR_ERR_OPERATION_UNSUPPORTED."""


class ArgumentUnsupported(DriverError):
    """VIR_ERR_ARGUMENT_UNSUPPORTED."""


class AgentUnresponsive(DriverError):
    """VIR_ERR_AGENT_UNRESPONSIVE."""


class ResourceBusy(DriverError):
    """VIR_ERR_RESOURCE_BUSY."""


class AccessDenied(DriverError):
    """VIR_ERR_ACCESS_DENIED."""

    origin = Origin.ACCESS


class XmlInvalidSchema(DriverError):
    """VIR_ERR_XML_INVALID_SCHEMA: well formed, but not what the schema allows."""

    origin = Origin.XML


class NoDomainSnapshot(DriverError):
    """VIR_ERR_NO_DOMAIN_SNAPSHOT."""


class DomainExists(DriverError):
    """VIR_ERR_DOM_EXIST."""


class NoDomainCheckpoint(DriverError):
    """VIR_ERR_NO_DOMAIN_CHECKPOINT."""


class NoDomainBackup(DriverError):
    """VIR_ERR_NO_DOMAIN_BACKUP."""


class CheckpointInconsistent(DriverError):
    """VIR_ERR_CHECKPOINT_INCONSISTENT: metadata and bitmaps disagree."""
