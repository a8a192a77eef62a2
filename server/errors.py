"""One row per class of refusal: libvirt's error number and the words its clients know.

Nothing else in the server knows these numbers. What is no `DriverError` is our own bug and becomes
an internal error here. This module knows no procedure and no connection.
"""

from dataclasses import replace
from typing import NamedTuple

from virtbackupd.drivers import errors as driver
from virtbackupd.drivers.errors import DriverError, Origin
from virtbackupd.protocol.errors import RemoteError


class ErrorRow(NamedTuple):
    """`virErrorNumber` and the format that goes with it; `%s` takes the detail."""

    code: int
    format: str


class AuthenticationFailed(DriverError):
    """VIR_ERR_AUTH_FAILED: like the next, a refusal that no driver gives."""

    origin = Origin.RPC


class Injected(Exception):
    """An error that somebody asked for, of any number."""

    def __init__(self, error: RemoteError) -> None:
        super().__init__(error.message)
        self.error = error


class NoServer(DriverError):
    """VIR_ERR_NO_SERVER, of the administration interface."""

    origin = Origin.ADMIN


class NoClient(DriverError):
    """VIR_ERR_NO_CLIENT, of the administration interface."""

    origin = Origin.ADMIN


class AuthenticationUnavailable(DriverError):
    """VIR_ERR_AUTH_UNAVAILABLE: there is nobody to ask for a password; virsh then begins to."""

    origin = Origin.POLKIT


INTERNAL = ErrorRow(1, "internal error: %s")

ROWS: dict[type[DriverError], ErrorRow] = {
    driver.InternalError: INTERNAL,
    driver.Unsupported: ErrorRow(3, "this function is not supported by the connection driver: %s"),
    driver.NoConnection: ErrorRow(5, "no connection driver available: %s"),
    driver.InvalidArgument: ErrorRow(8, "invalid argument: %s"),
    driver.UnsupportedFlags: ErrorRow(8, "%s"),
    driver.OperationFailed: ErrorRow(9, "operation failed: %s"),
    driver.NoName: ErrorRow(21, "missing name information in %s"),
    driver.XmlError: ErrorRow(27, "XML error: %s"),
    driver.DomainExists: ErrorRow(28, "domain already exists: %s"),
    driver.OperationDenied: ErrorRow(29, "operation forbidden: %s"),
    driver.XmlDetail: ErrorRow(35, "%s"),
    driver.SystemFailure: ErrorRow(38, "%s"),
    driver.NoDomain: ErrorRow(42, "Domain not found: %s"),
    driver.NoNetwork: ErrorRow(43, "Network not found: %s"),
    AuthenticationFailed: ErrorRow(45, "authentication failed: %s"),
    driver.NoStoragePool: ErrorRow(49, "Storage pool not found: %s"),
    driver.OperationInvalid: ErrorRow(55, "Requested operation is not valid: %s"),
    driver.InvalidSecret: ErrorRow(65, "Invalid secret: %s"),
    driver.NoSecret: ErrorRow(66, "Secret not found: %s"),
    driver.ConfigUnsupported: ErrorRow(67, "unsupported configuration: %s"),
    driver.OperationTimeout: ErrorRow(68, "Timed out during operation: %s"),
    driver.NoDomainSnapshot: ErrorRow(72, "Domain snapshot not found: %s"),
    driver.ArgumentUnsupported: ErrorRow(74, "argument unsupported: %s"),
    driver.NoDomainMetadata: ErrorRow(80, "metadata not found: %s"),
    driver.BlockCopyActive: ErrorRow(83, "block copy still active: %s"),
    driver.OperationUnsupported: ErrorRow(84, "Operation not supported: %s"),
    driver.AgentUnresponsive: ErrorRow(86, "Guest agent is not responding: %s"),
    driver.ResourceBusy: ErrorRow(87, "resource busy: %s"),
    driver.AccessDenied: ErrorRow(88, "access denied: %s"),
    driver.XmlInvalidSchema: ErrorRow(92, "XML document failed to validate against schema: %s"),
    NoServer: ErrorRow(95, "Server not found: %s"),
    NoClient: ErrorRow(96, "Client not found: %s"),
    driver.DeviceMissing: ErrorRow(99, "device not found: %s"),
    driver.NoDomainCheckpoint: ErrorRow(103, "Domain checkpoint not found: %s"),
    driver.NoDomainBackup: ErrorRow(104, "Domain backup job id not found: %s"),
    AuthenticationUnavailable: ErrorRow(94, "authentication unavailable: %s"),
    driver.CheckpointInconsistent: ErrorRow(109, "checkpoint inconsistent: %s"),
}

ORIGINS: dict[Origin, int] = {
    Origin.NONE: 0,
    Origin.XML: 5,
    Origin.RPC: 7,
    Origin.QEMU_AGENT: 10,
    Origin.STORAGE: 18,
    Origin.NETWORK: 19,
    Origin.DOMAIN: 20,
    Origin.SECURITY: 24,
    Origin.SECRET: 30,
    Origin.ACCESS: 55,
    Origin.ADMIN: 62,
    Origin.POLKIT: 60,
    Origin.DOMAIN_CHECKPOINT: 69,
}
"""`virErrorDomain`; `Origin.DRIVER` depends on the connection and is looked up by its scheme."""

SCHEME_ORIGINS = {"qemu": 10, "test": 12}
REMOTE_ORIGIN = 13


def refusal(error: DriverError, scheme: str = "") -> RemoteError:
    """What the caller sees of a driver's refusal on a connection opened as `scheme`."""
    return _remote_error(_row(type(error)), origin_number(error.origin, scheme), error.message)


def with_words(code: int, domain: int, detail: str, level: int) -> RemoteError:
    """An error of any number, with the words that go with it as far as they are known."""
    format_ = next((row.format for row in ROWS.values() if row.code == code), "%s")
    return replace(_remote_error(ErrorRow(code, format_), domain, detail), level=level)


def bug() -> RemoteError:
    """What the caller sees of an exception that nobody planned; the log holds the traceback."""
    return _remote_error(
        INTERNAL, REMOTE_ORIGIN, "the daemon met a bug of its own; its log has the details"
    )


def too_large(procedure: str, reason: str) -> RemoteError:
    """The answer exists but has no room on the wire."""
    return _remote_error(INTERNAL, REMOTE_ORIGIN, f"the result of {procedure} is lost: {reason}")


def origin_number(origin: Origin, scheme: str) -> int:
    """libvirt's number of the part that complains."""
    number = ORIGINS.get(origin)
    return SCHEME_ORIGINS.get(scheme, REMOTE_ORIGIN) if number is None else number


def _row(kind: type[DriverError]) -> ErrorRow:
    """The row of the nearest class, so that a driver may refine the classes it is given."""
    for base in kind.__mro__:
        row = ROWS.get(base)
        if row is not None:
            return row
    return INTERNAL


def _remote_error(row: ErrorRow, domain: int, detail: str) -> RemoteError:
    """libvirtd sends the format and its argument beside the finished text."""
    return RemoteError(
        row.code, domain, row.format.replace("%s", detail), str1=row.format, str2=detail
    )
