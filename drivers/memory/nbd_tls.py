"""TLS of NBD connections: QEMU's folder of certificates, and a session in memory.

Takes encrypted bytes and gives decrypted ones, and the other way round. Knows no socket.
"""

import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from virtbackupd.drivers.errors import ConfigUnsupported, InternalError

FOLDERS: Final = (Path("/etc/pki/libvirt-backup"), Path("/etc/pki/qemu"))
"""Where libvirt looks; the first that there is counts."""
CA: Final = "ca-cert.pem"
CERTIFICATE: Final = "server-cert.pem"
KEY: Final = "server-key.pem"
CHUNK: Final = 1 << 18


class TlsFolder(NamedTuple):
    """Certificates, and whether clients need one as well."""

    path: Path
    verify: bool = True


class _Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Named as in libvirt's qemu.conf."""

    backup_tls_x509_cert_dir: str | None = None
    backup_tls_x509_verify: bool = True


def folder_from(given: Mapping[str, object]) -> TlsFolder | None:
    """The folder that the driver's settings name, or libvirt's; None when there is none."""
    try:
        settings = msgspec.convert(given, _Settings)
    except msgspec.ValidationError as error:
        raise ConfigUnsupported(f"[memory]: {error}") from None
    named = settings.backup_tls_x509_cert_dir
    candidates = FOLDERS if named is None else (Path(named),)
    path = next((path for path in candidates if path.is_dir()), None)
    return None if path is None else TlsFolder(path, settings.backup_tls_x509_verify)


def make_context(folder: TlsFolder) -> ssl.SSLContext:
    """TLS 1.2 and newer. InternalError when a file cannot be used. Blocks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(folder.path / CERTIFICATE, folder.path / KEY, password=_no_password)
        if folder.verify:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(folder.path / CA)
    except (OSError, ValueError) as error:
        raise InternalError(
            f"the certificates for backups in {folder.path} cannot be used: {error}"
        ) from error
    return context


def _no_password() -> str:
    raise ValueError("the key asks for a password")


class TlsSession:
    """The server's side of one connection. SSLError when the peer breaks TLS."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def receive(self, data: bytes) -> None:
        """Encrypted bytes from the peer; none of them when it has left."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def pending(self) -> bytes:
        """Encrypted bytes to be sent."""
        return self._outgoing.read()

    def handshake(self) -> bool:
        """Whether it is over; otherwise more is needed."""
        with suppress(ssl.SSLWantReadError):
            self._session.do_handshake()
            return True
        return False

    def read(self) -> bytes | None:
        """Decrypted bytes, none at the end; None while more is needed."""
        try:
            return self._session.read(CHUNK)
        except ssl.SSLWantReadError:
            return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """To be encrypted; see `pending`."""
        if data:
            self._session.write(data)
