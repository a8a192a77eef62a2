"""An authority of one's own and the certificates it signs, right and wrong in every way.

Small elliptic keys, so that a test can have many. Knows nothing of the daemon.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
PRIVATE = 0o600


class Validity(NamedTuple):
    """Days from now."""

    begin: int = -1
    end: int = 30


VALID = Validity()
EXPIRED = Validity(-30, -1)
FUTURE = Validity(1, 30)
CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)


def subject(common_name: str) -> x509.Name:
    """Country first, as `certtool` and libvirt's manual write it."""
    parts = {
        NameOID.COUNTRY_NAME: "GB",
        NameOID.STATE_OR_PROVINCE_NAME: "London",
        NameOID.ORGANIZATION_NAME: "Example, Inc",
        NameOID.COMMON_NAME: common_name,
    }
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts.items()])


@dataclass(frozen=True, slots=True)
class Signed:
    """A certificate and the key to it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def write(self, certificate: Path, key: Path, *, mode: int = PRIVATE) -> None:
        for path in (certificate, key):
            path.parent.mkdir(parents=True, exist_ok=True)
        certificate.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        key.write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        key.chmod(mode)


class Authority:
    """Signs whatever it is asked to."""

    def __init__(self, name: str = "Test authority", *, is_ca: bool = True) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(subject(name), key, subject(name), VALID)
        builder = builder.add_extension(
            x509.BasicConstraints(ca=is_ca, path_length=None), critical=True
        )
        self.own = Signed(builder.sign(key, hashes.SHA256()), key)

    def sign(
        self,
        name: str,
        purposes: Sequence[x509.ObjectIdentifier] = CLIENT,
        *,
        hosts: Sequence[str] = (),
        validity: Validity = VALID,
    ) -> Signed:
        """A certificate for `name`; hosts are names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(subject(name), key, self.own.certificate.subject, validity)
        builder = builder.add_extension(
            x509.BasicConstraints(ca=False, path_length=None), critical=True
        )
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        if hosts:
            names = x509.SubjectAlternativeName([_host(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        return Signed(builder.sign(self.own.key, hashes.SHA256()), key)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.own.certificate.public_bytes(serialization.Encoding.PEM))

    def write_crl(self, path: Path, *revoked: Signed) -> None:
        """A list of the certificates that no longer count."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.own.certificate.subject)
        builder = builder.last_update(NOW - DAY).next_update(NOW + DAY)
        for each in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(each.certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(NOW - DAY).build())
        crl = builder.sign(self.own.key, hashes.SHA256())
        path.write_bytes(crl.public_bytes(serialization.Encoding.PEM))


def _builder(
    name: x509.Name, key: ec.EllipticCurvePrivateKey, issuer: x509.Name, validity: Validity
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + validity.begin * DAY)
        .not_valid_after(NOW + validity.end * DAY)
    )


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


@dataclass(frozen=True, slots=True)
class Pki:
    """A folder with an authority, a server's files and clients' folders for `pkipath`."""

    root: Path
    authority: Authority

    @property
    def ca(self) -> Path:
        return self.root / "cacert.pem"

    @property
    def cert(self) -> Path:
        return self.root / "servercert.pem"

    @property
    def key(self) -> Path:
        return self.root / "serverkey.pem"

    def client(self, folder: str, signed: Signed, authority: Authority | None = None) -> Path:
        """A folder for libvirt's `pkipath`: the client's certificate and whom it trusts."""
        path = self.root / folder
        signed.write(path / "clientcert.pem", path / "clientkey.pem")
        (authority or self.authority).write(path / "cacert.pem")
        return path


def make_pki(root: Path) -> Pki:
    """With a certificate of the server for this machine's loopback interface."""
    pki = Pki(root, Authority())
    pki.authority.write(pki.ca)
    pki.authority.sign("localhost", SERVER, hosts=["localhost", "127.0.0.1"]).write(
        pki.cert, pki.key
    )
    return pki
