"""`virtbackupd pki check` and `virtbackupd user` as people use them."""

import subprocess
import sys
from pathlib import Path

from certificates import make_pki
from tools import TOOL_DEADLINE

COMMAND = str(Path(sys.executable).with_name("virtbackupd"))


def told(*arguments: object, given: str = "", status: int = 0) -> str:
    done = subprocess.run(
        [COMMAND, *map(str, arguments)],
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TOOL_DEADLINE,
        check=False,
    )
    assert done.returncode == status, done.stdout
    return done.stdout.strip()


def test_good_certificates_are_said_to_be_good(tmp_path: Path) -> None:
    pki = make_pki(tmp_path)
    options = ("--ca", pki.ca, "--cert", pki.cert, "--key", pki.key, "--host", "localhost")
    assert told("pki", "check", *options).endswith("these certificates can be used")


def test_each_mistake_is_a_line_with_its_remedy(tmp_path: Path) -> None:
    pki = make_pki(tmp_path)
    pki.key.chmod(0o644)
    options = ("--ca", tmp_path / "gone", "--cert", pki.cert, "--key", pki.key)
    lines = told("pki", "check", *options, status=1).splitlines()
    assert lines[0].startswith("error: the authority's certificate is missing: ")
    assert "; chmod 600 " in lines[1]


def test_daemon_does_not_start_with_certificates_of_no_use(tmp_path: Path) -> None:
    config = tmp_path / "conf"
    config.write_text(f'ca_file = "{tmp_path}/gone"\n')
    options = ("--config", config, "--tls", "127.0.0.1:0", "--socket-dir", tmp_path)
    line = told("serve", *options, "--state-dir", tmp_path, status=1).splitlines()[-1]
    assert "TLS is to be served, but cannot read" in line
    assert "virtbackupd pki check" in line


def test_user_is_added_listed_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "users"
    told("user", "add", "alice", "--file", path, given="secret\n")
    assert told("user", "list", "--file", path) == "alice"
    told("user", "remove", "alice", "--file", path)
    assert told("user", "list", "--file", path) == ""


def test_password_changes_with_passwd_alone(tmp_path: Path) -> None:
    path = tmp_path / "users"
    told("user", "add", "alice", "--file", path, given="secret\n")
    before = path.read_bytes()
    assert "`passwd`" in told("user", "add", "alice", "--file", path, given="other\n", status=1)
    assert path.read_bytes() == before
    told("user", "passwd", "alice", "--file", path, given="other\n")
    assert path.read_bytes() != before


def test_unknown_user_is_told(tmp_path: Path) -> None:
    path = tmp_path / "users"
    assert "no user 'bob'" in told("user", "remove", "bob", "--file", path, status=1)


def test_password_is_needed(tmp_path: Path) -> None:
    assert "no password" in told("user", "add", "a", "--file", tmp_path / "users", status=1)
