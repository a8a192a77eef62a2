"""Group and permissions of the Unix sockets and of their folder."""

import grp
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtbackupd.server.config import ConfigError, Settings
from virtbackupd.server.listeners import Listener, close_all, listen_unix
from virtbackupd.server.socket_access import grant


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def listeners(folder: Path) -> Iterator[list[Listener]]:
    found = listen_unix(folder)
    yield found
    close_all(found)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_by_default_sockets_and_folder_are_private(listeners: list[Listener], folder: Path) -> None:
    grant(listeners, Settings())
    assert [mode(path) for path in sorted(folder.iterdir())] == [0o600, 0o600]
    assert mode(folder) == 0o700


def test_each_socket_has_permissions_of_its_own(listeners: list[Listener], folder: Path) -> None:
    grant(listeners, Settings(unix_sock_rw_perms="0770", unix_sock_ro_perms="777"))
    assert mode(folder / "libvirt-sock") == 0o770
    assert mode(folder / "libvirt-sock-ro") == 0o777


def test_folder_lets_pass_who_may_open_a_socket(listeners: list[Listener], folder: Path) -> None:
    grant(listeners, Settings(unix_sock_rw_perms="0660"))
    assert mode(folder) == 0o710
    grant(listeners, Settings(unix_sock_ro_perms="0666"))
    assert mode(folder) == 0o711


def test_group_owns_the_sockets(listeners: list[Listener], folder: Path) -> None:
    name = grp.getgrgid(os.getgid()).gr_name
    grant(listeners, Settings(unix_sock_group=name))
    assert (folder / "libvirt-sock").stat().st_gid == os.getgid()


def test_group_that_does_not_exist_is_refused(listeners: list[Listener]) -> None:
    with pytest.raises(ConfigError, match="unix_sock_group: there is no group 'no-such-group'"):
        grant(listeners, Settings(unix_sock_group="no-such-group"))
