"""The releases of libvirt that the in-memory hypervisor can pretend to be, as tables.

A profile is a row; what came with which release is a row of one of the other tables, with where
libvirt says so. Nothing is decided here about a single domain, and the wire is not known: a
procedure is its name.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from lxml import etree

from virtbackupd.drivers.errors import (
    InternalError,
    InvalidArgument,
    UnsupportedFlags,
    XmlInvalidSchema,
)


class Version(NamedTuple):
    """A release of libvirt or QEMU."""

    major: int
    minor: int
    micro: int = 0

    @property
    def number(self) -> int:
        """As the version calls answer it."""
        return self.major * 1_000_000 + self.minor * 1_000 + self.micro

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.micro}"


@dataclass(frozen=True, slots=True)
class Profile:
    """One release, with a QEMU of its time and the last procedures that its daemon knew."""

    name: str
    libvirt: Version
    qemu: Version
    last_remote: int
    """Numbers are given in the order of time, so the last one says which are known."""
    last_qemu: int
    events: int
    """How many kinds of domain events can be asked for."""

    def has(self, since: Version) -> bool:
        return self.libvirt >= since

    def knows(self, procedure: str, number: int) -> bool:
        """Whether a procedure exists; those of QEMU's program have names of their own kind."""
        return number <= (self.last_qemu if procedure.startswith("QEMU_") else self.last_remote)

    def unknown_flags(self, procedure: str) -> int:
        """The bits of a procedure's last argument that came later than this release."""
        bits = 0
        for row in FLAGS:
            if row.procedure == procedure and not self.has(row.since):
                bits |= row.bit
        return bits

    def unknown_types(self) -> int:
        """The kinds of guest information that came later."""
        return sum(row.bit for row in GUEST_INFO if not self.has(row.since))

    def restricts(self, procedure: str) -> bool:
        """Whether calls of a procedure have to be looked at."""
        if procedure == EVENT_REGISTRATION:
            return self.events < NEWEST.events
        if procedure == GUEST_INFO_CALL:
            return bool(self.unknown_types())
        return bool(self.unknown_flags(procedure))

    def check_call(self, procedure: str, function: str, args: tuple[object, ...]) -> None:
        """Refuse arguments that this release does not know; `function` is the public name."""
        if procedure == EVENT_REGISTRATION:
            self._check_event(args[0])
        elif procedure == GUEST_INFO_CALL:
            self._check_types(args[-2])
        elif isinstance(args[-1], int) and (unknown := args[-1] & self.unknown_flags(procedure)):
            raise UnsupportedFlags(f"unsupported flags 0x{unknown:x} in {function}")

    def _check_event(self, event_id: object) -> None:
        if isinstance(event_id, int) and self.events <= event_id < NEWEST.events:
            raise InternalError(f"unsupported event ID {event_id}")

    def _check_types(self, types: object) -> None:
        if isinstance(types, int) and (unknown := types & self.unknown_types()):
            raise InvalidArgument(f"unsupported guest information types 0x{unknown:x}")

    def check_backup(self, root: etree._Element) -> None:
        """Refuse what the schema of this release does not allow in a valid backup document."""
        for row in BACKUP_XML:
            if not self.has(row.since) and (found := root.find(row.path)) is not None:
                raise XmlInvalidSchema(
                    f"line {found.sourceline}: libvirt {self.libvirt} does not know {row.about}"
                )


class FlagRow(NamedTuple):
    """A bit of the last argument of a call."""

    procedure: str
    name: str
    bit: int
    since: Version


class TypeRow(NamedTuple):
    """A kind of guest information."""

    name: str
    bit: int
    since: Version


class ElementRow(NamedTuple):
    """What a document may contain; `path` finds the element that does."""

    path: str
    about: str
    since: Version


class FeatureRow(NamedTuple):
    """What is named in the capabilities, or answered when a client asks for a feature."""

    name: str
    since: Version


EVENT_REGISTRATION: Final = "CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY"
GUEST_INFO_CALL: Final = "DOMAIN_GET_GUEST_INFO"

# "Since" marks of libvirt's public headers.
FLAGS: Final = (
    FlagRow("DOMAIN_GET_HOSTNAME", "LEASE", 1, Version(6, 1)),
    FlagRow("DOMAIN_GET_HOSTNAME", "AGENT", 2, Version(6, 1)),
    FlagRow("DOMAIN_CHECKPOINT_CREATE_XML", "REDEFINE_VALIDATE", 4, Version(6, 10)),
    FlagRow("SECRET_DEFINE_XML", "VALIDATE", 1, Version(7, 7)),
    FlagRow("DOMAIN_CREATE_WITH_FLAGS", "RESET_NVRAM", 32, Version(8, 1)),
    FlagRow("DOMAIN_CREATE_XML", "RESET_NVRAM", 32, Version(8, 1)),
    FlagRow("DOMAIN_DESTROY_FLAGS", "REMOVE_LOGS", 2, Version(8, 3)),
    FlagRow("DOMAIN_UNDEFINE_FLAGS", "TPM", 32, Version(8, 9)),
    FlagRow("DOMAIN_UNDEFINE_FLAGS", "KEEP_TPM", 64, Version(8, 9)),
    FlagRow("DOMAIN_BACKUP_BEGIN", "PRESERVE_SHUTDOWN_DOMAIN", 2, Version(11, 10)),
)
GUEST_INFO: Final = (
    TypeRow("DISKS", 32, Version(7, 0)),
    TypeRow("INTERFACES", 64, Version(7, 10)),
    TypeRow("LOAD", 128, Version(11, 2)),
)
BACKUP_XML: Final = (
    # Absent from the schema of 6.0; backup_tls_x509_cert_dir of qemu.conf came along.
    ElementRow("server[@tls]", "the attribute tls of <server>", Version(6, 6)),
    # Absent from the schema of 6.0 and in that of 7.0; no profile lies between.
    ElementRow("disks/disk[@backupmode]", "the attribute backupmode of <disk>", Version(7, 0)),
    ElementRow("disks/disk[@incremental]", "the attribute incremental of <disk>", Version(7, 0)),
    # formatbackup: "Since 11.3.0".
    ElementRow(
        "server[@transport='fd']", "<server> with transport 'fd' for backups", Version(11, 3)
    ),
)
DATA_STORE: Final = Version(10, 10)
"""Before, `<dataStore>` in the source of a disk was passed over like any unknown element (NEWS)."""
UNTYPED_DISK: Final = Version(11, 3)
"""Before, a push backup's disk needed a type: schemas of 9.0 and 11.3."""
# NEWS of 8.10 (SGX EPC) and of 7.2 (virNetworkUpdate).
CAPABILITY_FEATURES: Final = (FeatureRow("sgx", Version(8, 10)),)
CONNECTION_FEATURES: Final = {16: FeatureRow("the order of network updates", Version(7, 2))}
"""By the number that CONNECT_SUPPORTS_FEATURE asks for."""

BACKUPS: Final = Version(7, 6)
"""Before, checkpoints and incremental backups were refused unless a domain asked for them.

Full ones were let through from 7.2 on (both NEWS); no profile lies between.
"""
BACKUP_CAPABILITY: Final = "incremental-backup"
# NEWS of 6.3 for the first.
REDEFINE_INACTIVE: Final = Version(6, 3)
REDEFINE_WITHOUT_DOMAIN: Final = Version(7, 0)

_ROWS: Final = (
    Profile("6.0", Version(6, 0), Version(4, 2), 422, 6, 25),
    Profile("7.6", Version(7, 6), Version(6, 1), 430, 6, 26),
    Profile("9.0", Version(9, 0), Version(7, 2), 443, 7, 27),
    Profile("11.10", Version(11, 10), Version(10, 1), 453, 7, 28),
    # Of 12.x, such as the channel life cycle event of 12.4, the interface has nothing yet.
    Profile("newest", Version(11, 10), Version(10, 1), 453, 7, 28),
)
PROFILES: Final = {row.name: row for row in _ROWS}
NEWEST: Final = PROFILES["newest"]
"""What is offered unless a profile is asked for, to its full extent."""


def find_profile(name: str) -> Profile:
    """InvalidArgument, with the known names, when there is none of that name."""
    found = PROFILES.get(name)
    if found is None:
        raise InvalidArgument(f"there is no profile {name!r}; known are: {', '.join(PROFILES)}")
    return found
