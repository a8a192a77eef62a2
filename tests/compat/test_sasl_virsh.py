"""Stock virsh logs in by SASL: from libvirt's auth.conf and at a terminal."""

import os
import pty
import select
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from binding import wait_until
from certificates import make_pki
from daemon_process import Daemon, running_daemon
from virsh_guest import run_virsh

from virtbackupd.server.users import changing, make_credentials

PASSWORD = "a secret, with ünïcode"
PATIENCE = 60.0
SECRET_PROMPT = b"password"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Every socket but that for read-only clients wants a login."""
    root = tmp_path_factory.mktemp("sasl")
    pki = make_pki(root / "pki")
    pki.client("client", pki.authority.sign("client"))
    with changing(root / "users") as users:
        users.known |= {name: make_credentials(PASSWORD) for name in ("alice", "bob")}
    config = root / "virtbackupd.conf"
    config.write_text(
        f"""
        log_level = 1
        auth_unix_rw = "sasl"
        auth_tcp = "sasl"
        auth_tls = "sasl"
        sasl_users = "{root / "users"}"
        sasl_allowed_username_list = ["ali*"]
        ca_file = "{pki.ca}"
        cert_file = "{pki.cert}"
        key_file = "{pki.key}"
        """
    )
    options = ("--tls", "127.0.0.1:0", "--tcp", "127.0.0.1:0", "--config", str(config))
    with running_daemon(root, *options) as running:
        yield running


def credentials(folder: Path, name: str = "alice", password: str = PASSWORD) -> dict[str, str]:
    """An environment in which libvirt finds them."""
    path = folder / "auth.conf"
    path.write_text(
        f"[credentials-test]\nauthname={name}\npassword={password}\n"
        "[auth-libvirt-default]\ncredentials=test\n"
    )
    return {**os.environ, "LIBVIRT_AUTH_FILE": str(path)}


def refusal(uri: str, folder: Path, name: str = "alice", password: str = PASSWORD) -> str:
    return run_virsh(uri, "list", status=1, environment=credentials(folder, name, password))


def test_start_tells_who_can_never_log_in(daemon: Daemon) -> None:
    wait_until(lambda: "nobody can log in at 127.0.0.1:" in daemon.log, "the warning")


def test_right_password_comes_in(daemon: Daemon, tmp_path: Path) -> None:
    told = run_virsh(daemon.uri, "list", "--name", environment=credentials(tmp_path))
    assert told == "test"


def test_right_password_comes_in_by_tls(daemon: Daemon, tmp_path: Path) -> None:
    uri = f"{daemon.network_uri('tls')}?pkipath={daemon.root / 'pki' / 'client'}"
    assert run_virsh(uri, "list", "--name", environment=credentials(tmp_path)) == "test"


def test_wrong_password_is_refused(daemon: Daemon, tmp_path: Path) -> None:
    assert "authentication failed" in refusal(daemon.uri, tmp_path, password="guessed")


def test_unknown_user_is_refused_in_the_same_words(daemon: Daemon, tmp_path: Path) -> None:
    known = refusal(daemon.uri, tmp_path, password="guessed")
    assert refusal(daemon.uri, tmp_path, name="nobody") == known


def test_user_who_is_not_on_the_list_is_refused(daemon: Daemon, tmp_path: Path) -> None:
    assert "authentication failed" in refusal(daemon.uri, tmp_path, name="bob")


def test_plain_tcp_is_no_place_for_passwords(daemon: Daemon, tmp_path: Path) -> None:
    assert "authentication failed" in refusal(daemon.network_uri("tcp"), tmp_path)


def test_socket_that_asks_for_no_login_takes_anybody(daemon: Daemon) -> None:
    assert run_virsh(daemon.read_only_uri, "-r", "list", "--name") == "test"


def test_removed_user_is_refused_at_once(daemon: Daemon, tmp_path: Path) -> None:
    users = daemon.root / "users"
    with changing(users) as found:
        found.known["alistair"] = make_credentials("short")
    environment = credentials(tmp_path, "alistair", "short")
    assert run_virsh(daemon.uri, "list", "--name", environment=environment) == "test"
    with changing(users) as found:
        del found.known["alistair"]
    assert "authentication failed" in refusal(daemon.uri, tmp_path, "alistair", "short")


def test_virsh_asks_at_a_terminal(daemon: Daemon) -> None:
    answers = {b"name": b"alice", SECRET_PROMPT: PASSWORD.encode()}
    told = at_terminal(["virsh", "-c", daemon.uri, "list", "--name"], answers)
    assert b"\ntest" in told


def test_password_is_in_no_log(daemon: Daemon, tmp_path: Path) -> None:
    """Nor what is sent in its place, though every call is logged (RFC 5802 section 7)."""
    run_virsh(daemon.uri, "list", environment=credentials(tmp_path))
    wait_until(lambda: "virAuthSaslStep" in daemon.log, "the log of a login")
    told = daemon.log
    assert PASSWORD not in told
    assert ",p=" not in told
    assert "c=biws" not in told


def at_terminal(command: list[str], answers: dict[bytes, bytes]) -> bytes:
    """All that a program writes to its terminal; each prompt is answered once."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        try:
            return converse(ours, dict(answers))
        finally:
            process.kill()
            os.close(ours)


def echoes(terminal: int) -> bool:
    """What is typed before virsh has turned this off would be thrown away."""
    return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)


def converse(terminal: int, answers: dict[bytes, bytes]) -> bytes:
    told, seen = b"", 0
    deadline = time.monotonic() + PATIENCE
    while select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
        try:
            told += os.read(terminal, 65_536)
        except OSError:  # the other end has been closed
            return told
        for prompt in tuple(answers):
            if prompt in told[seen:] and told.rstrip(b" ").endswith(b":"):
                seen = len(told)
                if prompt == SECRET_PROMPT:
                    wait_until(lambda: not echoes(terminal), "the end of the echo")
                os.write(terminal, answers.pop(prompt) + b"\n")
                break
    raise AssertionError(f"the program has not ended: {told!r}")
