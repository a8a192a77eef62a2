"""Where the control endpoint may listen."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from virtbackupd.server.config import ConfigError
from virtbackupd.server.control_address import listen_control
from virtbackupd.server.listeners import Listener, ListenError, close_all


@contextmanager
def listening(address: str, *, anywhere: bool = False) -> Iterator[list[Listener]]:
    listeners = listen_control(address, anywhere=anywhere)
    try:
        yield listeners
    finally:
        close_all(listeners)


def test_nowhere_by_default() -> None:
    assert listen_control("", anywhere=False) == []


@pytest.mark.parametrize(
    ("address", "host"), [("0", "127.0.0.1"), ("127.0.0.2:0", "127.0.0.2"), ("[::1]:0", "[::1]")]
)
def test_loopback_addresses(address: str, host: str) -> None:
    with listening(address) as listeners:
        assert [listener.host for listener in listeners] == [host]


@pytest.mark.parametrize("address", ["0.0.0.0:0", ":0", "[::]:0"])
def test_an_address_that_others_reach_has_to_be_asked_for(address: str) -> None:
    with pytest.raises(ConfigError, match="--control-anywhere"):
        listen_control(address, anywhere=False)
    with listening(address, anywhere=True) as listeners:
        assert listeners


def test_a_unix_socket_is_for_its_user_alone(tmp_path: Path) -> None:
    with listening(f"unix:{tmp_path / 'control'}"):
        assert stat.S_IMODE((tmp_path / "control").stat().st_mode) == 0o600
    assert not (tmp_path / "control").exists()


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1:http", "65536", "[::1:0"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ConfigError, match=r"is not HOST:PORT|brackets"):
        listen_control(address, anywhere=False)


def test_a_file_in_the_place_of_the_socket_is_kept(tmp_path: Path) -> None:
    (tmp_path / "control").write_text("precious")
    with pytest.raises(ListenError, match="remove it"):
        listen_control(f"unix:{tmp_path / 'control'}", anywhere=False)
