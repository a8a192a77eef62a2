"""Every mistake one can make with certificates, and what is said about it."""

from pathlib import Path

import pytest
from certificates import CLIENT as FOR_CLIENTS
from certificates import EXPIRED, FUTURE, SERVER, Authority, Pki, Validity, make_pki, subject
from cryptography.hazmat.primitives import serialization

from virtbackupd.server import pki as pki_module
from virtbackupd.server.pki import CLIENT, Gravity, examine, subject_of
from virtbackupd.server.tls import TlsFiles


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return make_pki(tmp_path)


def files(pki: Pki) -> TlsFiles:
    return TlsFiles(pki.ca, pki.cert, pki.key)


def errors(found: TlsFiles, host: str = "") -> list[str]:
    findings = examine(found, host=host)
    assert all(each.remedy for each in findings if each.gravity is not Gravity.NOTE)
    return [each.text for each in findings if each.gravity is Gravity.ERROR]


def test_good_set_has_no_errors(pki: Pki) -> None:
    assert errors(files(pki), "localhost") == []


@pytest.mark.parametrize("which", range(3))
def test_missing_file_is_named(pki: Pki, which: int) -> None:
    path = (pki.ca, pki.cert, pki.key)[which]
    path.unlink()
    (told,) = errors(files(pki))
    assert "missing" in told
    assert str(path) in told


def test_folder_is_no_file(pki: Pki, tmp_path: Path) -> None:
    (told,) = errors(files(pki)._replace(key_file=tmp_path))
    assert "cannot be read" in told


@pytest.mark.parametrize("which", range(3))
def test_file_that_is_not_pem_is_named(pki: Pki, which: int) -> None:
    (pki.ca, pki.cert, pki.key)[which].write_text("nonsense")
    assert "in PEM form" in errors(files(pki))[0]


def sign(pki: Pki, validity: Validity) -> None:
    signed = pki.authority.sign("localhost", SERVER, hosts=["localhost"], validity=validity)
    signed.write(pki.cert, pki.key)


def test_expired_certificate_is_told(pki: Pki) -> None:
    sign(pki, EXPIRED)
    assert "expired on" in errors(files(pki))[0]


def test_certificate_of_the_future_is_told(pki: Pki) -> None:
    sign(pki, FUTURE)
    assert "is not valid before" in errors(files(pki))[0]


def test_certificate_about_to_expire_is_no_error_yet(pki: Pki) -> None:
    sign(pki, Validity(-1, 5))
    assert not errors(files(pki))
    assert any(each.gravity is Gravity.WARNING for each in examine(files(pki)))


def test_foreign_key_is_told(pki: Pki) -> None:
    other = pki.authority.sign("other")
    other.write(pki.root / "other.pem", pki.key)
    assert errors(files(pki)) == [f"{pki.key} does not belong to {pki.cert}"]


def test_encrypted_key_is_told(pki: Pki) -> None:
    key = pki.authority.sign("localhost").key
    pki.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert errors(files(pki)) == [f"{pki.key} is encrypted with a password"]


def test_foreign_authority_is_told(pki: Pki) -> None:
    Authority("Foreign").write(pki.ca)
    assert "which is not the authority in" in errors(files(pki))[0]


def test_authority_that_is_none_is_told(pki: Pki) -> None:
    authority = Authority("Not an authority", is_ca=False)
    authority.write(pki.ca)
    authority.sign("localhost", SERVER, hosts=["localhost"]).write(pki.cert, pki.key)
    assert f"{pki.ca} is not the certificate of an authority" in errors(files(pki))


def test_certificate_for_clients_is_told(pki: Pki) -> None:
    pki.authority.sign("localhost", FOR_CLIENTS, hosts=["localhost"]).write(pki.cert, pki.key)
    assert errors(files(pki)) == [f"{pki.cert} is not for a server"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1"])
def test_name_that_the_certificate_has_is_right(pki: Pki, host: str) -> None:
    assert not errors(files(pki), host)


def test_name_that_the_certificate_has_not_is_told(pki: Pki) -> None:
    (told,) = errors(files(pki), "example.com")
    assert told == f"{pki.cert} is not for example.com, but for localhost, 127.0.0.1"


@pytest.mark.parametrize(("host", "right"), [("a.example.com", True), ("a.b.example.com", False)])
def test_star_stands_for_one_label(pki: Pki, host: str, right: bool) -> None:
    pki.authority.sign("x", SERVER, hosts=["*.example.com"]).write(pki.cert, pki.key)
    assert (not errors(files(pki), host)) is right


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_key_that_others_can_read_is_told(pki: Pki, mode: int) -> None:
    pki.key.chmod(mode)
    assert errors(files(pki)) == [f"{pki.key} can be read by others than its owner"]


def test_authority_that_others_can_change_is_told(pki: Pki) -> None:
    pki.ca.chmod(0o666)
    assert errors(files(pki)) == [f"{pki.ca} can be changed by others than its owner"]


def test_too_short_a_key_is_told(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pki_module, "LEAST_EC_BITS", 384)
    assert "256 bits, too few" in errors(files(pki))[0]


def test_revoked_certificate_is_told(pki: Pki) -> None:
    signed = pki.authority.sign("localhost", SERVER, hosts=["localhost"])
    signed.write(pki.cert, pki.key)
    crl = pki.root / "crl.pem"
    pki.authority.write_crl(crl, signed)
    assert "has been revoked" in errors(files(pki)._replace(crl_file=crl))[0]


def test_list_of_another_authority_is_told(pki: Pki) -> None:
    crl = pki.root / "crl.pem"
    Authority("Foreign").write_crl(crl)
    assert errors(files(pki)._replace(crl_file=crl)) == [f"{crl} is of another authority"]


def test_client_is_told_its_name_for_the_list(pki: Pki) -> None:
    folder = pki.client("client", pki.authority.sign("me"))
    found = TlsFiles(pki.ca, folder / "clientcert.pem", folder / "clientkey.pem")
    assert any(
        '"C=GB,ST=London,O=Example\\, Inc,CN=me"' in each.text for each in examine(found, CLIENT)
    )


def test_both_ways_to_read_a_name_agree(pki: Pki) -> None:
    signed = pki.authority.sign("me")
    assert signed.certificate.subject == subject("me")
    assert subject_of(signed.certificate) == "C=GB,ST=London,O=Example\\, Inc,CN=me"
