"""What addresses mean, and where files are by default."""

from pathlib import Path

import pytest

from virtbackupd.server.config import (
    ConfigError,
    default_socket_dir,
    default_state_dir,
    parse_address,
)


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
