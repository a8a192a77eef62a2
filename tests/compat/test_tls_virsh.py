"""Stock virsh over TLS, with certificates that are good and others that are not."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import libvirt
import pytest
from binding import Recorder, connected, wait_until
from certificates import EXPIRED, SERVER, Authority, Pki, make_pki
from daemon_process import Daemon, running_daemon
from tools import TOOL_DEADLINE, run
from virsh_guest import run_virsh, until

LETS_IN = "*,CN=good*"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


def serving(root: Path, pki: Pki, *lines: str) -> AbstractContextManager[Daemon]:
    """A daemon on a TLS port of its own."""
    text = [f'ca_file = "{pki.ca}"', f'cert_file = "{pki.cert}"', f'key_file = "{pki.key}"', *lines]
    config = root / "virtbackupd.conf"
    config.write_text("\n".join(text) + "\n")
    return running_daemon(root, "--tls", "127.0.0.1:0", "--config", str(config))


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Daemon]:
    root = tmp_path_factory.mktemp("tls")
    with serving(root, pki, f'tls_allowed_dn_list = ["{LETS_IN}"]') as running:
        yield running


def uri(daemon: Daemon, folder: Path) -> str:
    return f"{daemon.network_uri('tls')}?pkipath={folder}"


def test_good_certificate_comes_in(daemon: Daemon, pki: Pki) -> None:
    folder = pki.client("good", pki.authority.sign("good client"))
    assert "test" in run_virsh(uri(daemon, folder), "list", "--all", "--name")


def refusal(daemon: Daemon, folder: Path, more: str = "") -> str:
    return run_virsh(uri(daemon, folder) + more, "list", status=1)


def test_connection_says_that_it_is_secure(daemon: Daemon, pki: Pki) -> None:
    folder = pki.client("secure", pki.authority.sign("good client"))
    with connected(uri(daemon, folder)) as connection:
        assert (connection.isSecure(), connection.isEncrypted()) == (1, 1)


def test_long_replies_and_events_pass(daemon: Daemon, pki: Pki) -> None:
    folder = pki.client("long", pki.authority.sign("good client"))
    with connected(uri(daemon, folder)) as connection:
        machine = connection.lookupByName("test")
        seen = Recorder()
        connection.domainEventRegisterAny(
            machine, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, seen, "lifecycle"
        )
        text = "x" * 1_000_000
        machine.setMetadata(libvirt.VIR_DOMAIN_METADATA_DESCRIPTION, text, None, None)
        assert text in machine.XMLDesc()
        machine.suspend()
        assert seen.labels(1) == ["lifecycle"]
        machine.resume()


def test_name_that_is_not_on_the_list_is_refused(daemon: Daemon, pki: Pki) -> None:
    refusal(daemon, pki.client("unlisted", pki.authority.sign("somebody else")))
    told = "CN=somebody else' is not in tls_allowed_dn_list"
    wait_until(lambda: told in daemon.log, "the refusal")
    audited = "action=login method=tls transport=tls address=127.0.0.1:"
    wait_until(lambda: audited in daemon.log, "the audit line")


def test_expired_certificate_is_refused(daemon: Daemon, pki: Pki) -> None:
    signed = pki.authority.sign("good but old", validity=EXPIRED)
    refusal(daemon, pki.client("expired", signed))


def test_certificate_of_a_foreign_authority_is_refused(daemon: Daemon, pki: Pki) -> None:
    foreign = Authority("Foreign authority").sign("good foreigner")
    refusal(daemon, pki.client("foreign", foreign))


def test_certificate_of_a_server_is_none_of_a_client(daemon: Daemon, pki: Pki) -> None:
    refusal(daemon, pki.client("server", pki.authority.sign("good server", SERVER)))


def test_client_without_certificate_is_refused(daemon: Daemon, pki: Pki) -> None:
    folder = pki.root / "nothing"
    pki.authority.write(folder / "cacert.pem")
    refusal(daemon, folder)
    told = refusal(daemon, folder, "&tls_priority=NORMAL:-VERS-TLS1.3")
    assert "A TLS fatal alert has been received" in told


def test_client_that_does_not_trust_the_server_leaves(daemon: Daemon, pki: Pki) -> None:
    signed = pki.authority.sign("good client")
    folder = pki.client("distrust", signed, Authority("Foreign authority"))
    assert "certificate" in refusal(daemon, folder)


def test_revoked_certificate_is_refused(pki: Pki, short_dir: Path) -> None:
    revoked, good = pki.authority.sign("revoked"), pki.authority.sign("good")
    crl = pki.root / "crl.pem"
    pki.authority.write_crl(crl, revoked)
    with serving(short_dir, pki, f'crl_file = "{crl}"') as daemon:
        refusal(daemon, pki.client("revoked", revoked))
        assert run_virsh(uri(daemon, pki.client("not-revoked", good)), "list", "--all", "--name")


def test_without_verifying_anybody_comes_in(pki: Pki, short_dir: Path) -> None:
    folder = pki.root / "anybody"
    pki.authority.write(folder / "cacert.pem")
    with serving(short_dir, pki, "tls_no_verify_certificate = 1") as daemon:
        assert run_virsh(uri(daemon, folder), "list", "--all", "--name") == "test"


def test_names_are_as_libvirt_prints_them(daemon: Daemon, pki: Pki) -> None:
    """The list of the daemon's configuration takes what libvirt's own tool says."""
    folder = pki.client("printed", pki.authority.sign("somebody, else"))
    printed = run("virt-pki-query-dn", folder / "clientcert.pem")
    refusal(daemon, folder)
    name = printed.strip().splitlines()[-1].rpartition("DN: ")[2].strip("'\" ")
    wait_until(lambda: f"{name!r} is not in" in daemon.log, "the refusal")


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_are_not_spoken(daemon: Daemon, version: str) -> None:
    assert "Cipher is (NONE)" in openssl(daemon, version, "-cipher", "ALL:@SECLEVEL=0")


@pytest.mark.parametrize(("version", "name"), [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
def test_new_versions_are_spoken(daemon: Daemon, pki: Pki, version: str, name: str) -> None:
    folder = pki.client(f"openssl{name}", pki.authority.sign("good client"))
    pair = ("-cert", str(folder / "clientcert.pem"), "-key", str(folder / "clientkey.pem"))
    assert f"New, {name}, Cipher is" in openssl(daemon, version, *pair)


@pytest.mark.parametrize(
    ("version", "spoken"), [("TLS1.1", False), ("TLS1.2", True), ("TLS1.3", True)]
)
def test_gnutls_finds_the_same_versions(
    daemon: Daemon, pki: Pki, version: str, spoken: bool
) -> None:
    folder = pki.client(f"gnutls{version}", pki.authority.sign("good client"))
    files = {"x509cafile": pki.ca, "x509certfile": folder / "clientcert.pem"}
    options = [f"--{name}={path}" for name, path in files.items()]
    priority = f"NORMAL:-VERS-ALL:+VERS-{version}"
    key = f"--x509keyfile={folder / 'clientkey.pem'}"
    host, port = address(daemon)
    done = outcome("gnutls-cli", *options, key, "--priority", priority, "--port", port, host)
    assert ("Handshake was completed" in done) is spoken


def test_priority_narrows_down_what_is_spoken(pki: Pki, short_dir: Path) -> None:
    folder = pki.client("narrow", pki.authority.sign("good client"))
    pair = ("-cert", str(folder / "clientcert.pem"), "-key", str(folder / "clientkey.pem"))
    weaker = ("-ciphersuites", "TLS_AES_128_GCM_SHA256")
    with serving(short_dir, pki, 'tls_priority = "SECURE256:-VERS-TLS1.2"') as daemon:
        assert run_virsh(uri(daemon, folder), "list", "--all", "--name") == "test"
        assert "Cipher is (NONE)" in openssl(daemon, "-tls1_2", *pair)
        openssl(daemon, "-tls1_3", *weaker, *pair)
        told = "TLS_AES_128_GCM_SHA256 is not in tls_priority"
        wait_until(lambda: told in daemon.log, "the refusal")


def test_plain_call_on_the_tls_port_is_cut_off(daemon: Daemon) -> None:
    assert run_virsh(f"test+tcp://{':'.join(address(daemon))}/default", "list", status=1)
    wait_until(lambda: "the TLS handshake failed" in daemon.log, "the refusal")


def test_new_certificates_hold_after_sighup_and_nobody_is_dropped(
    pki: Pki, short_dir: Path
) -> None:
    own = make_pki(short_dir / "pki")
    folder = own.client("client", own.authority.sign("good client"))
    new = pki.client("new", pki.authority.sign("good client"))
    with serving(short_dir, own) as daemon, connected(uri(daemon, folder)) as connection:
        assert run_fails(uri(daemon, new))
        pki.authority.write(own.ca)
        pki.authority.sign("localhost", SERVER, hosts=["127.0.0.1"]).write(own.cert, own.key)
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: not run_fails(uri(daemon, new)), "the new authority is trusted")
        assert run_fails(uri(daemon, folder))
        assert connection.lookupByName("test").name() == "test"


def run_fails(address: str) -> bool:
    done = subprocess.run(["virsh", "-c", address, "list"], capture_output=True, check=False)
    return done.returncode != 0


def address(daemon: Daemon) -> tuple[str, str]:
    host, _, port = daemon.network_uri("tls").split("/")[2].rpartition(":")
    return host, port


def openssl(daemon: Daemon, *options: str) -> str:
    """What openssl's client says of a handshake, whatever comes of it."""
    where = ":".join(address(daemon))
    return outcome("openssl", "s_client", "-connect", where, *options)


def outcome(*command: str) -> str:
    done = subprocess.run(
        command, input="", capture_output=True, text=True, timeout=TOOL_DEADLINE, check=False
    )
    return done.stdout + done.stderr
