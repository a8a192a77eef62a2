"""Settings: what a file may say, what is refused with file, line and key, and the defaults."""

from pathlib import Path

import pytest

from virtbackupd.server.config import (
    ConfigError,
    Settings,
    default_socket_dir,
    default_state_dir,
    line_of,
    parse_address,
    read_settings,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "virtbackupd.conf"


def test_keys_of_libvirtd_are_read(file: Path) -> None:
    file.write_text('max_clients = 7\nkeepalive_interval = -1\nlog_level = "debug"\n')
    settings, warnings = read_settings(file)
    assert (settings.max_clients, settings.keepalive_interval, warnings) == (7, -1, [])


def test_comments_are_ignored(file: Path) -> None:
    file.write_text("# max_clients = 7\n")
    assert read_settings(file) == (Settings(), [])


def test_drivers_are_a_table(file: Path) -> None:
    file.write_text('[drivers]\nqemu = "memory"\n')
    assert read_settings(file)[0].drivers == {"qemu": "memory"}


def test_unknown_key_is_a_warning_with_its_line(file: Path) -> None:
    file.write_text("max_clients = 7\n\nmax_workers = 20\n")
    assert read_settings(file)[1] == [f"{file}:3: unknown key 'max_workers' is ignored"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("max_clients = 0", ":1: max_clients: expected `int` >= 1"),
        ('\nmax_clients = "many"', ":2: max_clients: expected `int`, got `str`"),
        ("tcp = [1]", ":1: tcp: expected `str`, got `int`"),
        ("[drivers]\nqemu = 3", ":1: drivers: expected `str`, got `int`"),
        ("keepalive_interval = -2", ":1: keepalive_interval: expected `int` >= -1"),
        ('log_level = "loud"', ":1: log_level: expected `str` matching regex"),
    ],
)
def test_wrong_value_is_refused_with_its_place(file: Path, text: str, complaint: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_settings(file)
    assert str(refused.value).startswith(f"{file}{complaint}")


def test_what_is_no_toml_is_refused_with_its_line(file: Path) -> None:
    file.write_text("max_clients 7\n")
    with pytest.raises(ConfigError, match="line 1"):
        read_settings(file)


def test_missing_file_is_refused(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*No such file"):
        read_settings(file)


def test_file_that_is_no_text_is_refused(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_settings(file)


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("a = 1\nb = 2", "b", 2),
        ("\n[drivers]\nx = 1", "drivers", 2),
        ("", "a", 1),
        ("# a = 1", "a", 1),
    ],
)
def test_line_of_a_key(text: str, key: str, line: int) -> None:
    assert line_of(text, key) == line


@pytest.mark.parametrize(
    ("value", "address"),
    [("localhost:1", ("localhost", 1)), ("[::1]:0", ("::1", 0)), (":16509", ("", 16509))],
)
def test_addresses(value: str, address: tuple[str, int]) -> None:
    assert parse_address(value) == address


@pytest.mark.parametrize("value", ["localhost", "localhost:", "localhost:65536", "a:-1"])
def test_wrong_addresses(value: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        parse_address(value)


@pytest.mark.parametrize("value", ["[::1:0", "::1]:0"])
def test_half_a_pair_of_brackets(value: str) -> None:
    with pytest.raises(ConfigError, match="brackets"):
        parse_address(value)


def test_folders_of_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 0)
    found = default_socket_dir(), default_state_dir()
    assert found == (Path("/run/virtbackupd"), Path("/var/lib/virtbackupd"))


def test_folders_of_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 7)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    monkeypatch.setenv("XDG_STATE_HOME", "/home/u/state")
    found = default_socket_dir(), default_state_dir()
    assert found == (Path("/run/user/7/virtbackupd"), Path("/home/u/state/virtbackupd"))


def test_folder_of_a_user_without_a_session(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("os.getuid", lambda: 7)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert default_socket_dir() == tmp_path / "virtbackupd-7"
