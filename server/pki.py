"""What is wrong with a set of certificates and keys, told one thing after the other.

Looks at files only: nothing is connected and nothing changed. Knows no socket.
"""

import ipaddress
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from virtbackupd.server.tls import LONG_NAMES, TlsFiles, distinguished_name

T = TypeVar("T", bound=x509.ExtensionType)

SOON: Final = timedelta(days=30)
LEAST_RSA_BITS: Final = 2048
LEAST_EC_BITS: Final = 224
SIZE_LIMIT: Final = 1_048_576
OTHERS_READ: Final = stat.S_IRGRP | stat.S_IROTH
OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
WEAK: Final = {"md5", "sha1"}


class Gravity(Enum):
    """How bad it is."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


class Finding(NamedTuple):
    """Something to say; `remedy` is empty when nothing has to be done."""

    gravity: Gravity
    text: str
    remedy: str = ""


Findings = Iterator[Finding]


@dataclass(frozen=True, slots=True)
class Purpose:
    """What the certificate is for."""

    name: str
    usage: x509.ObjectIdentifier
    template: str
    """What a `certtool` template has to say."""


SERVER: Final = Purpose("a server", ExtendedKeyUsageOID.SERVER_AUTH, "tls_www_server")
CLIENT: Final = Purpose("a client", ExtendedKeyUsageOID.CLIENT_AUTH, "tls_www_client")


def examine(files: TlsFiles, purpose: Purpose = SERVER, host: str = "") -> list[Finding]:
    """Everything there is to say; `host` is what clients call the server, if that is to be seen."""
    found: list[Finding] = []
    authorities = _certificates(files.ca_file, "the authority's certificate", found)
    chain = _certificates(files.cert_file, "the certificate", found)
    key = _private_key(files.key_file, found)
    for authority in authorities:
        found += _authority(files.ca_file, authority)
    if chain:
        found += _certificate(files.cert_file, chain[0], purpose)
        found += _names(files.cert_file, chain[0], purpose, host)
    if chain and authorities:
        found += _issuer(files, chain, authorities)
    if chain and key is not None and _spki(key.public_key()) != _spki(chain[0].public_key()):
        text = f"{files.key_file} does not belong to {files.cert_file}"
        found.append(_error(text, "use the key that the certificate was requested with"))
    if files.crl_file is not None:
        found += _revoked(files.crl_file, chain, authorities)
    return found


def subject_of(certificate: x509.Certificate) -> str:
    """As `tls_allowed_dn_list` has it."""
    rdns = [
        [(LONG_NAMES.get(a.oid.dotted_string, a.oid.dotted_string), str(a.value)) for a in rdn]
        for rdn in certificate.subject.rdns
    ]
    return distinguished_name({"subject": rdns}) or ""


def _error(text: str, remedy: str) -> Finding:
    return Finding(Gravity.ERROR, text, remedy)


# Files


def _certificates(path: Path, what: str, found: list[Finding]) -> Sequence[x509.Certificate]:
    data = _read(path, what, found)
    if data is None:
        return []
    found += _writers(path)
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        remedy = "it has to begin with -----BEGIN CERTIFICATE-----"
        found.append(_error(f"{path} holds no certificate in PEM form: {error}", remedy))
        return []


def _private_key(path: Path, found: list[Finding]) -> ec.EllipticCurvePrivateKey | None:
    data = _read(path, "the private key", found)
    if data is None:
        return None
    found += [*_writers(path), *_readers(path)]
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except TypeError:
        remedy = "a daemon has no password: write the key without one"
        found.append(_error(f"{path} is encrypted with a password", remedy))
    except ValueError as error:
        found.append(
            _error(f"{path} holds no private key in PEM form: {error}", "write it in PKCS#8 form")
        )
    else:
        return key  # type: ignore[return-value]  # any kind; only its public half is asked for
    return None


def _read(path: Path, what: str, found: list[Finding]) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(SIZE_LIMIT)
    except FileNotFoundError:
        text, remedy = f"{what} is missing: {path}", "put it there or name another file"
    except PermissionError:
        user = os.geteuid()
        text = f"{what} cannot be read by user {user}: {path}"
        remedy = f"let user {user} read it and pass through all folders above"
    except OSError as error:
        text, remedy = f"{what} cannot be read: {path}: {error.strerror}", "put a file there"
    found.append(_error(text, remedy))
    return None


def _writers(path: Path) -> Findings:
    if path.stat().st_mode & OTHERS_WRITE:
        yield _error(f"{path} can be changed by others than its owner", f"chmod go-w {path}")


def _readers(path: Path) -> Findings:
    if path.stat().st_mode & OTHERS_READ:
        yield _error(
            f"{path} can be read by others than its owner", f"chmod 600 {path}, and make a new key"
        )


# Certificates


def _authority(path: Path, certificate: x509.Certificate) -> Findings:
    yield from _times(path, certificate)
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        yield _error(
            f"{path} is not the certificate of an authority", "sign with one made with `ca`"
        )
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        yield _error(f"{path} may not sign certificates", "make it with `cert_signing_key`")


def _certificate(path: Path, certificate: x509.Certificate, purpose: Purpose) -> Findings:
    yield from _times(path, certificate)
    yield from _strength(path, certificate)
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        yield Finding(
            Gravity.WARNING, f"{path} is the certificate of an authority", "sign one without `ca`"
        )
    usages = _extension(certificate, x509.ExtendedKeyUsage)
    if usages is not None and not {purpose.usage, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(
        usages
    ):
        yield _error(
            f"{path} is not for {purpose.name}", f"have it signed with `{purpose.template}`"
        )
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not (usage.digital_signature or usage.key_encipherment):
        yield _error(f"{path} may not be used for TLS", "have it signed with `signing_key`")


def _times(path: Path, certificate: x509.Certificate) -> Findings:
    now = datetime.now(UTC)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begin:
        yield _error(
            f"{path} is not valid before {begin:%Y-%m-%d %H:%M} UTC", "wait, or set the clock"
        )
    elif now > end:
        yield _error(f"{path} expired on {end:%Y-%m-%d %H:%M} UTC", "have a new one signed")
    elif now + SOON > end:
        yield Finding(
            Gravity.WARNING,
            f"{path} expires on {end:%Y-%m-%d %H:%M} UTC",
            "have a new one signed in time",
        )


def _strength(path: Path, certificate: x509.Certificate) -> Findings:
    key = certificate.public_key()
    least = LEAST_RSA_BITS if isinstance(key, rsa.RSAPublicKey) else LEAST_EC_BITS
    if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) and key.key_size < least:
        yield _error(
            f"{path} has a key of {key.key_size} bits, too few for TLS",
            f"make one of {least} bits or more",
        )
    signed_with = certificate.signature_hash_algorithm
    if signed_with is not None and signed_with.name in WEAK:
        yield _error(f"{path} is signed with {signed_with.name}", "have it signed with SHA-256")


def _names(path: Path, certificate: x509.Certificate, purpose: Purpose, host: str) -> Findings:
    if purpose is CLIENT:
        text = f'{path} is "{subject_of(certificate)}" to tls_allowed_dn_list'
        yield Finding(Gravity.NOTE, text)
        return
    names = _extension(certificate, x509.SubjectAlternativeName)
    hosts = _hosts(names)
    if not hosts:
        yield Finding(
            Gravity.WARNING,
            f"{path} names no host in its subject alternative names",
            "have it signed with `dns_name` or `ip_address`",
        )
    elif not host:
        yield Finding(Gravity.NOTE, f"{path} is for {', '.join(hosts)}")
    if host and not any(_is_host(host, each) for each in hosts):
        yield _error(
            f"{path} is not for {host}, but for {', '.join(hosts) or 'no host'}",
            f"have it signed with {host}, or connect by a name that it has",
        )


def _hosts(names: x509.SubjectAlternativeName | None) -> list[str]:
    if names is None:
        return []
    addresses = [str(each) for each in names.get_values_for_type(x509.IPAddress)]
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def _is_host(host: str, name: str) -> bool:
    """A `*` stands for one label, the first (RFC 6125 section 6.4.3)."""
    try:
        return ipaddress.ip_address(host) == ipaddress.ip_address(name)
    except ValueError:
        first, _, rest = host.lower().partition(".")
    return name.lower() in (host.lower(), f"*.{rest}") and bool(first)


# One and another


def _issuer(
    files: TlsFiles, chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]
) -> Findings:
    """From the certificate up through those that stand behind it in its file."""
    *between, last = chain
    for lower, upper in zip(between, chain[1:], strict=True):
        if not _signed_by(lower, upper):
            yield _error(
                f"the certificates in {files.cert_file} do not follow from each other",
                "put each one behind the one that it signed",
            )
            return
    if not any(_signed_by(last, each) for each in authorities):
        yield _error(
            f"{files.cert_file} was signed by {last.issuer.rfc4514_string()!r}, which is not the"
            f" authority in {files.ca_file}",
            "have it signed by that authority, or use the authority's own certificate",
        )


def _signed_by(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    try:
        lower.verify_directly_issued_by(upper)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _revoked(
    path: Path, chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]
) -> Findings:
    found: list[Finding] = []
    data = _read(path, "the list of revoked certificates", found)
    yield from found
    if data is None:
        return
    try:
        crl = x509.load_pem_x509_crl(data)
    except ValueError as error:
        yield _error(f"{path} holds no list of revoked certificates: {error}", "write it anew")
        return
    if crl.next_update_utc is not None and crl.next_update_utc < datetime.now(UTC):
        yield _error(f"{path} is out of date: nobody will be let in", "have a new list made")
    if not any(_crl_signed_by(crl, each) for each in authorities):
        yield _error(f"{path} is of another authority", "take the list of the one in use")
    for each in chain:
        if crl.get_revoked_certificate_by_serial_number(each.serial_number) is not None:
            yield _error(f"the certificate has been revoked by {path}", "have a new one signed")


def _crl_signed_by(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    return crl.issuer == authority.subject and crl.is_signature_valid(
        authority.public_key()  # type: ignore[arg-type]  # kinds that sign nothing are refused
    )


def _extension(certificate: x509.Certificate, kind: Callable[..., T]) -> T | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value  # type: ignore[arg-type]
    except x509.ExtensionNotFound:
        return None


def _spki(key: object) -> bytes:
    return key.public_bytes(  # type: ignore[attr-defined, no-any-return]  # each kind of key has it
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
