"""Priority strings of GnuTLS: what they leave, and which are refused."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import Pki, make_pki
from cryptography.hazmat.primitives.asymmetric import ec

from virtbackupd.server.config import ConfigError, Settings
from virtbackupd.server.security import tls_rules
from virtbackupd.server.settings_file import load_settings
from virtbackupd.server.tls import RefusedError, TlsError, TlsFiles, TlsRules, make_context
from virtbackupd.server.tls_priority import Priority, PriorityError, parse_priority

OLDER, NEWER = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def parsed(text: str) -> Priority:
    found = parse_priority(text)
    assert found is not None
    return found


def applied(text: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    parsed(text).apply(context)
    return context


def older_ciphers(context: ssl.SSLContext) -> set[str]:
    return {each["name"] for each in context.get_ciphers() if each["protocol"] != "TLSv1.3"}


def test_no_text_changes_nothing() -> None:
    assert parse_priority("") is None


@pytest.mark.parametrize(
    ("text", "oldest", "newest"),
    [
        ("NORMAL", OLDER, NEWER),
        ("normal", OLDER, NEWER),
        ("NORMAL:-VERS-TLS1.0:-VERS-TLS1.1", OLDER, NEWER),
        ("NORMAL:-VERS-TLS1.3", OLDER, OLDER),
        ("NORMAL:!VERS-TLS1.2", NEWER, NEWER),
        ("SECURE256:-VERS-TLS-ALL:+VERS-TLS1.2", OLDER, OLDER),
        ("SECURE128:-VERS-ALL: +VERS-TLS1.3", NEWER, NEWER),
        ("NORMAL:-AEAD", OLDER, OLDER),
        ("NORMAL:-KX-ALL", NEWER, NEWER),
        ("NONE:+VERS-ALL:+CIPHER-ALL:+MAC-ALL:+KX-ALL:+SIGN-ALL:+GROUP-ALL", OLDER, NEWER),
    ],
)
def test_versions(text: str, oldest: ssl.TLSVersion, newest: ssl.TLSVersion) -> None:
    found = parsed(text)
    assert (found.oldest, found.newest) == (oldest, newest)


def test_level_of_the_machine_is_not_lowered() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=4")
    parsed("NORMAL:%PROFILE_HIGH").apply(context)
    assert context.security_level == 4


def test_normal_is_no_more_than_what_is_offered_without_it() -> None:
    plain = older_ciphers(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    without = {name for name in plain if not name.startswith("DHE-")}
    assert older_ciphers(applied("NORMAL")) == without


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("NORMAL:-AES-128-GCM", {"AES128-GCM-SHA256"}),
        ("NORMAL:-CHACHA20-POLY1305:-VERS-TLS1.3", {"CHACHA20-POLY1305"}),
        ("NORMAL:-SHA384:-SHA256", {"AES256-SHA384", "AES128-SHA256"}),
        ("SECURE192", {"AES256-SHA384", "AES128-SHA256", "AES128-GCM-SHA256"}),
        ("SECURE256", {"AES256-SHA384", "AES128-SHA256", "AES128-GCM-SHA256"}),
    ],
)
def test_ciphers_are_taken_away(text: str, gone: set[str]) -> None:
    left = older_ciphers(applied("NORMAL")) - older_ciphers(applied(text))
    assert left == {f"ECDHE-{kind}-{name}" for kind in ("RSA", "ECDSA") for name in gone}


def test_key_exchange_is_taken_away() -> None:
    names = older_ciphers(applied("NORMAL:-ECDHE-RSA"))
    assert names == {n for n in older_ciphers(applied("NORMAL")) if n.startswith("ECDHE-ECDSA")}


def test_a_cipher_that_was_taken_away_can_be_added() -> None:
    assert parsed("NORMAL:-AES-128-GCM:+AES-128-GCM") == parsed("NORMAL")


def test_levels_can_be_added() -> None:
    assert parsed("SECURE256:+SECURE128") == parsed("NORMAL")


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("NORMAL", 2), ("SECURE128", 2), ("SECURE192", 3), ("SECURE256", 3),
        ("NORMAL:%PROFILE_HIGH", 3), ("NORMAL:%PROFILE_ULTRA", 4), ("NORMAL:%PROFILE_LOW", 2),
    ],
)  # fmt: skip
def test_security_level(text: str, level: int) -> None:
    assert applied(text).security_level == level


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("STRONG", "'STRONG' is not known here"),
        ("@SYSTEM", "'@SYSTEM' is not known here"),
        ("NORMAL:", "'' is not known here"),
        ("NORMAL:-", "'-' is not known here"),
        ("NORMAL:SECURE256", "'SECURE256' is not known here"),
        ("NORMAL:-AES-512-GCM", "'AES-512-GCM' is not known here"),
        ("NORMAL:+VERS-TLS1.1", "VERS-TLS1.1 is not among what is offered here"),
        ("NORMAL:+3DES-CBC", "3DES-CBC is not among what is offered here"),
        ("NORMAL:+RSA", "RSA is not among what is offered here"),
        ("NORMAL:-GROUP-ALL", "GROUP-ALL cannot be taken away"),
        ("NORMAL:-GROUP-X25519", "'GROUP-X25519' is not known here"),
        ("NORMAL:%COMPAT", "%COMPAT cannot be had with OpenSSL"),
        ("NORMAL:-VERS-ALL", "no version of TLS with a cipher is left"),
        ("NORMAL:-VERS-TLS1.3:-CIPHER-ALL", "no version of TLS with a cipher is left"),
        ("NONE", "no version of TLS with a cipher is left"),
        ("NORMAL:-AES-256-GCM", "add -VERS-TLS1.3"),
    ],
)
def test_what_cannot_be_had_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(PriorityError) as refused:
        parse_priority(text)
    assert complaint in str(refused.value)


def test_cipher_of_1_3_that_openssl_offers_in_any_case_is_refused_to_the_client() -> None:
    rules = TlsRules(priority=parsed("SECURE256"))
    with pytest.raises(RefusedError, match="TLS_AES_128_GCM_SHA256 is not in tls_priority"):
        rules.check_cipher("TLS_AES_128_GCM_SHA256")
    rules.check_cipher("TLS_AES_256_GCM_SHA384")


def test_refusal_in_a_file_has_its_place_and_says_what_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "libvirtd.conf"
    path.write_text('\ntls_priority="NORMAL:%COMPAT"\n')
    with pytest.raises(ConfigError) as refused:
        load_settings(path)
    assert str(refused.value) == (
        f"{path}:2: tls_priority: 'NORMAL:%COMPAT' is not allowed (%COMPAT cannot be had with"
        " OpenSSL; leave it out); give a priority string of GnuTLS of what OpenSSL can do, such as"
        ' "SECURE256:-VERS-ALL:+VERS-TLS1.3"'
    )


def test_key_reaches_the_rules() -> None:
    assert tls_rules(Settings(tls_priority="SECURE256")).priority == parsed("SECURE256")
    assert tls_rules(Settings()).priority is None


# Handshakes


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


def shake(pki: Pki, text: str, prepare: Callable[[ssl.SSLContext], None]) -> tuple[str, str]:
    """Version and cipher that a client and a server of such a priority agree upon."""
    server = make_context(TlsFiles(pki.ca, pki.cert, pki.key), verify=False, priority=parsed(text))
    context = ssl.create_default_context(cafile=pki.ca)
    prepare(context)
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = server.wrap_bio(theirs, ours, server_side=True)
    far = context.wrap_bio(ours, theirs, server_hostname="localhost")
    for side in (far, near, far, near):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    cipher = far.cipher()
    assert cipher is not None
    return cipher[1], cipher[0]


def nothing(_context: ssl.SSLContext) -> None:
    return


def up_to_1_2(context: ssl.SSLContext) -> None:
    context.maximum_version = OLDER


def chacha_or_aes_128(context: ssl.SSLContext) -> None:
    up_to_1_2(context)
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305")


def test_newest_version_is_agreed_upon(pki: Pki) -> None:
    assert shake(pki, "NORMAL", nothing) == ("TLSv1.3", "TLS_AES_256_GCM_SHA384")


def test_version_that_was_taken_away_is_not_spoken(pki: Pki) -> None:
    assert shake(pki, "NORMAL:-VERS-TLS1.3", nothing)[0] == "TLSv1.2"


def test_client_of_1_2_alone_is_refused_by_1_3_alone(pki: Pki) -> None:
    with pytest.raises(ssl.SSLError):
        shake(pki, "NORMAL:-VERS-ALL:+VERS-TLS1.3", up_to_1_2)


def test_cipher_that_was_taken_away_is_not_agreed_upon(pki: Pki) -> None:
    assert shake(pki, "NORMAL", chacha_or_aes_128)[1] == "ECDHE-ECDSA-AES128-GCM-SHA256"
    assert shake(pki, "SECURE256", chacha_or_aes_128)[1] == "ECDHE-ECDSA-CHACHA20-POLY1305"


def test_certificate_that_is_too_weak_for_the_level_is_refused(pki: Pki, tmp_path: Path) -> None:
    signed = pki.authority.sign("localhost")
    assert isinstance(signed.key.curve, ec.SECP256R1)
    signed.write(tmp_path / "cert", tmp_path / "key")
    files = TlsFiles(pki.ca, tmp_path / "cert", tmp_path / "key")
    make_context(files, priority=parsed("SECURE256"))
    with pytest.raises(TlsError, match="TOO_SMALL"):
        make_context(files, priority=parsed("NORMAL:%PROFILE_ULTRA"))
