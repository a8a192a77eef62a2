"""Group and permissions of the Unix sockets and of their folder."""

import grp
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtbackupd.server.config import ConfigError, Settings
from virtbackupd.server.listeners import Listener, ListenError, close_all, listen_path, listen_unix
from virtbackupd.server.socket_access import grant, reload_access


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


def group(path: Path) -> int:
    return path.stat().st_gid


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


@pytest.fixture
def groups() -> list[grp.struct_group]:
    """Two that this process may give its files to, besides its own."""
    ours = os.getegid()
    if os.geteuid():
        numbers = [number for number in os.getgroups() if number != ours]
        return [grp.getgrgid(number) for number in numbers[:2]] or [grp.getgrgid(ours)] * 2
    return [each for each in grp.getgrall() if each.gr_gid != ours][:2]


async def test_reload_changes_group_and_permissions(
    listeners: list[Listener], folder: Path, groups: list[grp.struct_group]
) -> None:
    first, second = groups[0], groups[-1]
    started = Settings(unix_sock_group=first.gr_name, unix_sock_rw_perms="0660")
    grant(listeners, started)
    reload = reload_access(listeners, None, started)
    await reload(Settings(unix_sock_group=second.gr_name, unix_sock_rw_perms="0640"))
    socket = folder / "libvirt-sock"
    assert (mode(socket), group(socket)) == (0o640, second.gr_gid)
    assert (mode(folder), group(folder)) == (0o710, second.gr_gid)


async def test_reload_without_group_gives_the_sockets_back(
    listeners: list[Listener], folder: Path, groups: list[grp.struct_group]
) -> None:
    started = Settings(unix_sock_group=groups[0].gr_name, unix_sock_rw_perms="0660")
    grant(listeners, started)
    await reload_access(listeners, None, started)(Settings())
    socket = folder / "libvirt-sock"
    assert (mode(socket), group(socket)) == (0o600, os.getegid())


async def test_reload_reaches_the_administration_socket(
    listeners: list[Listener], folder: Path
) -> None:
    admin = listen_path(folder / "admin")
    await reload_access(listeners, admin, Settings())(Settings(unix_sock_admin_perms="0660"))
    found = mode(folder / "admin"), mode(folder)
    admin.close()
    assert found == (0o660, 0o710)


async def test_reload_leaves_alone_what_has_not_changed(
    listeners: list[Listener], folder: Path
) -> None:
    """Somebody may have set them by hand, and the daemon may have lost the right to."""
    (folder / "libvirt-sock").chmod(0o666)
    await reload_access(listeners, None, Settings())(Settings(max_clients=7))
    assert mode(folder / "libvirt-sock") == 0o666


async def test_reload_to_a_group_that_does_not_exist_changes_nothing(
    listeners: list[Listener], folder: Path
) -> None:
    with pytest.raises(ConfigError, match="no-such-group"):
        await reload_access(listeners, None, Settings())(
            Settings(unix_sock_group="no-such-group", unix_sock_rw_perms="0666")
        )
    assert mode(folder / "libvirt-sock") == 0o600


async def test_reload_that_fails_in_the_middle_changes_nothing(
    listeners: list[Listener], folder: Path
) -> None:
    admin = listen_path(folder / "admin")
    (folder / "admin").unlink()
    started = Settings(unix_sock_rw_perms="0660")
    grant(listeners, started)
    with pytest.raises(ListenError, match="admin"):
        await reload_access(listeners, admin, started)(Settings(unix_sock_rw_perms="0666"))
    admin.close()
    assert mode(folder / "libvirt-sock") == 0o660


def test_shared_folder_keeps_its_group(
    listeners: list[Listener], folder: Path, groups: list[grp.struct_group]
) -> None:
    folder.chmod(0o750)
    grant(listeners, Settings(unix_sock_group=groups[0].gr_name, unix_sock_rw_perms="0660"))
    assert group(folder) == os.getegid()


def test_group_that_does_not_exist_is_refused(listeners: list[Listener]) -> None:
    with pytest.raises(ConfigError, match="unix_sock_group: there is no group 'no-such-group'"):
        grant(listeners, Settings(unix_sock_group="no-such-group"))
