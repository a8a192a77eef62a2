"""`virtbackupd config`: what it says of a file, of what holds, and of all keys."""

import re
from pathlib import Path

import configuration_page
import pytest
from click.testing import CliRunner, Result

from virtbackupd.server.commands.config import shown, template_text
from virtbackupd.server.config import Settings
from virtbackupd.server.keys import About, Key
from virtbackupd.server.settings_file import Loaded, keys, load_settings


def run(*words: str) -> Result:
    from virtbackupd.server.cli import main  # noqa: PLC0415 - as the program does

    return CliRunner().invoke(main, ["config", *words])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "virtbackupd.conf"
    path.write_text("max_clients = 7\nmax_workers = 3\nmax_cleints = 1\n")
    return path


def test_check_tells_what_means_nothing(file: Path) -> None:
    done = run("check", str(file))
    assert done.exit_code == 0
    assert f"{file}:3: unknown key 'max_cleints' is ignored" in done.output
    assert f"{file}:2: max_workers has no effect" in done.output


def test_check_of_a_wrong_file_fails(file: Path) -> None:
    file.write_text("max_clients = 0\n")
    done = run("check", str(file))
    assert (done.exit_code, f"{file}:1: max_clients: 0 is not allowed" in done.output) == (1, True)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("audit_level = 2\naudit_logging = 0", "leaves them nowhere to go"),
        ('drivers = { qemu = "nodriver" }', "there is no driver 'nodriver'"),
        ('tcp_port = "no-such-service"', "there is no service 'no-such-service'"),
        ('tls = ["here"]', "'here' is not HOST:PORT"),
        ('unix_sock_group = "no-such-group"', "there is no group 'no-such-group'"),
        ('access_rules = "/none/rules"', "/none/rules: cannot read the access rules"),
        ('world = "/none/world"', "cannot read /none/world"),
        ('profile = "libvirt-0.1"', "libvirt-0.1"),
    ],
)
def test_check_finds_what_would_keep_the_daemon_from_starting(
    file: Path, line: str, told: str
) -> None:
    file.write_text(f"{line}\n")
    done = run("check", str(file))
    assert done.exit_code == 1
    assert told in done.output


def test_show_tells_value_and_source(file: Path) -> None:
    lines = run("show", "--config", str(file), "--tcp", "localhost:0").output.splitlines()
    found = {line.split(" = ")[0]: re.sub(r" +", " ", line) for line in lines}
    assert found["max_clients"] == f"max_clients = 7 # {file}:1"
    assert found["tcp"] == 'tcp = ["localhost:0"] # --tcp'
    assert found["listen_tls"] == "listen_tls = 1 # default"


def test_show_tells_every_key() -> None:
    assert len(shown(load_settings())) == len(keys())


def test_what_show_prints_is_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "shown.conf"
    path.write_text("\n".join(shown(load_settings(options={"world": "a b.toml"}))))
    assert load_settings(path).settings == Settings(world="a b.toml")


def test_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = Key("world", "", "", About("x", "x.", secret=True))
    monkeypatch.setattr("virtbackupd.server.commands.config.keys", lambda: (secret,))
    (line,) = shown(Loaded(Settings(world="swordfish"), {}))
    assert "swordfish" not in line
    assert "hidden" in line


def test_template_says_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "template.conf"
    path.write_text(re.sub(r"(?m)^#(?=[a-z])", "", template_text()))
    loaded = load_settings(path)
    everybody = Settings(tls_allowed_dn_list=["*"], sasl_allowed_username_list=["*"])
    assert (loaded.settings, loaded.warnings) == (everybody, [])


def test_template_as_it_is_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "template.conf"
    path.write_text(run("template").output)
    assert not load_settings(path).sources


def test_page_is_current() -> None:
    assert configuration_page.PAGE.read_text() == configuration_page.page(), "run `make docs`"
