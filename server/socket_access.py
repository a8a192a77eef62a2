"""Who may open the Unix sockets: group and permissions as the configuration has them.

A socket is private until this has run. Knows no client.
"""

import grp
import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

import trio

from virtbackupd.server.config import ConfigError, Settings
from virtbackupd.server.listeners import Listener, ListenError

KEYS = frozenset({
    "unix_sock_group", "unix_sock_rw_perms", "unix_sock_ro_perms", "unix_sock_admin_perms",
})  # fmt: skip
"""What is looked at here."""
_GROUP_PASSES = stat.S_IXGRP
_OTHERS_PASS = stat.S_IXOTH
_SHARED = stat.S_IRGRP | stat.S_IWGRP | stat.S_IRWXO
"""A folder that was not made here for nothing but the sockets: its group is not ours to change."""


def grant(listeners: Sequence[Listener], settings: Settings, ungrouped: int = -1) -> None:
    """Set group and permissions of each socket with a path, and let whoever may into its folder.

    Without `unix_sock_group` the group is `ungrouped`, and stays if that is -1.
    """
    group = find_group(settings.unix_sock_group) if settings.unix_sock_group else ungrouped
    for listener in listeners:
        if listener.path is not None:
            text = (
                settings.unix_sock_ro_perms if listener.read_only else settings.unix_sock_rw_perms
            )
            grant_path(listener.path, text, group)


def reload_access(
    listeners: Sequence[Listener], admin: Listener | None, started: Settings
) -> Callable[[Settings], Awaitable[None]]:
    """For clients to come, what the keys say by then. Sockets of systemd are its business."""
    held = started

    async def hook(settings: Settings) -> None:
        nonlocal held
        await trio.to_thread.run_sync(_grant_again, listeners, admin, held, settings)
        held = settings

    return hook


def _grant_again(
    listeners: Sequence[Listener], admin: Listener | None, held: Settings, settings: Settings
) -> None:
    if all(getattr(held, key) == getattr(settings, key) for key in KEYS):
        return
    try:
        _grant_all(listeners, admin, settings, held)
    except ListenError:
        # A part may be done already, and what is refused is not looked at again.
        with suppress(ListenError, ConfigError):
            _grant_all(listeners, admin, held, settings)
        raise


def _grant_all(
    listeners: Sequence[Listener], admin: Listener | None, settings: Settings, before: Settings
) -> None:
    grant(listeners, settings, os.getegid() if before.unix_sock_group else -1)
    if admin is not None and admin.path is not None:
        grant_path(admin.path, settings.unix_sock_admin_perms)


def grant_path(path: Path, permissions: str, group: int = -1) -> None:
    """`permissions` in octal; a group of -1 stays. ListenError."""
    mode = int(permissions, 8)
    try:
        if group != -1:
            # Neither group may do more meanwhile than before or after.
            path.chmod(path.stat().st_mode & mode)
            os.chown(path, -1, group)
        path.chmod(mode)
        _open_folder(path.parent, mode, group)
    except OSError as error:
        raise ListenError(f"cannot set who may open {path}: {error.strerror}") from error


def _open_folder(folder: Path, mode: int, group: int) -> None:
    """Let pass who may open a socket in it; a folder that is open already stays as it is."""
    status = folder.stat()
    found = stat.S_IMODE(status.st_mode)
    wanted = found | (_GROUP_PASSES if mode & stat.S_IRWXG else 0)
    wanted |= _OTHERS_PASS if mode & stat.S_IRWXO else 0
    if group not in (-1, status.st_gid) and mode & stat.S_IRWXG and not found & _SHARED:
        os.chown(folder, -1, group)
    if wanted != found:
        folder.chmod(wanted)


def find_group(name: str) -> int:
    """Its number, -1 for no name. ConfigError when there is no such group."""
    if not name:
        return -1
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError(
            f"unix_sock_group: there is no group {name!r} here; create it or name another"
        ) from None
